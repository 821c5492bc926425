//! Reads what a collector of OpenTelemetry is sent, field by field as the protocol has them.

use std::collections::BTreeMap;

/// A span as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// Of the resource.
    pub(crate) service: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for the first of a trace.
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) name: String,
    /// 2 for a server's, 3 for a client's.
    pub(crate) kind: u64,
    /// Nanoseconds.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    /// 2 for an error, 0 for none.
    pub(crate) status: u64,
    pub(crate) flags: u64,
}

impl Span {
    /// An attribute; `(none)` when there is none.
    pub(crate) fn tag(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("(none)", String::as_str)
    }
}

/// The spans of an `ExportTraceServiceRequest`.
pub(crate) fn spans(message: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource_spans in messages(message, 1) {
        let resource: Vec<_> = messages(&resource_spans, 1).iter().flat_map(|resource| messages(resource, 1)).collect();
        let service = resource.iter().map(|pair| attribute(pair)).find(|(name, _)| name == "service.name");
        let service = service.map(|(_, value)| value).unwrap_or_default();
        let scopes = messages(&resource_spans, 2);
        let all = scopes.iter().flat_map(|scope| messages(scope, 2));
        spans.extend(all.map(|span| Span { service: service.clone(), ..self::span(&span) }));
    }
    spans
}

fn span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (number, value) in fields(message) {
        match (number, value) {
            (1, Value::Bytes(id)) => span.trace = hex(&id),
            (2, Value::Bytes(id)) => span.id = hex(&id),
            (3, Value::Bytes(state)) => span.state = text(&state),
            (4, Value::Bytes(id)) => span.parent = hex(&id),
            (5, Value::Bytes(name)) => span.name = text(&name),
            (6, Value::Number(kind)) => span.kind = kind,
            (7, Value::Number(time)) => span.start = time,
            (8, Value::Number(time)) => span.end = time,
            (9, Value::Bytes(pair)) => {
                let (name, value) = attribute(&pair);
                assert!(span.attributes.insert(name.clone(), value).is_none(), "{name} is there twice");
            }
            (15, Value::Bytes(status)) => {
                let code = fields(&status).into_iter().find_map(|field| match field {
                    (3, Value::Number(code)) => Some(code),
                    _ => None,
                });
                span.status = code.unwrap_or_default();
            }
            (16, Value::Number(flags)) => span.flags = flags,
            other => panic!("a span has no field {other:?}"),
        }
    }
    span
}

fn attribute(pair: &[u8]) -> (String, String) {
    let name = messages(pair, 1).first().map(|name| text(name)).unwrap_or_default();
    let value = messages(pair, 2).first().and_then(|any| messages(any, 1).first().map(|value| text(value)));
    (name, value.unwrap_or_default())
}

#[derive(Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

fn messages(message: &[u8], wanted: u64) -> Vec<Vec<u8>> {
    let bytes = |(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

fn fields(mut message: &[u8]) -> Vec<(u64, Value)> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut message)),
            1 => Value::Number(u64::from_le_bytes(take(&mut message, 8).try_into().expect("eight bytes"))),
            2 => {
                let length = usize::try_from(varint(&mut message)).expect("a length");
                Value::Bytes(take(&mut message, length).to_vec())
            }
            5 => Value::Number(u32::from_le_bytes(take(&mut message, 4).try_into().expect("four bytes")).into()),
            kind => panic!("no wire type {kind}"),
        };
        all.push((key >> 3, value));
    }
    all
}

fn varint(message: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = take(message, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return number;
        }
    }
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = message.split_at(length);
    *message = rest;
    taken
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("a text")
}
