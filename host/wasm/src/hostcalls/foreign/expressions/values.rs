//! Values of expressions: from properties, and back to bytes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use cel::objects::{Key, Map};
use cel::{Timestamp, Value};

use crate::abi::pairs;
use crate::attributes::{self, Kind};
use crate::host_state::HostState;
use crate::hostcalls::properties;
use crate::stream::{StreamHost, StreamState};

/// Deepest nesting of a result that is written down.
const MAX_DEPTH: u32 = 8;

/// Where attributes and properties are read.
pub(super) trait Source {
    /// Appends the value under a path; false when there is none.
    fn read(&self, path: &[u8], out: &mut Vec<u8>) -> bool;

    /// Whether a property that was declared is text.
    fn declared_text(&self, path: &[u8]) -> Option<bool>;

    /// What filters have set.
    fn kept(&self) -> &[(Box<[u8]>, Bytes)];
}

/// A plugin's own view.
impl<H: StreamHost> Source for HostState<H> {
    fn read(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        properties::read(self, path, out).is_ok()
    }

    fn declared_text(&self, path: &[u8]) -> Option<bool> {
        properties::declared(self, path).map(|declared| declared.is_text)
    }

    fn kept(&self) -> &[(Box<[u8]>, Bytes)] {
        self.stream().map(|stream| stream.properties.as_slice()).unwrap_or_default()
    }
}

/// A stream without any plugin.
impl<H: StreamHost> Source for StreamState<H> {
    fn read(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        properties::read_of(self, path, out).is_ok()
    }

    fn declared_text(&self, _path: &[u8]) -> Option<bool> {
        None
    }

    fn kept(&self) -> &[(Box<[u8]>, Bytes)] {
        &self.properties
    }
}

/// The value of a variable: a family of attributes as a map, a single attribute, or a property that a filter has set.
/// What is absent now is left out.
pub(super) fn variable(state: &impl Source, name: &str) -> Option<Value> {
    if name == "filter_state" {
        return Some(filter_state(state));
    }
    if let Some(kind) = attributes::single(name) {
        return property(state, name.as_bytes(), kind);
    }
    let Some(attributes) = attributes::family(name) else {
        let kind = state.declared_text(name.as_bytes()).map_or(Kind::Message, kind_of);
        return property(state, name.as_bytes(), kind);
    };
    let values = attributes.filter_map(|(attribute, kind)| {
        let value = property(state, format!("{name}\0{attribute}").as_bytes(), *kind)?;
        Some((Key::from(*attribute), value))
    });
    Some(map(values.collect()))
}

/// What filters have set, under Envoy's names for it.
fn filter_state(state: &impl Source) -> Value {
    let values = state.kept().iter().filter_map(|(path, value)| {
        let (key, is_text) = match path.strip_prefix(b"filter_state\0") {
            Some(key) => (String::from_utf8(key.to_vec()).ok()?, false),
            None => (format!("wasm.{}", std::str::from_utf8(path).ok()?), state.declared_text(path).unwrap_or(false)),
        };
        Some((Key::from(key), decode(value, kind_of(is_text))?))
    });
    map(values.collect())
}

fn kind_of(is_text: bool) -> Kind {
    if is_text { Kind::Text } else { Kind::Message }
}

fn property(state: &impl Source, path: &[u8], kind: Kind) -> Option<Value> {
    let mut bytes = Vec::new();
    state.read(path, &mut bytes).then(|| decode(&bytes, kind)).flatten()
}

/// A value from the bytes of a property.
fn decode(bytes: &[u8], kind: Kind) -> Option<Value> {
    let number = || <[u8; 8]>::try_from(bytes).ok();
    Some(match kind {
        Kind::Text => Value::String(Arc::new(String::from_utf8_lossy(bytes).into_owned())),
        Kind::Int => Value::Int(i64::from_le_bytes(number()?)),
        Kind::Uint => Value::UInt(u64::from_le_bytes(number()?)),
        Kind::Bool => Value::Bool(bytes == [1]),
        Kind::Duration => Value::Duration(chrono::Duration::nanoseconds(i64::from_le_bytes(number()?))),
        Kind::Timestamp => {
            let time = chrono::DateTime::from_timestamp_nanos(i64::from_le_bytes(number()?));
            Timestamp(time.fixed_offset()).0.into()
        }
        Kind::Map => {
            let text = |bytes: &[u8]| Arc::new(String::from_utf8_lossy(bytes).into_owned());
            let mut values = HashMap::new();
            for (name, value) in pairs::decode(bytes)? {
                // The first value of a name counts, as for `get_header_map_value`.
                values.entry(Key::String(text(name))).or_insert_with(|| Value::String(text(value)));
            }
            map(values)
        }
        Kind::Message => Value::Bytes(Arc::new(bytes.to_vec())),
    })
}

fn map(values: HashMap<Key, Value>) -> Value {
    Value::Map(Map { map: Arc::new(values) })
}

/// Appends a value as properties are written: numbers as 8 bytes, maps and lists as pairs. False for what has no such form.
pub(super) fn serialize(value: &Value, out: &mut Vec<u8>) -> bool {
    write(value, out, MAX_DEPTH)
}

fn write(value: &Value, out: &mut Vec<u8>, depth: u32) -> bool {
    match value {
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Int(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::UInt(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Bool(is_true) => out.push(u8::from(*is_true)),
        Value::Duration(time) => return write_nanoseconds(time.num_nanoseconds(), out),
        Value::Timestamp(time) => return write_nanoseconds(time.timestamp_nanos_opt(), out),
        Value::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| (bytes_of_key(key), bytes_of(value, depth)));
            return write_pairs(entries, out);
        }
        Value::List(list) => {
            let entries = list.iter().map(|value| (bytes_of(value, depth), Some(Vec::new())));
            return write_pairs(entries, out);
        }
        _ => return false,
    }
    true
}

fn write_nanoseconds(nanoseconds: Option<i64>, out: &mut Vec<u8>) -> bool {
    nanoseconds.map(|number| out.extend_from_slice(&number.to_le_bytes())).is_some()
}

fn write_pairs(entries: impl Iterator<Item = (Option<Vec<u8>>, Option<Vec<u8>>)>, out: &mut Vec<u8>) -> bool {
    let entries: Option<Vec<_>> = entries.map(|(key, value)| Some((key?, value?))).collect();
    let Some(mut entries) = entries else { return false };
    entries.sort();
    let pairs: Vec<_> = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
    pairs::encode(&pairs, out);
    true
}

fn bytes_of(value: &Value, depth: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    (depth > 0 && write(value, &mut bytes, depth - 1)).then_some(bytes)
}

fn bytes_of_key(key: &Key) -> Option<Vec<u8>> {
    Some(match key {
        Key::Int(number) => number.to_le_bytes().to_vec(),
        Key::Uint(number) => number.to_le_bytes().to_vec(),
        Key::Bool(is_true) => vec![u8::from(*is_true)],
        Key::String(text) => text.as_bytes().to_vec(),
    })
}
