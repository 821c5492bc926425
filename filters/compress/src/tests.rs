//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Read;

use portolan_sdk::testing::{TestHost, TestStream};

use super::*;

const TEXT: &str = "some text, and some more text, and even more text; ";
const HTML: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");
const BOTH: (&str, &str) = ("accept-encoding", "gzip, br;q=0.5");

fn start(config: &str) -> TestHost<Compress> {
    TestHost::start(config).unwrap()
}

/// A stream whose response has this head, after a request with these headers.
fn begin<'h>(
    host: &'h TestHost<Compress>,
    request: &[(&str, &str)],
    response: &[(&str, &str)],
) -> TestStream<'h, Compress> {
    let mut stream = host.stream();
    stream.request_headers(request);
    stream.response_head(response);
    stream
}

/// The `content-encoding` of such a response.
fn coding(request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<String> {
    coding_with("", request, response)
}

fn coding_with(config: &str, request: &[(&str, &str)], response: &[(&str, &str)]) -> Option<String> {
    begin(&start(config), request, response).response_header("content-encoding").pop()
}

fn gunzip(bytes: &[u8]) -> String {
    let mut plain = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut plain).unwrap();
    plain
}

#[test]
fn a_body_is_compressed_chunk_by_chunk() {
    let host = start("");
    let mut stream = begin(&host, &[BOTH], &[(":status", "200"), HTML, ("content-length", "5100")]);
    assert_eq!(stream.response_header("content-encoding"), ["gzip"]);
    assert_eq!(stream.response_header("vary"), ["Accept-Encoding"]);
    assert!(stream.response_header("content-length").is_empty());
    let mut bytes = Vec::new();
    for number in 0..100 {
        assert_eq!(stream.response_body(TEXT.as_bytes(), number == 99), Action::Continue);
        let chunk = stream.response_body_bytes();
        assert!(!chunk.is_empty() && chunk.len() < 100);
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(gunzip(&bytes), TEXT.repeat(100));
}

#[test]
fn brotli_is_preferred_where_both_are_liked() {
    let head = [(":status", "200"), HTML];
    assert_eq!(coding(&[("accept-encoding", "gzip, deflate, br")], &head).as_deref(), Some("br"));
    let gzip_only = r#"{"encodings": ["gzip"]}"#;
    assert_eq!(coding_with(gzip_only, &[("accept-encoding", "br, gzip;q=0.1")], &head).as_deref(), Some("gzip"));
    assert_eq!(coding(&[], &head), None);
}

#[test]
fn trailers_end_a_body() {
    let host = start("");
    let mut stream = begin(&host, &[BOTH], &[(":status", "200"), HTML]);
    stream.response_body(TEXT.as_bytes(), false);
    let mut bytes = stream.response_body_bytes();
    stream.response_body(b"", false);
    bytes.extend(stream.response_body_bytes());
    stream.response_trailers(&[("x", "y")]);
    bytes.extend(stream.response_body_bytes());
    assert_eq!(gunzip(&bytes), TEXT);
}

#[test]
fn what_must_stay_as_it_is_does() {
    for (name, value) in [
        (":status", "204"),
        (":status", "206"),
        (":status", "304"),
        (":status", "101"),
        ("content-type", "image/png"),
        ("content-type", "application/grpc+proto"),
        ("content-type", "text/event-stream"),
        ("content-length", "1023"),
        ("content-encoding", "br"),
        ("content-range", "bytes 0-1/2"),
        ("cache-control", "public, No-Transform"),
        ("repr-digest", "sha-256=:x:"),
    ] {
        let mut head: Vec<_> = [(":status", "200"), HTML].into_iter().filter(|(known, _)| *known != name).collect();
        head.push((name, value));
        assert_eq!(coding(&[BOTH], &head).filter(|coding| coding == "gzip"), None, "{name}: {value}");
    }
    for (name, value) in [("content-length", "1024"), ("content-encoding", "identity"), ("cache-control", "public")] {
        let head = [(":status", "404"), HTML, (name, value)];
        assert_eq!(coding(&[BOTH], &head).as_deref(), Some("gzip"), "{name}: {value}");
    }
    let listed = r#"{"contentType": ["text/event-stream", "application/grpc"]}"#;
    let of = |kind| coding_with(listed, &[BOTH], &[(":status", "200"), ("content-type", kind)]);
    assert_eq!(of("text/event-stream").as_deref(), Some("gzip"));
    assert_eq!(of("application/grpc"), None, "never");
}

#[test]
fn a_head_without_a_body_only_varies() {
    let host = start("");
    let mut stream =
        begin(&host, &[BOTH, (":method", "HEAD")], &[(":status", "200"), HTML, ("content-length", "9999")]);
    assert_eq!(stream.response_header("vary"), ["Accept-Encoding"]);
    assert_eq!(stream.response_header("content-length"), ["9999"]);
    assert!(stream.response_header("content-encoding").is_empty());
    stream.response_headers(&[(":status", "200"), HTML]);
    assert!(stream.response_header("content-encoding").is_empty());
}

#[test]
fn caches_are_told_once_and_for_plain_answers_too() {
    let host = start("");
    let vary = |request: &[(&str, &str)], lines: &[(&str, &str)]| {
        let head = [&[(":status", "200"), HTML], lines].concat();
        begin(&host, request, &head).response_header("vary")
    };
    assert_eq!(vary(&[], &[]), ["Accept-Encoding"]);
    assert_eq!(vary(&[BOTH], &[("vary", "origin")]), ["origin", "Accept-Encoding"]);
    assert_eq!(vary(&[BOTH], &[("vary", "origin, accept-Encoding")]), ["origin, accept-Encoding"]);
    assert_eq!(vary(&[BOTH], &[("vary", "*")]), ["*"]);
}

#[test]
fn an_etag_becomes_weak() {
    let of = |config: &str, etag| {
        let host = start(config);
        let stream = begin(&host, &[BOTH], &[(":status", "200"), HTML, ("etag", etag), ("accept-ranges", "bytes")]);
        (stream.response_header("etag").pop().unwrap(), stream.response_header("content-encoding").len())
    };
    assert_eq!(of("", "\"a\""), ("W/\"a\"".into(), 1));
    assert_eq!(of("", "W/\"a\""), ("W/\"a\"".into(), 1));
    assert_eq!(of(r#"{"disableOnEtagHeader": true}"#, "\"a\""), ("\"a\"".into(), 0));
}

#[test]
fn no_more_than_so_many_are_compressed_at_a_time() {
    let host = start(r#"{"maxActiveStreams": 1}"#);
    let head = [(":status", "200"), HTML];
    let mut first = begin(&host, &[BOTH], &head);
    assert_eq!(first.response_header("content-encoding").len(), 1);
    let second = begin(&host, &[BOTH], &head);
    assert!(second.response_header("content-encoding").is_empty());
    first.response_body(b"x", true);
    assert_eq!(begin(&host, &[BOTH], &head).response_header("content-encoding").len(), 1, "the first is done");
    assert_eq!(begin(&host, &[BOTH], &head).response_header("content-encoding").len(), 1, "that one is gone");
}

#[test]
fn a_body_goes_on_uncompressed_when_the_time_is_over() {
    let host = start(r#"{"maxCpuPerSecond": "1ms", "gzipLevel": 9}"#);
    let mut stream = begin(&host, &[BOTH], &[(":status", "200"), HTML]);
    let chunk = TEXT.repeat(10_000);
    let mut bytes = Vec::new();
    let sizes: Vec<usize> = (0..20)
        .map(|number| {
            stream.response_body(chunk.as_bytes(), number == 19);
            let chunk = stream.response_body_bytes();
            bytes.extend_from_slice(&chunk);
            chunk.len()
        })
        .collect();
    assert!(sizes.iter().any(|size| *size >= chunk.len()), "{sizes:?}");
    assert_eq!(gunzip(&bytes), chunk.repeat(20));
}

#[test]
fn the_upstream_can_be_kept_from_compressing() {
    let host = start(r#"{"removeAcceptEncodingHeader": true}"#);
    let stream = begin(&host, &[BOTH], &[(":status", "200"), HTML]);
    assert!(stream.request_header("accept-encoding").is_empty());
    assert_eq!(stream.response_header("content-encoding"), ["gzip"]);
}

const DECOMPRESS: &str = r#"{"decompressRequests": {"maxBytes": 1000}}"#;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzEncoder::new(plain, flate2::Compression::fast()).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_request_reaches_the_upstream_uncompressed() {
    let host = start(DECOMPRESS);
    let mut stream = host.stream();
    stream.request_head(&[("content-encoding", "gzip"), ("content-length", "99")]);
    assert!(stream.request_header("content-encoding").is_empty() && stream.request_header("content-length").is_empty());
    let bytes = gzip(TEXT.as_bytes());
    let mut plain = Vec::new();
    for (number, part) in bytes.chunks(10).enumerate() {
        assert_eq!(stream.request_body(part, (number + 1) * 10 >= bytes.len()), Action::Continue);
        plain.extend(stream.request_body_bytes());
    }
    assert_eq!(plain, TEXT.as_bytes());
}

#[test]
fn a_request_that_unpacks_to_too_much_or_to_nothing_is_refused() {
    let host = start(DECOMPRESS);
    for (body, status) in [(gzip(&[0; 1_001]), 413), (b"no gzip".to_vec(), 400), (gzip(b"x")[..15].to_vec(), 400)] {
        let mut stream = host.stream();
        stream.request_head(&[("content-encoding", "gzip")]);
        assert_eq!(stream.request_body(&body, true), Action::Pause);
        assert_eq!(stream.reply().unwrap().status, status);
    }
}

#[test]
fn requests_are_left_alone_unless_that_is_wanted() {
    for (config, coding) in [("", "gzip"), (DECOMPRESS, "zstd")] {
        let host = start(config);
        let mut stream = host.stream();
        stream.request_head(&[("content-encoding", coding)]);
        stream.request_body(b"x", true);
        assert_eq!(stream.request_header("content-encoding"), [coding]);
        assert_eq!(stream.request_body_bytes(), b"x");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    for (config, expected) in [
        (r#"{"encodings": []}"#, "`encodings` is empty"),
        (r#"{"encodings": ["zstd"]}"#, "encodings[0]: unknown variant `zstd`"),
        (r#"{"gzipLevel": 0}"#, "`gzipLevel` must be 1 to 9"),
        (r#"{"brotliQuality": 11}"#, "`brotliQuality` must be 0 to 9"),
        (r#"{"contentType": ["Text/HTML"]}"#, "`Text/HTML` is no lower-case media type"),
        (r#"{"maxActiveStreams": 0}"#, "`maxActiveStreams` must be 1 to 4096"),
        (r#"{"maxCpuPerSecond": "2s"}"#, "`maxCpuPerSecond` must be `1ms` to `1s`"),
        (r#"{"decompressRequests": {"maxBytes": 0}}"#, "`decompressRequests.maxBytes` must be"),
        (r#"{"level": 1}"#, "unknown field `level`"),
    ] {
        let refusal = TestHost::<Compress>::start(config).err().unwrap();
        assert!(refusal.contains(expected), "{config}\n{refusal}");
    }
}
