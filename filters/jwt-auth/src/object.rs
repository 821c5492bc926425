//! [`read`]: a JSON object whose members are named once. RFC 7519, 4 leaves it open what two claims of one name mean; two
//! readers that choose differently are a door.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The members by name; none for anything but one object without doubled names.
pub(crate) fn read(json: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice::<Unique>(json).ok().map(|object| object.0)
}

struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Unique, A::Error> {
        let mut object = Map::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member twice"));
            }
        }
        Ok(Unique(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_with_each_name_once_are_read() {
        assert_eq!(read(br#"{"a": 1, "b": [2]}"#).map(|object| object.len()), Some(2));
        for bad in [r#"{"a": 1, "a": 1}"#, "[]", "7", "", "{", "{} {}", r#"{"a": 1, "\u0061": 2}"#] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
