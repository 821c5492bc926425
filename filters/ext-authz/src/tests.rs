//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::testing::{TestAnswer, TestHost};

use super::*;
use crate::wire::Writer;

const HTTP: &str = r#"{"http": {"cluster": "outbound|80||authz.test", "pathPrefix": "/check", "headersToUpstreamOnAllow": ["x-user"], "headersToDownstreamOnAllow": ["x-seen"]}}"#;
const GRPC: &str = r#"{"grpc": {"cluster": "outbound|90||authz.test", "contextExtensions": {"k": "v"}}}"#;
const HEAD: [(&str, &str); 5] =
    [(":method", "GET"), (":path", "/a?token=1"), (":authority", "shop"), (":scheme", "http"), ("authorization", "me")];

fn start(config: &str) -> TestHost<ExtAuthz> {
    TestHost::start(config).unwrap()
}

fn response(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut message = Writer::default();
    fill(&mut message);
    message.into_bytes()
}

#[test]
fn a_service_over_http_lets_a_request_on_and_changes_it_and_its_response() {
    let host = start(HTTP);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&HEAD), Action::Pause);
    let call = &host.pending_calls()[0];
    assert_eq!((call.upstream.as_str(), call.path.as_str()), ("outbound|80||authz.test", "/check/a?token=1"));
    assert_eq!((call.header(":authority"), call.header("authorization")), (Some("shop"), Some("me")));
    host.answer_call(call, &TestAnswer::new(200).header("x-user", "ada").header("x-seen", "1").header("x-other", "1"));
    assert!(!stream.is_paused());
    assert_eq!((stream.request_header("x-user"), stream.request_header("x-other").len()), (vec!["ada".to_owned()], 0));
    stream.response_headers(&[(":status", "200")]);
    assert_eq!(stream.response_header("x-seen"), ["1"]);
}

#[test]
fn a_refusal_of_the_service_is_the_clients_answer() {
    let host = start(HTTP);
    let mut stream = host.stream();
    stream.request_headers(&HEAD);
    let answer = TestAnswer::new(401).header("www-authenticate", "Basic").header("server", "s").body(b"who are you?");
    host.answer_call(&host.pending_calls()[0], &answer);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.details.as_str()), (401, "who are you?", "ext_authz_denied"));
    assert_eq!(reply.headers, [("www-authenticate".to_owned(), "Basic".to_owned())]);
}

