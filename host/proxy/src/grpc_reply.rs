//! Local replies to gRPC requests: status 200, and what went wrong in `grpc-status` and `grpc-message`. The table is
//! Envoy's (`Grpc::Utility::httpToGrpcStatus`), after gRPC's own "HTTP to gRPC status code mapping".

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header, response};

/// Bytes of a message that are kept; the text is for people.
const MAX_MESSAGE: usize = 1024;

/// True for a request with a gRPC content type.
pub(crate) fn is_grpc(request: &HeaderMap) -> bool {
    let value = request.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Turns a reply into gRPC's form: `status` is the filter's own, else it comes from the HTTP status.
pub(crate) fn convert(parts: &mut response::Parts, body: &Bytes, status: Option<u32>) {
    let status = status.unwrap_or_else(|| status_of(parts.status));
    parts.status = StatusCode::OK;
    name_type(&mut parts.headers);
    parts.headers.insert("grpc-status", HeaderValue::from(status));
    if let Some(message) = message(&body[..body.len().min(MAX_MESSAGE)]) {
        parts.headers.insert("grpc-message", message);
    }
}

/// The type of every answer to gRPC.
pub(crate) fn name_type(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
}

/// A status of HTTP as one of gRPC.
pub(crate) fn status_of(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The body as gRPC wants messages: what is not printable ASCII, and `%`, as `%XX`.
pub(crate) fn message(body: &[u8]) -> Option<HeaderValue> {
    if body.is_empty() {
        return None;
    }
    let mut text = String::with_capacity(body.len());
    for byte in body {
        match byte {
            b' '..=b'~' if *byte != b'%' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use http::{Request, Response};

    use super::*;

    fn asked_with(content_type: &str) -> bool {
        let request = Request::post("/").header("content-type", content_type).body(()).unwrap();
        is_grpc(request.headers())
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        assert!(asked_with("application/grpc") && asked_with("application/grpc+proto"));
        assert!(!asked_with("application/grpc-web") && !asked_with("text/plain"));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_reply_becomes_a_grpc_status_with_a_message() {
        let (mut parts, ()) = Response::builder().status(403).body(()).unwrap().into_parts();
        convert(&mut parts, &Bytes::from_static("100% no\n\u{e9}".as_bytes()), None);
        assert_eq!((parts.status.as_u16(), &parts.headers["grpc-status"]), (200, &HeaderValue::from_static("7")));
        assert_eq!(parts.headers["grpc-message"], "100%25 no%0A%C3%A9");
        convert(&mut parts, &Bytes::new(), Some(16));
        assert_eq!(parts.headers["grpc-status"], "16");
    }
}
