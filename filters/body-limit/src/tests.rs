//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::testing::TestHost;

use super::*;

const CONFIG: &str = r#"{"request": {"maxBytes": 10, "byContentType": [{"types": ["image/*"], "maxBytes": "1Ki"}]},
    "response": {"maxBytes": 20}, "body": "no"}"#;

fn start() -> TestHost<BodyLimit> {
    TestHost::start(CONFIG).unwrap()
}

#[test]
fn an_announced_body_is_refused_before_it_comes() {
    let host = start();
    let mut stream = host.stream();
    let head = [(":method", "POST"), ("content-length", "11")];
    assert_eq!(stream.request_head(&head), Action::Pause);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.details.as_str()), (413, "no", "request_body_too_large"));
    let mut stream = host.stream();
    assert_eq!(stream.request_head(&[("content-length", "11"), ("content-type", "image/png")]), Action::Continue);
    assert_eq!(host.counter("body_limit_refused_total", &[("direction", "request")]), 1);
}

#[test]
fn a_body_that_announces_nothing_is_counted() {
    let host = start();
    let mut stream = host.stream();
    assert_eq!(stream.request_head(&[]), Action::Continue);
    assert_eq!(stream.request_body(b"12345", false), Action::Continue);
    assert_eq!(stream.request_body(b"67890", false), Action::Continue);
    assert_eq!(stream.request_body(b"1", true), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 413);
}

#[test]
fn responses_have_a_limit_of_their_own() {
    let host = start();
    let mut stream = host.stream();
    stream.request_headers(&[]);
    assert_eq!(stream.response_head(&[(":status", "200"), ("content-length", "21")]), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 502);
    let mut stream = host.stream();
    assert_eq!(stream.response_head(&[(":status", "200")]), Action::Continue);
    assert_eq!(stream.response_body(&[0; 20], false), Action::Continue);
    assert_eq!(stream.response_body(&[0; 1], false), Action::Pause);
}

#[test]
fn the_answer_to_head_has_no_body_to_bound() {
    let host = start();
    let mut stream = host.stream();
    assert_eq!(stream.response_headers(&[(":status", "200"), ("content-length", "1000")]), Action::Continue);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<BodyLimit>::start(json).err().unwrap();
    for (json, reason) in [
        ("{}", "neither `request` nor `response` has a limit"),
        (r#"{"request": {"maxBytes": "10MB"}}"#, "request.maxBytes: `10MB` is no number of bytes"),
        (
            r#"{"request": {"byContentType": [{"types": [], "maxBytes": 1}]}}"#,
            "request.byContentType[0].types: no media type",
        ),
        (
            r#"{"response": {"byContentType": [{"types": ["png"], "maxBytes": 1}]}}"#,
            "response.byContentType[0].types: `png` is no media",
        ),
        (r#"{"request": {"maxByte": 1}}"#, "unknown field `maxByte`"),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{json}: {text}");
    }
}
