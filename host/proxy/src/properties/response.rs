//! `response.*`: nothing of it is there before the response.

use http::HeaderMap;
use portolan_wasm::StreamParts;

use super::{duration, header, header_bytes, number, text};
use crate::context::StreamContext;

pub(super) fn write(
    context: &StreamContext,
    name: &[u8],
    key: Option<&[u8]>,
    parts: StreamParts<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(head) = parts.response else { return false };
    let sent = context.course.as_ref().map_or(0, |course| course.sent);
    let trailers = || parts.response_trailers.map_or(0, header_bytes);
    let head_bytes = || ":status200".len() as u64 + header_bytes(&head.headers);
    match name {
        b"code" => number(u64::from(head.status.as_u16()), out),
        b"code_details" => !context.details.is_empty() && text(&context.details, out),
        b"flags" => number(u64::from(context.flags.bits()), out),
        b"headers" => key.is_some_and(|key| named(key, head, out)),
        b"trailers" => match (key, parts.response_trailers) {
            (Some(key), Some(trailers)) => header(trailers, key, out),
            _ => false,
        },
        b"size" => number(sent, out),
        b"total_size" => number(sent + head_bytes() + trailers(), out),
        b"headers_bytes" => number(head_bytes(), out),
        b"grpc_status" => number(grpc_status(head, parts.response_trailers), out),
        b"backend_latency" => duration(context.course.as_ref().and_then(|course| course.backend_latency), out),
        _ => false,
    }
}

/// `response.headers.NAME`, `:status` included.
fn named(key: &[u8], head: &http::response::Parts, out: &mut Vec<u8>) -> bool {
    if key == b":status" { text(head.status.as_str(), out) } else { header(&head.headers, key, out) }
}

/// What the trailers say, else the headers, else what gRPC makes of the HTTP status.
fn grpc_status(head: &http::response::Parts, trailers: Option<&HeaderMap>) -> u64 {
    let said = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse::<u32>().ok();
    let status = trailers.and_then(said).or_else(|| said(&head.headers)).unwrap_or(match head.status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    });
    u64::from(status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use http::Response;

    use super::*;

    #[test]
    fn a_grpc_status_is_taken_from_trailers_then_headers_then_the_status() {
        let head = |status: u16| Response::builder().status(status).body(()).unwrap().into_parts().0;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        assert_eq!(grpc_status(&head(200), Some(&trailers)), 5);
        let mut only = head(200);
        only.headers.insert("grpc-status", "7".parse().unwrap());
        assert_eq!(grpc_status(&only, None), 7);
        assert_eq!((grpc_status(&head(503), None), grpc_status(&head(200), None)), (14, 2));
    }
}
