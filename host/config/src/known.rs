//! [`known_fields`]: which fields a type names at a path, for "did you mean".
//!
//! A deserializer that has no input: it follows one path through the types and notes the field list that serde's derive
//! hands it there. So the list cannot drift from the types.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Item(usize),
}

/// Names of the fields of the struct at `path` within `T`; none when there is no struct.
pub(crate) fn known_fields<'de, T: Deserialize<'de>>(path: &[Step]) -> Option<&'static [&'static str]> {
    let mut found = None;
    // The answer is `found`; the value is never made.
    T::deserialize(Probe { path, found: &mut found }).ok();
    found
}

/// The field that was probably meant: near enough in letters, or the same but for case.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.chars().count().div_ceil(3).min(3);
    let scored = known.into_iter().map(|name| (distance(&word.to_lowercase(), &name.to_lowercase()), name));
    scored.filter(|(distance, _)| *distance <= limit).min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Edits that make one word of the other, a swap of neighbours being one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swaps = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swaps { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    change.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

struct Probe<'p> {
    path: &'p [Step],
    found: &'p mut Option<&'static [&'static str]>,
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("the path ends here"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.path.is_empty() {
            *self.found = Some(fields);
            return Err(Error::custom("found"));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.path {
            [Step::Key(key), rest @ ..] => {
                visitor.visit_map(One { key, rest: Probe { path: rest, found: self.found } })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.path {
            [Step::Item(_), rest @ ..] => {
                visitor.visit_seq(One { key: "", rest: Probe { path: rest, found: self.found } })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

/// A map or list of the one entry that the path goes through.
struct One<'p> {
    key: &'p str,
    rest: Probe<'p>,
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let key: StrDeserializer<'_, Error> = self.key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe { path: self.rest.path, found: self.rest.found })
    }
}

impl<'de> SeqAccess<'de> for One<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        seed.deserialize(Probe { path: self.rest.path, found: self.rest.found }).map(Some)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use super::*;
    use crate::resources::core::Service;

    #[test]
    fn finds_the_fields_of_structs_in_lists_and_options() {
        let path = [Step::Key("ports".into()), Step::Item(3)];
        assert!(known_fields::<Service>(&path).unwrap().contains(&"targetPort"));
        assert!(known_fields::<Option<Service>>(&[]).unwrap().contains(&"clusterIP"));
        assert_eq!(known_fields::<Service>(&[Step::Key("selector".into())]), None);
    }

    #[test]
    fn suggests_the_nearest_word_only_when_it_is_near() {
        assert_eq!(nearest("hosst", ["hosts", "http"]), Some("hosts"));
        assert_eq!(nearest("prots", ["ports", "protocol"]), Some("ports"));
        assert_eq!(nearest("targetport", ["targetPort"]), Some("targetPort"));
        assert_eq!(nearest("colour", ["hosts", "http"]), None);
    }
}
