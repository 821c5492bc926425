//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::testing::TestHost;

use super::*;

const COOKIE: &str = r#""sticky": {"cookie": {"name": "id", "ttl": "720h"}}, "secret": "0123456789abcdef""#;

fn start(config: &str) -> TestHost<StickyCanary> {
    let host = TestHost::start(&format!("{{{config}}}")).unwrap();
    host.answer("clear_route_cache", |_| Ok(Vec::new()));
    host
}

/// The canary header that the upstream sees, and the cookie that the client gets.
fn ask(host: &TestHost<StickyCanary>, headers: &[(&str, &str)]) -> (Option<String>, Option<String>) {
    let mut stream = host.stream();
    stream.set_property("source\0address", b"10.0.0.1:4711");
    assert_eq!(stream.request_headers(headers), Action::Continue);
    stream.response_headers(&[(":status", "200")]);
    (stream.request_header("x-canary").pop(), stream.response_header("set-cookie").pop())
}

/// True when this user, known by a header, gets the canary.
fn is_canary(host: &TestHost<StickyCanary>, user: usize) -> bool {
    ask(host, &[("x-user", &user.to_string())]).0.is_some()
}

fn by_header(share: &str) -> TestHost<StickyCanary> {
    start(&format!(r#""sticky": {{"header": "x-user"}}, {share}"#))
}

#[test]
fn users_get_the_canary_by_the_share_and_always_the_same() {
    let host = by_header(r#""percent": 20"#);
    let first: Vec<bool> = (0..1_000).map(|user| is_canary(&host, user)).collect();
    let count = first.iter().filter(|canary| **canary).count();
    assert!((150..250).contains(&count), "{count} of 1,000 for a fifth");
    assert!((0..1_000).all(|user| is_canary(&host, user) == first[user]));
}

#[test]
fn nobody_goes_back_when_the_share_grows() {
    let small: Vec<usize> = {
        let host = by_header(r#""percent": 5"#);
        (0..1_000).filter(|user| is_canary(&host, *user)).collect()
    };
    assert!(!small.is_empty());
    let host = by_header(r#""percent": 6.5"#);
    assert!(small.iter().all(|user| is_canary(&host, *user)));
}

#[test]
fn a_user_without_what_it_is_known_by_is_stable() {
    let host = by_header(r#""percent": 99.999"#);
    assert_eq!(ask(&host, &[]), (None, None));
    assert_eq!(ask(&host, &[("x-user", "")]), (None, None));
}

#[test]
fn a_new_user_gets_a_cookie_and_keeps_its_variant_with_it() {
    let host = start(&format!(r#""percent": 50, {COOKIE}"#));
    let mut seen = [false; 2];
    for _ in 0..100 {
        let (variant, cookie) = ask(&host, &[]);
        let cookie = cookie.unwrap();
        let (pair, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(attributes, " Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax");
        let again = ask(&host, &[("cookie", "a=b"), ("cookie", &format!("c=d; {pair}"))]);
        assert_eq!(again, (variant.clone(), None), "no second cookie");
        seen[usize::from(variant.is_some())] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn a_cookie_that_was_made_up_is_replaced() {
    let host = start(&format!(r#""percent": 50, {COOKIE}"#));
    for value in ["", "x", "0123456789abcdef", "0123456789abcdef.00000000000000000000000000000000"] {
        assert!(ask(&host, &[("cookie", &format!("id={value}"))]).1.is_some(), "{value}");
    }
}

#[test]
fn clients_choose_where_they_may() {
    let host = start(r#""percent": 50, "sticky": {"cookie": {"name": "id"}}, "allowClientChoice": true"#);
    assert_eq!(ask(&host, &[("cookie", "id=me")]).1, None);
}

#[test]
fn an_address_is_known() {
    let host = start(r#""percent": 50, "sticky": {"remoteAddress": {}}"#);
    let first = ask(&host, &[]);
    assert!((0..10).all(|_| ask(&host, &[("x-forwarded-for", "1.2.3.4")]) == first));
}

#[test]
fn what_a_client_says_in_the_header_is_overwritten() {
    let host = by_header(r#""percent": 0"#);
    assert_eq!(ask(&host, &[("x-canary", "true")]).0, None);
    assert_eq!(host.foreign_calls().len(), 1, "the route may have been chosen by it");
    assert_eq!(ask(&host, &[]).0, None);
    assert_eq!(host.foreign_calls().len(), 1, "and not where nothing has changed");
    let host = by_header(r#""percent": 0, "header": {"name": "x-canary", "canary": "new", "stable": "old"}"#);
    assert_eq!(ask(&host, &[("x-canary", "new")]).0.as_deref(), Some("old"));
}

#[test]
fn testers_are_forced_and_the_switch_beats_all() {
    let force = r#""force": [{"header": "x-tester", "value": "s3cret"}, {"header": "x-tester", "value": "old", "variant": "STABLE"}]"#;
    let host = by_header(&format!(r#""percent": 0, {force}"#));
    assert_eq!(ask(&host, &[("x-tester", "s3cret")]).0.as_deref(), Some("true"));
    assert_eq!(ask(&host, &[("x-tester", "guess")]).0, None);
    let host = by_header(&format!(r#""percent": 100, {force}"#));
    assert_eq!(ask(&host, &[("x-tester", "old")]).0, None);
    assert_eq!(ask(&host, &[]).0.as_deref(), Some("true"));
    let host = by_header(&format!(r#""enabled": false, "percent": 100, {force}"#));
    assert_eq!(ask(&host, &[("x-tester", "s3cret")]).0, None);
}

#[test]
fn nobody_gets_a_cookie_where_all_get_the_same() {
    for percent in [0, 100] {
        let host = start(&format!(r#""percent": {percent}, {COOKIE}"#));
        assert_eq!(ask(&host, &[]).1, None);
    }
}

#[test]
fn a_ramp_is_followed_by_the_clock() {
    let ramp = |start: &str| format!(r#""ramp": {{"from": 0, "to": 100, "start": "{start}", "duration": "1h"}}"#);
    assert!(is_canary(&by_header(&ramp("2020-01-01T00:00:00Z")), 1), "over long ago");
    assert!(!is_canary(&by_header(&ramp("2120-01-01T00:00:00Z")), 1), "far ahead");
}

#[test]
fn the_variant_is_told_to_later_filters() {
    let host = by_header(r#""percent": 100"#);
    let mut stream = host.stream();
    stream.request_headers(&[]);
    assert_eq!(stream.property(VARIANT_PROPERTY).as_deref(), Some(b"canary".as_slice()));
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    let header = r#""sticky": {"header": "x-user"}"#;
    let cookie = |rest: &str| format!(r#""sticky": {{"cookie": {{{rest}}}}}, "allowClientChoice": true"#);
    for (config, expected) in [
        (String::new(), "missing field `sticky`"),
        (format!(r#"{header}, "percent": 101"#), "`percent` must be 0 to 100"),
        (
            format!(r#"{header}, "percent": 1, "ramp": {{"from": 0, "to": 1, "start": "", "duration": "1h"}}"#),
            "exclude each",
        ),
        (
            format!(r#"{header}, "ramp": {{"from": 0, "to": 1, "start": "now", "duration": "1h"}}"#),
            "`ramp.start` is no time",
        ),
        (
            format!(r#"{header}, "ramp": {{"from": 0, "to": 1, "start": "2026-11-28T10:00:00Z", "duration": "1"}}"#),
            "`ramp.duration` is no duration",
        ),
        (format!(r#"{header}, "secret": "short""#), "`secret` needs at least 16 bytes"),
        (r#""sticky": {"cookie": {"name": "id"}}"#.into(), "a cookie needs a `secret`"),
        (cookie(r#""name": "a;b""#), "`cookie.name` has letters"),
        (cookie(r#""name": "id", "path": "/; Secure""#), "`cookie.path` begins with"),
        (cookie(r#""name": "id", "ttl": "1""#), "`cookie.ttl` is no duration"),
        (format!(r#"{header}, "header": {{"stable": "true"}}"#), "are the same"),
        (format!(r#"{header}, "header": {{"name": ":path"}}"#), "is no name of a header"),
        (format!(r#"{header}, "persent": 1"#), "unknown field `persent`"),
    ] {
        let refusal = TestHost::<StickyCanary>::start(&format!("{{{config}}}")).err().unwrap();
        assert!(refusal.contains(expected), "{config}\n{refusal}");
    }
}