#[test]
fn a_service_that_fails_lets_nobody_in_unless_told_to() {
    for answer in [TestAnswer::unavailable(), TestAnswer::timed_out(), TestAnswer::new(500)] {
        let host = start(HTTP);
        let mut stream = host.stream();
        stream.request_headers(&HEAD);
        host.answer_call(&host.pending_calls()[0], &answer);
        let reply = stream.reply().unwrap();
        assert_eq!((reply.status, reply.details.as_str()), (403, "ext_authz_error"));
        let host = start(&HTTP.replacen('{', r#"{"failOpen": true, "#, 1));
        let mut stream = host.stream();
        stream.request_headers(&HEAD);
        host.answer_call(&host.pending_calls()[0], &answer);
        assert!(!stream.is_paused() && stream.reply().is_none());
    }
}

#[test]
fn a_service_that_cannot_even_be_asked_is_one_that_fails() {
    let host = start(&GRPC.replacen('{', r#"{"statusOnError": 503, "#, 1));
    host.fail("proxy_grpc_call", portolan_sdk::Status::ParseFailure);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&HEAD), Action::Pause);
    assert_eq!(stream.reply().unwrap().status, 503);
}

#[test]
fn a_service_over_grpc_is_told_of_the_request_and_obeyed() {
    let host = start(GRPC);
    let mut stream = host.stream();
    stream.set_property("source\0address", b"10.0.0.1:7000");
    assert_eq!(stream.request_headers(&HEAD), Action::Pause);
    let call = &host.pending_calls()[0];
    assert_eq!(call.path, "/envoy.service.auth.v3.Authorization/Check");
    for part in ["10.0.0.1", "/a?token=1", "authorization", "shop"] {
        assert!(call.body.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
    let allowed = response(|message| {
        message.message(1, |_| ());
        message.message(3, |ok| {
            ok.message(2, |option| option.entry(1, b"x-user", b"ada"));
            ok.bytes(5, b"authorization");
            ok.bytes(5, b":path");
            ok.bytes(8, b"token");
        });
        message.message(4, |data| {
            data.message(1, |entry| {
                entry.bytes(1, b"team");
                entry.message(2, |value| value.bytes(3, b"red"));
            });
        });
    });
    host.answer_call(call, &TestAnswer::grpc(0).body(&allowed));
    assert!(!stream.is_paused());
    assert_eq!(stream.request_header("x-user"), ["ada"]);
    assert_eq!(
        (stream.request_header("authorization").len(), stream.request_header(":path")),
        (0, vec!["/a".to_owned()])
    );
    assert_eq!(stream.property("ext_authz.metadata").unwrap(), br#"{"team":"red"}"#);
}

#[test]
fn a_refusal_over_grpc_is_the_clients_answer_and_garbage_is_a_failure() {
    let refused = response(|message| {
        message.message(1, |status| status.number(1, 7));
        message.message(2, |denied| {
            denied.message(1, |status| status.number(1, 429));
            denied.bytes(3, b"later");
        });
    });
    for (answer, status, details) in [
        (TestAnswer::grpc(0).body(&refused), 429, "ext_authz_denied"),
        (TestAnswer::grpc(0).body(b"\xff\xff"), 403, "ext_authz_error"),
        (TestAnswer::grpc(13), 403, "ext_authz_error"),
        (TestAnswer::unavailable(), 403, "ext_authz_error"),
    ] {
        let host = start(GRPC);
        let mut stream = host.stream();
        stream.request_headers(&HEAD);
        host.answer_call(&host.pending_calls()[0], &answer);
        let reply = stream.reply().unwrap();
        assert_eq!((reply.status, reply.details.as_str()), (status, details));
    }
}

#[test]
fn the_body_goes_along_whole_in_part_or_not_at_all() {
    let config = |more: &str| {
        GRPC.replacen('{', &format!(r#"{{"includeRequestBodyInCheck": {{"maxRequestBytes": 8{more}}}, "#), 1)
    };
    let asked = |host: &TestHost<ExtAuthz>, body: &[&[u8]]| {
        let mut stream = host.stream();
        assert_eq!(stream.request_head(&HEAD), Action::Pause);
        assert!(host.pending_calls().is_empty(), "the head waits for the body");
        for (at, part) in body.iter().enumerate() {
            stream.request_body(part, at + 1 == body.len());
        }
        let sent = host.pending_calls().first().map(|call| call.body.clone());
        (sent, stream.reply().map(|reply| reply.status))
    };
    let has = |sent: &Option<Vec<u8>>, part: &[u8]| {
        sent.as_ref().is_some_and(|sent| sent.windows(part.len()).any(|window| window == part))
    };
    let (sent, reply) = asked(&start(&config("")), &[b"abcd", b"efgh"]);
    assert!(has(&sent, b"abcdefgh") && reply.is_none());
    let (sent, reply) = asked(&start(&config("")), &[b"abcd", b"efghi"]);
    assert_eq!((sent, reply), (None, Some(413)));
    let (sent, reply) = asked(&start(&config(r#", "allowPartialMessage": true"#)), &[b"abcdefghijkl"]);
    assert!(has(&sent, b"abcdefgh") && !has(&sent, b"abcdefghi") && reply.is_none());
}

#[test]
fn exempt_requests_are_not_asked_about() {
    let host = start(&GRPC.replacen('{', r#"{"exempt": [{"paths": [{"exact": "/a"}]}], "#, 1));
    assert_eq!(host.stream().request_headers(&HEAD), Action::Continue);
    assert!(host.pending_calls().is_empty());
}
