//! `request.*`.

use portolan_telemetry::format::protocol_name;
use portolan_wasm::StreamParts;

use super::{duration, header, header_bytes, number, text};
use crate::connect::path_of;
use crate::context::StreamContext;

pub(super) fn write(
    context: &StreamContext,
    name: &[u8],
    key: Option<&[u8]>,
    parts: StreamParts<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let head = parts.request;
    let header = |name: &str, out: &mut Vec<u8>| header(&head.headers, name.as_bytes(), out);
    match name {
        b"path" => path_of(head).is_some_and(|path| text(path, out)),
        b"url_path" => text(head.uri.path(), out),
        b"query" => text(head.uri.query().unwrap_or_default(), out),
        b"host" => header("host", out),
        b"scheme" => text(parts.scheme, out),
        b"method" => text(head.method.as_str(), out),
        b"headers" => key.is_some_and(|key| named(key, parts, out)),
        b"referer" => header("referer", out),
        b"useragent" => header("user-agent", out),
        b"id" => header("x-request-id", out),
        b"protocol" => text(protocol(context.connection.state.protocol(head.version)), out),
        b"attempt_count" => number(u64::from(context.attempts), out),
        b"headers_bytes" => number(head_bytes(parts), out),
        b"size" => size(context, parts).is_some_and(|size| number(size, out)),
        b"time" | b"total_size" | b"duration" => of_course(context, name, parts, out),
        _ => false,
    }
}

/// `request.headers.NAME`, pseudo headers included.
fn named(key: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
    let head = parts.request;
    match key {
        b":path" => path_of(head).is_some_and(|path| text(path, out)),
        b":method" => text(head.method.as_str(), out),
        b":scheme" => text(parts.scheme, out),
        b":authority" => header(&head.headers, b"host", out),
        _ => header(&head.headers, key, out),
    }
}

fn protocol(version: http::Version) -> &'static str {
    protocol_name(Some(version)).unwrap_or("HTTP/1.1")
}

/// The length that the client has announced, else what has come so far. None when it announced nonsense.
fn size(context: &StreamContext, parts: StreamParts<'_>) -> Option<u64> {
    match parts.request.headers.get(http::header::CONTENT_LENGTH) {
        Some(length) => length.to_str().ok()?.parse().ok(),
        None => Some(context.course.as_ref().map_or(0, |course| course.received)),
    }
}

fn of_course(context: &StreamContext, name: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
    let Some(course) = &context.course else { return false };
    match name {
        b"time" => duration(course.start.duration_since(std::time::UNIX_EPOCH).ok(), out),
        b"total_size" => number(course.received + head_bytes(parts), out),
        // Only when the stream has ended.
        _ => duration(course.duration, out),
    }
}

/// Bytes of names and values, pseudo headers included.
fn head_bytes(parts: StreamParts<'_>) -> u64 {
    let head = parts.request;
    let path = path_of(head).map_or(0, str::len);
    // `host` is counted as `:authority`, which is six longer.
    let authority = if head.headers.contains_key("host") { 6 } else { 0 };
    let pseudo = ":path:method:scheme".len() + path + head.method.as_str().len() + parts.scheme.len() + authority;
    pseudo as u64 + header_bytes(&head.headers)
}
