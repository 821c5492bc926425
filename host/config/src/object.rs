//! [`Object`]: one resource with its metadata and the places of its fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_model::origin::Part;
use portolan_model::{Origin, Parts};

use crate::diagnostic::Place;
pub use crate::places::{FieldPlace, Places};

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
        Origin::new(self.places.document().clone(), line.max(1), column.max(1))
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
            Some((name.into(), self.places.document().clone(), place.key.0.max(1)))
        };
        parts.into_iter().filter_map(line).collect()
    }

    /// A name with the line of a field, which may have any parent that exists.
    pub(crate) fn part(&self, name: &str, path: &str) -> Part {
        (name.into(), self.places.document().clone(), self.places.nearest(path).key.0.max(1))
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
