//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use portolan_sdk::Status;
use portolan_sdk::testing::{TestHost, TestReply};

use super::*;

fn start(config: &str) -> TestHost<Maintenance> {
    TestHost::start(config).unwrap()
}

fn ask(host: &TestHost<Maintenance>, headers: &[(&str, &str)]) -> Option<TestReply> {
    let mut stream = host.stream();
    stream.set_property("source\0address", b"192.0.2.1:5000");
    let action = stream.request_headers(headers);
    assert_eq!(action == Action::Pause, stream.reply().is_some());
    stream.reply()
}

fn header(reply: &TestReply, name: &str) -> Option<String> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

#[test]
fn without_more_it_is_on_and_the_page_is_what_the_client_accepts() {
    let host = start(r#"{"retryAfter": "2m"}"#);
    let reply = ask(&host, &[(":path", "/"), ("accept", "application/json")]).unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (503, "maintenance"));
    assert_eq!(reply.body, "{\"error\":\"down for maintenance\"}\n");
    assert_eq!(header(&reply, "retry-after").as_deref(), Some("120"));
    assert_eq!(header(&reply, "content-type").as_deref(), Some("application/json"));
    assert_eq!(header(&reply, "cache-control").as_deref(), Some("no-store"));
    assert!(ask(&host, &[(":path", "/"), ("accept", "text/html")]).unwrap().body.contains("<h1>"));
    assert_eq!(host.counter("maintenance_answered_total", &[]), 2);
}

#[test]
fn a_window_begins_and_ends_by_the_clock() {
    let host = start(r#"{"windows": [{"from": "2026-12-01T22:00:00Z", "to": "2026-12-01T23:00:00Z"}]}"#);
    host.set_time(Duration::from_secs(1_796_162_399));
    assert!(ask(&host, &[]).is_none());
    host.advance(Duration::from_secs(1));
    assert_eq!(header(&ask(&host, &[]).unwrap(), "retry-after").as_deref(), Some("3600"));
    host.advance(Duration::from_secs(3600));
    assert!(ask(&host, &[]).is_none());
}

#[test]
fn who_is_allowed_passes() {
    let host = start(
        r#"{"allow": {"addresses": ["10.0.0.0/8"], "trustedHops": 1, "requests": [
            {"paths": [{"exact": "/healthz"}]}, {"cookies": {"tester": {"exact": "yes"}}}]}}"#,
    );
    assert!(ask(&host, &[(":path", "/"), ("x-forwarded-for", "10.1.1.1, 192.0.2.1")]).is_none());
    assert!(ask(&host, &[(":path", "/"), ("x-forwarded-for", "192.0.2.1")]).is_some());
    assert!(ask(&host, &[(":path", "/healthz?x")]).is_none());
    assert!(ask(&host, &[(":path", "/"), ("cookie", "a=b; tester=yes")]).is_none());
    assert!(ask(&host, &[(":path", "/"), ("cookie", "tester=no")]).is_some());
}

#[test]
fn the_switch_is_turned_by_who_has_the_token() {
    let host = start(r#"{"switch": {"path": "/-/maintenance", "token": "0123456789abcdef"}}"#);
    let turn = |method, token| {
        let reply = ask(&host, &[(":path", "/-/maintenance"), (":method", method), ("authorization", token)]).unwrap();
        (reply.status, reply.body)
    };
    let good = "Bearer 0123456789abcdef";
    assert!(ask(&host, &[(":path", "/")]).is_none());
    for bad in ["", "0123456789abcdef", "Bearer 0123456789abcdeg", "Bearer 0123456789abcdef0"] {
        assert_eq!(turn("PUT", bad).0, 403);
    }
    assert_eq!(turn("GET", good), (200, "off\n".to_owned()));
    assert_eq!(turn("PUT", good), (200, "on\n".to_owned()));
    assert_eq!(ask(&host, &[(":path", "/")]).unwrap().status, 503);
    assert_eq!(turn("POST", good).0, 405);
    assert_eq!(turn("DELETE", good), (200, "off\n".to_owned()));
    assert!(ask(&host, &[(":path", "/")]).is_none());
}

#[test]
fn a_host_that_does_not_tell_whether_it_is_on_lets_nobody_through() {
    let host = start(r#"{"switch": {"path": "/-/maintenance", "token": "0123456789abcdef"}}"#);
    host.fail("proxy_get_shared_data", Status::InternalFailure);
    assert_eq!(ask(&host, &[(":path", "/")]).unwrap().status, 500);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<Maintenance>::start(json).err().unwrap();
    for (json, reason) in [
        (r#"{"status": 200}"#, "status: 200 is not a refusal"),
        (
            r#"{"windows": [{"from": "2026-12-01T22:00:00Z", "to": "2026-12-01T22:00:00Z"}]}"#,
            "windows[0]: it ends before it begins",
        ),
        (
            r#"{"windows": [{"from": "tomorrow", "to": "2026-12-01T22:00:00Z"}]}"#,
            "windows[0].from: `tomorrow` is no time",
        ),
        (r#"{"allow": {"requests": [{}]}}"#, "allow.requests[0]: an empty condition"),
        (r#"{"switch": {"path": "x", "token": "0123456789abcdef"}}"#, "switch.path: `x` does not begin with `/`"),
        (r#"{"switch": {"path": "/x", "token": "short"}}"#, "switch.token: it has at least 16"),
        (r#"{"retryAfter": 5}"#, "retryAfter: invalid type"),
        (r#"{"htm": ""}"#, "unknown field `htm`"),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{json}: {text}");
    }
}
