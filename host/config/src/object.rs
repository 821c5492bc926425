//! [`Object`]: one resource with its metadata and the places of its fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_model::{Origin, Parts};

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
        let place = self.places.of_key(path);
        Origin {
            kind: self.meta.kind.clone(),
            name: format!("{}/{}", self.meta.namespace, self.meta.name).into(),
            file: place.file,
            line: place.line,
            column: place.column,
            parts: Parts::default(),
        }
    }

    /// The same with the lines of its parts, as [`Self::lines`] has them.
    pub(crate) fn origin_with(
        &self,
        path: &str,
        below: &str,
        parts: impl IntoIterator<Item = (String, String)>,
    ) -> Origin {
        Origin { parts: Parts::new(self.lines(below, parts)), ..self.origin(path) }
    }

    /// Names with the lines of their paths below `below`. What is not written is left out.
    pub(crate) fn lines(
        &self,
        below: &str,
        parts: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<(Box<str>, Arc<str>, u32)> {
        let line = |(name, path): (String, String)| {
            let place = self.places.by_path.get(&format!("{below}.{path}"))?;
            Some((name.into(), self.places.file.clone(), place.key.0.max(1)))
        };
        parts.into_iter().filter_map(line).collect()
    }
}

/// `metadata`, with defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Kind as written.
    pub kind: Arc<str>,
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

/// Where each field of one document stands: field path to places of key and value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// By path.
    pub by_path: std::collections::HashMap<String, FieldPlace>,
}

/// Places of one field: (line, column, length) of its key and of its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldPlace {
    /// The key; for list items the item itself.
    pub key: (u32, u32, u32),
    /// The value.
    pub value: (u32, u32, u32),
}

impl Places {
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
            if let Some(place) = self.by_path.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return self.by_path.get("").copied().unwrap_or_default(),
            }
        }
    }

    fn at(&self, (line, column, length): (u32, u32, u32)) -> Place {
        Place { file: self.file.clone(), line: line.max(1), column: column.max(1), length: length.max(1) }
    }
}
