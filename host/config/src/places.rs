//! [`Places`]: where each field of an object stands.

use std::sync::Arc;

use portolan_model::Document;

use crate::diagnostic::Place;

/// Where each field of one object stands: field path to places of key and value.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The object, which all origins in it have in common. Lines count from its first.
    document: Arc<Document>,
    fields: Fields,
    /// Paths below [`LISTED`].
    listed: Box<[Box<str>]>,
}

/// By hash of the path, ascending. Paths themselves would be most of what a configuration takes in memory; two of one
/// document with the same hash, one chance in 10^9 for the largest, would point at the wrong line.
#[derive(Clone, Debug)]
enum Fields {
    /// Of an object whose places are all small, as nearly all are: half as large.
    Packed(Box<[(u64, u64)]>),
    Plain(Box<[(u64, FieldPlace)]>),
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
        Self { document, fields: Fields::of(fields), listed: listed.into() }
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
        match &self.fields {
            Fields::Packed(fields) => fields.len(),
            Fields::Plain(fields) => fields.len(),
        }
    }

    /// Whether there is a field of this path.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    pub(crate) fn find(&self, path: &str) -> Option<FieldPlace> {
        let hash = hash(path);
        match &self.fields {
            Fields::Packed(fields) => find(fields, hash).map(FieldPlace::unpacked),
            Fields::Plain(fields) => find(fields, hash),
        }
    }

    /// Of the nearest parent that exists when the field is absent.
    pub(crate) fn nearest(&self, path: &str) -> FieldPlace {
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

    /// The object.
    pub(crate) fn document(&self) -> &Arc<Document> {
        &self.document
    }

    /// See [`Object::place`](crate::object::Object::place).
    pub fn of(&self, path: &str) -> Place {
        self.at(self.nearest(path).value)
    }

    /// See [`Object::key_place`](crate::object::Object::key_place).
    pub fn of_key(&self, path: &str) -> Place {
        self.at(self.nearest(path).key)
    }

    fn at(&self, (line, column, length): (u32, u32, u32)) -> Place {
        let line = self.document.line(line.max(1));
        Place { file: self.file().clone(), line, column: column.max(1), length: length.max(1) }
    }
}

impl Default for Fields {
    fn default() -> Self {
        Self::Packed(Box::default())
    }
}

impl Fields {
    fn of(fields: &[(u64, FieldPlace)]) -> Self {
        let packed = fields.iter().map(|(path, place)| Some((*path, place.packed()?))).collect::<Option<Box<[_]>>>();
        packed.map_or_else(|| Self::Plain(fields.into()), Self::Packed)
    }
}

fn find<T: Copy>(fields: &[(u64, T)], hash: u64) -> Option<T> {
    let at = fields.binary_search_by_key(&hash, |(path, _)| *path).ok()?;
    Some(fields[at].1)
}

impl FieldPlace {
    /// Bits of: line, column and length of the key; lines from there to the value, its column and length.
    const BITS: [u32; 6] = [20, 8, 8, 8, 8, 12];

    /// All in one number; none when it is too large, or when the value stands before the key, behind an alias.
    fn packed(&self) -> Option<u64> {
        let lines = self.value.0.checked_sub(self.key.0)?;
        let numbers = [self.key.0, self.key.1, self.key.2, lines, self.value.1, self.value.2];
        Self::BITS.iter().zip(numbers).try_fold(0, |packed, (bits, number)| {
            (u64::from(number) < 1 << bits).then_some(packed << bits | u64::from(number))
        })
    }

    fn unpacked(packed: u64) -> Self {
        let mut left = packed;
        let mut numbers = [0; 6];
        for (number, bits) in numbers.iter_mut().zip(Self::BITS).rev() {
            *number = u32::try_from(left & ((1 << bits) - 1)).unwrap_or_default();
            left >>= bits;
        }
        let [line, column, length, lines, value_column, value_length] = numbers;
        Self { key: (line, column, length), value: (line + lines, value_column, value_length) }
    }
}

/// Of a field's path: FNV-1a, mixed.
pub(crate) fn hash(path: &str) -> u64 {
    let hash = path
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_packed_as_it_is_or_not_at_all(
            key in (0u32..2 << 20, 0u32..300, 0u32..300),
            value in (0u32..300, 0u32..300, 0u32..5000),
        ) {
            let place = FieldPlace { key, value: (key.0 + value.0, value.1, value.2) };
            let is_small = key.0 < 1 << 20 && value.2 < 1 << 12 && [key.1, key.2, value.0, value.1].iter().all(|n| *n < 256);
            let packed = place.packed();
            prop_assert_eq!(packed.is_some(), is_small);
            prop_assert!(packed.is_none_or(|packed| FieldPlace::unpacked(packed) == place));
        }
    }

    #[test]
    fn a_value_behind_an_alias_may_stand_before_its_key() {
        let place = FieldPlace { key: (3, 1, 1), value: (2, 1, 1) };
        assert_eq!(place.packed(), None);
    }
}
