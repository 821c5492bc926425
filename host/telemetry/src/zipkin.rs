//! Zipkin's spans as JSON, in the second form of its interface.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::otlp::{Span, SpanKind};
use crate::trace::{B3Trace, hex};

/// Who sends the spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub service: String,
    /// Its address, if it is known.
    pub ipv4: Option<String>,
}

/// A span with its tags; those without a value are left out.
pub fn span<'a>(
    span: &Span<'_>,
    is_short: bool,
    endpoint: &Endpoint,
    tags: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let (kind, ends_with) = match span.kind {
        SpanKind::Server => ("SERVER", "ss"),
        SpanKind::Client => ("CLIENT", "cr"),
    };
    let (start, end) = (micros(span.start), micros(span.end));
    let tags: Map<_, _> = tags
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), Value::from(value)))
        .collect();
    let mut local = json!({ "serviceName": endpoint.service, "port": 0 });
    if let Some(ip) = &endpoint.ipv4 {
        local["ipv4"] = json!(ip);
    }
    let mut told = json!({
        "traceId": B3Trace { id: span.context.trace, is_short }.text(),
        "id": hex(&span.id),
        "name": span.name,
        "kind": kind,
        "timestamp": start,
        // Zipkin takes 0 for unknown.
        "duration": end.saturating_sub(start).max(1),
        "localEndpoint": local,
        "annotations": [{ "timestamp": end, "value": ends_with }],
        "tags": tags,
    });
    if let Some(parent) = span.context.parent {
        told["parentId"] = json!(hex(&parent));
    }
    told.to_string().into_bytes()
}

/// The list of these spans, as [`span`] made them.
pub fn message(spans: &[Vec<u8>]) -> Vec<u8> {
    [b"[", &spans.join(&b","[..])[..], b"]"].concat()
}

fn micros(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::TraceContext;

    #[test]
    fn spans_are_a_list_of_objects() {
        let context = TraceContext { trace: [1; 16], parent: Some([2; 8]), sampled: true };
        let (start, end) = (UNIX_EPOCH + Duration::from_micros(5), UNIX_EPOCH + Duration::from_micros(9));
        let (id, kind) = ([3; 8], SpanKind::Client);
        let told = Span { context, parent_is_remote: false, id, state: "", name: "n", kind, start, end, error: false };
        let endpoint = Endpoint { service: "s".to_owned(), ipv4: Some("10.0.0.1".to_owned()) };
        let one = span(&told, true, &endpoint, [("a", "b"), ("c", "")]);
        let read: Value = serde_json::from_slice(&message(&[one.clone(), one])).unwrap_or_default();
        let wanted = json!({
            "traceId": "0101010101010101", "id": "0303030303030303", "parentId": "0202020202020202", "name": "n",
            "kind": "CLIENT", "timestamp": 5, "duration": 4, "tags": {"a": "b"},
            "localEndpoint": {"serviceName": "s", "port": 0, "ipv4": "10.0.0.1"},
            "annotations": [{"timestamp": 9, "value": "cr"}],
        });
        assert_eq!(read, json!([wanted, wanted]));
    }
}
