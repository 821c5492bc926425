//! OpenTelemetry's protocol, as far as spans need it: the few messages of `opentelemetry/proto/trace/v1` that are sent,
//! written by hand. What is received is not looked into.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::trace::{SpanId, TraceContext};

/// `SpanFlags`: it is known whether the parent is on another machine, and it is.
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Which side of a call a span is of; numbers as in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Of a request that is answered.
    Server = 2,
    /// Of a request that is made.
    Client = 3,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// The trace, with the span above this one.
    pub context: TraceContext,
    /// The span above this one is somebody else's.
    pub parent_is_remote: bool,
    /// Its own number.
    pub id: SpanId,
    /// `tracestate` as it came.
    pub state: &'a str,
    /// What was done.
    pub name: &'a str,
    /// Of which side.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// It failed.
    pub error: bool,
}

impl Span<'_> {
    /// Writes it as a message `Span` with these attributes, each name once.
    pub fn write<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
        put_bytes(1, &self.context.trace, out);
        put_bytes(2, &self.id, out);
        put_text(3, self.state, out);
        if let Some(parent) = self.context.parent {
            put_bytes(4, &parent, out);
        }
        put_text(5, self.name, out);
        put_number(6, self.kind as u64, out);
        put_time(7, self.start, out);
        put_time(8, self.end, out);
        for (name, value) in attributes {
            put_message(9, &attribute(name, value), out);
        }
        if self.error {
            // `Status` with `STATUS_CODE_ERROR`.
            put_bytes(15, &[3 << 3, 2], out);
        }
        let remote = if self.parent_is_remote && self.context.parent.is_some() { REMOTE } else { 0 };
        let flags = u32::from(self.context.sampled) | KNOWN | remote;
        put_varint(16 << 3 | 5, out);
        out.extend_from_slice(&flags.to_le_bytes());
    }
}

/// What all spans of a process have in common: the fields of `ResourceSpans` and `ScopeSpans` before the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Origin {
    /// A service of this name. The scope is this gateway with its version.
    pub fn of_service(name: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let attributes = [
            ("service.name", name),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "portolan"),
            ("telemetry.sdk.version", version),
        ];
        let (mut resource, mut scope) = (Vec::new(), Vec::new());
        for (name, value) in attributes {
            put_message(1, &attribute(name, value), &mut resource);
        }
        put_text(1, "portolan", &mut scope);
        put_text(2, version, &mut scope);
        Self { resource, scope }
    }

    /// An `ExportTraceServiceRequest` with these spans, as [`Span::write`] made them.
    pub fn request(&self, spans: &[Vec<u8>]) -> Vec<u8> {
        let room = spans.iter().map(|span| span.len() + 6).sum::<usize>();
        let mut scope_spans = Vec::with_capacity(room + self.scope.len() + 6);
        put_message(1, &self.scope, &mut scope_spans);
        spans.iter().for_each(|span| put_message(2, span, &mut scope_spans));
        let mut resource_spans = Vec::with_capacity(scope_spans.len() + self.resource.len() + 12);
        put_message(1, &self.resource, &mut resource_spans);
        put_message(2, &scope_spans, &mut resource_spans);
        let mut request = Vec::with_capacity(resource_spans.len() + 6);
        put_message(1, &resource_spans, &mut request);
        request
    }
}

/// A `KeyValue` whose `AnyValue` is a text.
fn attribute(name: &str, value: &str) -> Vec<u8> {
    let (mut pair, mut any) = (Vec::with_capacity(name.len() + value.len() + 12), Vec::with_capacity(value.len() + 6));
    put_text(1, name, &mut pair);
    // Also an empty text is one.
    put_message(1, value.as_bytes(), &mut any);
    put_message(2, &any, &mut pair);
    pair
}

fn put_text(number: u64, text: &str, out: &mut Vec<u8>) {
    put_bytes(number, text.as_bytes(), out);
}

/// Nothing for an empty value, which is proto3's default.
fn put_bytes(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        put_message(number, bytes, out);
    }
}

fn put_message(number: u64, message: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

fn put_number(number: u64, value: u64, out: &mut Vec<u8>) {
    put_varint(number << 3, out);
    put_varint(value, out);
}

/// Nanoseconds since 1970, as `fixed64`.
fn put_time(number: u64, time: SystemTime, out: &mut Vec<u8>) {
    let nanos = time.duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    put_varint(number << 3 | 1, out);
    out.extend_from_slice(&nanos.to_le_bytes());
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_is_written_field_by_field() {
        let context = TraceContext { trace: [1; 16], parent: Some([2; 8]), sampled: true };
        let (start, end) = (UNIX_EPOCH + Duration::from_nanos(1), UNIX_EPOCH + Duration::from_nanos(258));
        let (id, kind) = ([3; 8], SpanKind::Server);
        let span = Span { context, parent_is_remote: true, id, state: "a=b", name: "n", kind, start, end, error: true };
        let mut out = Vec::new();
        span.write([("k", ""), ("l", "v")], &mut out);
        let wanted: [&[u8]; 12] = [
            &[10, 16, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            &[18, 8, 3, 3, 3, 3, 3, 3, 3, 3],
            &[26, 3, b'a', b'=', b'b'],
            &[34, 8, 2, 2, 2, 2, 2, 2, 2, 2],
            &[42, 1, b'n'],
            &[48, 2],
            &[57, 1, 0, 0, 0, 0, 0, 0, 0],
            &[65, 2, 1, 0, 0, 0, 0, 0, 0],
            &[74, 7, 10, 1, b'k', 18, 2, 10, 0],
            &[74, 8, 10, 1, b'l', 18, 3, 10, 1, b'v'],
            &[122, 2, 24, 2],
            &[0x85, 1, 1, 3, 0, 0],
        ];
        assert_eq!(out, wanted.concat());
    }

    #[test]
    fn a_request_holds_resource_scope_and_spans() {
        let origin = Origin { resource: vec![7], scope: vec![8] };
        assert_eq!(origin.request(&[vec![9], vec![]]), [10, 13, 10, 1, 7, 18, 8, 10, 1, 8, 18, 1, 9, 18, 0]);
    }
}
