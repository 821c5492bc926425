//! Tests of heads: hosts, encodings, hop-by-hop fields, upgrades, trailers, request ids.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use super::*;

#[test]
fn hosts() {
    for good in ["a", "a.b-c_d", "a:80", "[::1]", "[::1]:80", "1.2.3.4:65535", "a:"] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in ["", "a b", "a,b", "u@a", "a/b", "a:x", "a:99999", ":80", "[g]", "a:123456", "a/b: 100-continue"] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn only_a_single_chunked_encoding_without_a_length_is_taken() {
    let framing = |lines: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check_framing(&headers).is_ok()
    };
    assert!(framing(&[("transfer-encoding", "Chunked")]));
    assert!(framing(&[("content-length", "1")]));
    assert!(!framing(&[("transfer-encoding", "chunked"), ("content-length", "1")]));
    assert!(!framing(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
    assert!(!framing(&[("transfer-encoding", "gzip, chunked")]));
}

#[test]
fn hop_by_hop_named_and_internal_fields_go() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("te", "gzip, Trailers;q=0.1"),
        ("proxy-authorization", "Basic eA=="),
        ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
        ("x-envoy-max-retries", "9"),
        ("x-real-ip", "1.2.3.4"),
        ("x-keep", "1"),
        ("host", "h"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    strip(&mut headers, true).unwrap();
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["host", "x-keep"]);
}

#[test]
fn of_te_only_trailers_go_on_and_nobody_names_what_tells_of_the_client() {
    let mut headers = HeaderMap::new();
    headers.insert("te", HeaderValue::from_static("gzip, Trailers"));
    headers.insert("connection", HeaderValue::from_static("te, host, x-forwarded-for, x-Mine"));
    for name in ["host", "x-forwarded-for", "x-mine"] {
        headers.insert(name, HeaderValue::from_static("1"));
    }
    strip(&mut headers, true).unwrap();
    let mut left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    left.sort_unstable();
    assert_eq!(left, [("host", "1"), ("te", "trailers"), ("x-forwarded-for", "1")]);
}

#[test]
fn a_websocket_upgrade_survives_and_another_does_not() {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("keep-alive, Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("WebSocket"));
    strip(&mut headers, true).unwrap();
    assert_eq!(
        (&headers["connection"], &headers["upgrade"]),
        (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
    );
    headers.insert("upgrade", HeaderValue::from_static("h2c"));
    headers.insert("connection", HeaderValue::from_static("Upgrade, HTTP2-Settings"));
    strip(&mut headers, true).unwrap();
    assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
    for other in ["TLS/1.0", "websocket, foo", ""] {
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.insert("upgrade", HeaderValue::from_static(other));
        assert_eq!(strip(&mut headers.clone(), true), Err(Refusal::Upgrade), "{other}");
        assert_eq!(strip(&mut headers, false), Ok(false), "an answer's is nobody's");
    }
}

#[test]
fn trailers_lose_what_only_a_head_may_say() {
    let mut trailers = HeaderMap::new();
    for name in ["content-length", "transfer-encoding", "host", "authorization", "x-forwarded-for", "grpc-status"] {
        trailers.append(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    clean_trailers(&mut trailers);
    assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
}

#[test]
fn request_ids_are_version_4_uuids() {
    let id = request_id();
    let id = id.to_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "4"));
    assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
}
