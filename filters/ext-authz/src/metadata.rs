//! `google.protobuf.Struct` as JSON: the dynamic metadata of a service, which later filters read as a property.

use serde_json::{Map, Number, Value as Json};

use crate::wire::{Malformed, Value, fields};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// The JSON of a `Struct`.
pub(crate) fn json(message: &[u8]) -> Result<String, Malformed> {
    object(message, MAX_DEPTH).map(|object| object.to_string())
}

fn object(message: &[u8], depth: usize) -> Result<Json, Malformed> {
    let mut object = Map::new();
    for field in fields(message) {
        if let (1, entry) = field? {
            let (mut key, mut value) = (String::new(), Json::Null);
            for field in fields(entry.bytes()) {
                match field? {
                    (1, name) => key = name.text(),
                    (2, inner) => value = self::value(inner, depth)?,
                    _ => {}
                }
            }
            object.insert(key, value);
        }
    }
    Ok(Json::Object(object))
}

fn value(message: Value<'_>, depth: usize) -> Result<Json, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let mut found = Json::Null;
    for field in fields(message.bytes()) {
        found = match field? {
            (2, Value::Double(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
            (3, text) => Json::String(text.text()),
            (4, flag) => Json::Bool(flag.number() != 0),
            (5, inner) => object(inner.bytes(), depth)?,
            (6, inner) => list(inner.bytes(), depth)?,
            _ => Json::Null,
        };
    }
    Ok(found)
}

fn list(message: &[u8], depth: usize) -> Result<Json, Malformed> {
    let mut list = Vec::new();
    for field in fields(message) {
        if let (1, member) = field? {
            list.push(value(member, depth)?);
        }
    }
    Ok(Json::Array(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Writer;

    fn entry(message: &mut Writer, key: &[u8], fill: impl FnOnce(&mut Writer)) {
        message.message(1, |entry| {
            entry.bytes(1, key);
            entry.message(2, fill);
        });
    }

    #[test]
    fn all_kinds_of_values_become_json() {
        let mut message = Writer::default();
        entry(&mut message, b"text", |value| value.bytes(3, b"t"));
        entry(&mut message, b"flag", |value| value.number(4, 1));
        entry(&mut message, b"none", |_| ());
        entry(&mut message, b"list", |value| {
            value.message(6, |list| list.message(1, |member| member.bytes(3, b"m")));
        });
        entry(&mut message, b"deep", |value| {
            value.message(5, |inner| entry(inner, b"er", |value| value.bytes(3, b"x")));
        });
        let expected = r#"{"deep":{"er":"x"},"flag":true,"list":["m"],"none":null,"text":"t"}"#;
        assert_eq!(json(&message.into_bytes()).as_deref(), Ok(expected));
    }

    #[test]
    fn endless_nesting_is_refused() {
        fn nest(message: &mut Writer, depth: usize) {
            entry(message, b"k", |value| {
                if depth > 0 {
                    value.message(5, |inner| nest(inner, depth - 1));
                }
            });
        }
        let mut message = Writer::default();
        nest(&mut message, 40);
        assert_eq!(json(&message.into_bytes()), Err(Malformed));
    }
}
