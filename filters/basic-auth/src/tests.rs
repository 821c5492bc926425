//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::Engine;
use portolan_sdk::testing::{TestHost, TestReply};

use super::*;

/// Alice's password is `secret`, by bcrypt; Bob's too, by `$apr1$`.
const USERS: &str = r#""users": "alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\nbob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n""#;

fn start(rest: &str) -> TestHost<BasicAuth> {
    TestHost::start(&format!("{{{USERS}{rest}}}")).unwrap()
}

fn authorization(name: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// The refusal that a request with these headers gets.
fn refusal(host: &TestHost<BasicAuth>, headers: &[(&str, &str)]) -> Option<TestReply> {
    let mut stream = host.stream();
    stream.request_headers(headers);
    while stream.is_paused() && stream.reply().is_none() {
        assert!(host.tick_period().is_some());
        host.tick();
    }
    stream.reply()
}

fn enters(host: &TestHost<BasicAuth>, name: &str, password: &str) -> bool {
    refusal(host, &[(":path", "/"), ("authorization", &authorization(name, password))]).is_none()
}

#[test]
fn who_knows_the_password_comes_in() {
    let host = start("");
    for name in ["alice", "bob"] {
        assert!(enters(&host, name, "secret"));
        assert!(!enters(&host, name, "Secret"));
        assert!(enters(&host, name, "secret"), "the second time from the cache");
        assert!(!enters(&host, name, ""));
    }
    assert!(!enters(&host, "carol", "secret"));
    assert!(!enters(&host, "", "secret"));
}

#[test]
fn a_refusal_asks_for_a_password() {
    let host = start(r#", "realm": "the \"shop\"""#);
    let reply = refusal(&host, &[(":path", "/")]).unwrap();
    assert_eq!((reply.status, reply.details.as_str(), reply.grpc_status), (401, "basic_auth_denied", 16));
    let challenge = r#"Basic realm="the \"shop\"", charset="UTF-8""#;
    assert_eq!(reply.headers, [("www-authenticate".into(), challenge.into())]);
}

#[test]
fn two_headers_are_one_too_many() {
    let (good, other) = (authorization("alice", "secret"), authorization("bob", "x"));
    let both = [("authorization", good.as_str()), ("authorization", other.as_str())];
    assert!(refusal(&start(""), &both).is_some());
}

#[test]
fn the_upstream_is_told_the_name_and_not_the_password() {
    let host = start(r#", "forwardUsernameHeader": "x-user""#);
    let mut stream = host.stream();
    stream.request_headers(&[("x-user", "admin"), ("authorization", &authorization("alice", "secret"))]);
    assert_eq!(stream.request_header("x-user"), ["alice"]);
    assert!(stream.request_header("authorization").is_empty());
    drop(stream);
    let host = start(r#", "forwardAuthorization": true"#);
    let mut stream = host.stream();
    stream.request_headers(&[("authorization", &authorization("alice", "secret"))]);
    assert_eq!(stream.request_header("authorization").len(), 1);
}

#[test]
fn exempt_paths_need_no_password_and_carry_no_name() {
    let host = start(r#", "forwardUsernameHeader": "x-user", "exempt": [{"exact": "/health"}, {"prefix": "/public"}]"#);
    for (path, is_open) in [
        ("/health", true),
        ("/health?a", true),
        ("/health/x", false),
        ("/public/x", true),
        ("/publicity", false),
        ("/", false),
        ("", false),
    ] {
        assert_eq!(refusal(&host, &[(":path", path)]).is_none(), is_open, "{path}");
    }
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/health"), ("x-user", "admin")]);
    assert!(stream.request_header("x-user").is_empty());
}

#[test]
fn a_password_that_was_right_is_not_computed_again() {
    let host = start(r#", "maxCpuPerSecond": "1ms""#);
    assert!(enters(&host, "alice", "secret"));
    // Each new pair takes its share of the second, until the next one is put off.
    let spent = (0..100).find_map(|number| {
        let value = authorization("bob", &number.to_string());
        refusal(&host, &[("authorization", &value)]).filter(|reply| reply.status == 503)
    });
    let reply = spent.unwrap();
    assert_eq!((reply.details.as_str(), reply.grpc_status), ("basic_auth_busy", 14));
    assert_eq!(reply.headers, [("retry-after".into(), "1".into())]);
    assert!(enters(&host, "alice", "secret"), "who is known still comes in");
}

#[test]
fn a_slow_hash_is_computed_in_ticks_while_its_request_waits() {
    // Cost 8.
    let users =
        r#"{"users": "eve:$2y$08$abcdefghijklmnopqrstuuKxCcvB7KZ7.BpDoK0bh6qM7Dl1/xiJa", "maxCpuPerSecond": "1s"}"#;
    let host = TestHost::<BasicAuth>::start(users).unwrap();
    // A clock that stands still lets a slice last; one that runs ends it.
    let (right, wrong) = (authorization("eve", "secret"), authorization("eve", "wrong"));
    let mut first = host.stream();
    assert_eq!(first.request_headers(&[("authorization", &right)]), Action::Pause);
    let mut ticks = 0;
    while first.is_paused() {
        host.tick();
        ticks += 1;
    }
    assert!(first.reply().is_none() && ticks > 0, "{ticks}");
    assert_eq!(host.tick_period(), None, "nobody waits");
    assert!(first.request_header("authorization").is_empty());
    assert_eq!(refusal(&host, &[("authorization", &wrong)]).unwrap().status, 401);
}

#[test]
fn several_wait_in_their_order_and_who_has_gone_costs_nothing() {
    let users =
        r#"{"users": "eve:$2y$08$abcdefghijklmnopqrstuuKxCcvB7KZ7.BpDoK0bh6qM7Dl1/xiJa", "maxCpuPerSecond": "1s"}"#;
    let host = TestHost::<BasicAuth>::start(users).unwrap();
    let mut streams: Vec<_> = (0..3).map(|_| host.stream()).collect();
    for (stream, password) in streams.iter_mut().zip(["wrong", "secret", "secret"]) {
        assert_eq!(stream.request_headers(&[("authorization", &authorization("eve", password))]), Action::Pause);
    }
    drop(streams.remove(0));
    while streams[0].is_paused() {
        host.tick();
    }
    host.tick();
    assert!(!streams[1].is_paused(), "the same password is known by now");
    assert!(streams.iter().all(|stream| stream.reply().is_none()));
}

#[test]
fn a_queue_that_would_last_too_long_is_full() {
    let users =
        r#"{"users": "eve:$2y$08$abcdefghijklmnopqrstuuKxCcvB7KZ7.BpDoK0bh6qM7Dl1/xiJa", "maxCpuPerSecond": "1ms"}"#;
    let host = TestHost::<BasicAuth>::start(users).unwrap();
    let mut streams: Vec<_> = (0..10).map(|_| host.stream()).collect();
    let statuses: Vec<u32> = streams
        .iter_mut()
        .enumerate()
        .map(|(number, stream)| {
            stream.request_headers(&[("authorization", &authorization("eve", &number.to_string()))]);
            stream.reply().map_or(0, |reply| reply.status)
        })
        .collect();
    assert_eq!((statuses[0], statuses[9]), (0, 503), "{statuses:?}");
}

#[test]
fn a_host_that_fails_keeps_everybody_outside() {
    let host = start("");
    host.fail("proxy_get_header_map_pairs", portolan_sdk::Status::InternalFailure);
    let reply = refusal(&host, &[("authorization", &authorization("alice", "secret"))]).unwrap();
    assert_eq!(reply.status, 500);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_reason() {
    for (config, expected) in [
        ("{}".into(), "missing field `users`"),
        (r#"{"users": "alice:secret"}"#.into(), "`users` line 1: `alice`: the password is no bcrypt"),
        (format!(r#"{{{USERS}, "maxBcryptCost": 4}}"#), "`users` line 1: `alice`: bcrypt cost 5 is above"),
        (format!(r#"{{{USERS}, "maxBcryptCost": 15}}"#), "`maxBcryptCost` must be 4 to 14"),
        (format!(r#"{{{USERS}, "realm": "a\nb"}}"#), "`realm` must be printable ASCII"),
        (format!(r#"{{{USERS}, "cacheTtl": "2h"}}"#), "`cacheTtl` must be a duration from 0ns to 3600s"),
        (format!(r#"{{{USERS}, "maxCpuPerSecond": "0"}}"#), "`maxCpuPerSecond` must be a duration"),
        (format!(r#"{{{USERS}, "exempt": [{{"prefix": "public"}}]}}"#), "`public` does not begin with `/`"),
        (format!(r#"{{{USERS}, "forwardUsernameHeader": ""}}"#), "is no name of a header"),
        (format!(r#"{{{USERS}, "relm": "x"}}"#), "unknown field `relm`"),
    ] {
        let refusal = TestHost::<BasicAuth>::start(&config).err().unwrap();
        assert!(refusal.contains(expected), "{config}\n{refusal}");
    }
}
