//! [`Object`]: one resource with its metadata and the places of its fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_model::origin::Part;
use portolan_model::{Document, Origin, Parts};

use crate::diagnostic::Place;

/// A resource of a kind that is read.
#[derive(Clone, Debug)]
pub struct Object<T> {
    /// Who it is.
    pub meta: Arc<Meta>,
    /// Its fields. For kinds without `spec` (Secret, Endpoints) the top-level fields.
    pub spec: T,
    /// Where each field stands.
    pub places: Arc<Places>,
}

impl<T> Object<T> {
    /// The place of a field by path, e.g. `spec.http[0].match[1].uri`; the nearest parent that exists when the field is
    /// absent. Points at the value for scalars, at the first key for maps and at the first item for lists.
    pub fn place(&self, path: &str) -> Place {
        self.places.of(path)
    }

    /// The place of a field's key, for messages about the key itself.
    pub fn key_place(&self, path: &str) -> Place {
        self.places.of_key(path)
    }

    /// [`Origin`] of a field by path; `""` is the object itself (its `kind:` line).
    pub fn origin(&self, path: &str) -> Origin {
        let (line, column, _) = self.places.nearest(path).key;
        Origin::new(self.places.document.clone(), line.max(1), column.max(1))
    }

    /// The same with the lines of its parts, as [`Self::lines`] has them.
    pub(crate) fn origin_with(
        &self,
        path: &str,
        below: &str,
        parts: impl IntoIterator<Item = (String, String)>,
    ) -> Origin {
        self.origin(path).with_parts(Parts::new(self.lines(below, parts)))
    }

    /// Names with the lines of their paths below `below`. What is not written is left out.
    pub(crate) fn lines(&self, below: &str, parts: impl IntoIterator<Item = (String, String)>) -> Vec<Part> {
        let line = |(name, path): (String, String)| {
            let place = self.places.find(&format!("{below}.{path}"))?;
            Some((name.into(), self.places.document.clone(), place.key.0.max(1)))
        };
        parts.into_iter().filter_map(line).collect()
    }

    /// A name with the line of a field, which may have any parent that exists.
    pub(crate) fn part(&self, name: &str, path: &str) -> Part {
        (name.into(), self.places.document.clone(), self.places.nearest(path).key.0.max(1))
    }
}

/// `metadata`, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Kind as written.
    pub kind: &'static str,
    /// `default` when absent.
    pub namespace: String,
    /// Required.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339 text, compared as text; empty when absent. Files have none, then name and namespace order objects.
    pub creation_timestamp: String,
}

impl Meta {
    /// `namespace/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Where each field of one object stands: field path to places of key and value.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The object, which all origins in it have in common. Lines count from its first.
    document: Arc<Document>,
    /// By hash of the path, ascending. Paths themselves would be most of what a configuration takes in memory; two of one
    /// document with the same hash, one chance in 10^9 for the largest, would point at the wrong line.
    fields: Box<[(u64, FieldPlace)]>,
    /// Paths below [`LISTED`].
    listed: Box<[Box<str>]>,
}

/// Fields below are listed by name, of which some are said to have no effect.
pub(crate) const LISTED: &str = "spec.meshConfig.defaultConfig.";

/// Places of one field: (line, column, length) of its key and of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldPlace {
    /// The key; for list items the item itself.
    pub key: (u32, u32, u32),
    /// The value.
    pub value: (u32, u32, u32),
}

impl Places {
    /// Fields by path, with lines of the file; of a path that comes twice the first counts.
    pub(crate) fn new(document: Arc<Document>, fields: &mut Vec<(u64, FieldPlace)>, listed: Vec<Box<str>>) -> Self {
        fields.sort_by_key(|(path, _)| *path);
        fields.dedup_by_key(|(path, _)| *path);
        let first_line = document.first_line();
        for (_, place) in fields.iter_mut() {
            place.key.0 = place.key.0.saturating_sub(first_line) + 1;
            place.value.0 = place.value.0.saturating_sub(first_line) + 1;
        }
        Self { document, fields: fields.as_slice().into(), listed: listed.into() }
    }

    /// The file as the user named it.
    pub fn file(&self) -> &Arc<str> {
        self.document.file()
    }

    /// Paths of fields below [`LISTED`], without that.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &str> {
        self.listed.iter().filter_map(|path| path.strip_prefix(LISTED))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is a field of this path.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<FieldPlace> {
        let hash = hash(path);
        let at = self.fields.binary_search_by_key(&hash, |(path, _)| *path).ok()?;
        Some(self.fields[at].1)
    }

    /// See [`Object::place`].
    pub fn of(&self, path: &str) -> Place {
        self.at(self.nearest(path).value)
    }

    /// See [`Object::key_place`].
    pub fn of_key(&self, path: &str) -> Place {
        self.at(self.nearest(path).key)
    }

    fn nearest(&self, path: &str) -> FieldPlace {
        let mut path = path;
        loop {
            if let Some(place) = self.find(path) {
                return place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.find("").unwrap_or_default(),
            }
        }
    }

    fn at(&self, (line, column, length): (u32, u32, u32)) -> Place {
        let line = self.document.line(line.max(1));
        Place { file: self.file().clone(), line, column: column.max(1), length: length.max(1) }
    }
}

/// Of a field's path: FNV-1a, mixed.
pub(crate) fn hash(path: &str) -> u64 {
    let hash = path
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
