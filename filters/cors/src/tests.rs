//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::testing::{TestHost, TestReply};

use super::*;

const CONFIG: &str = r#"{"allowOrigins": [{"exact": "https://a.test"}, {"prefix": "https://b."}], "allowMethods": ["GET", "PUT"],
    "allowHeaders": ["x-a"], "exposeHeaders": ["x-b", "x-c"], "maxAge": "24h"}"#;

fn start(config: &str) -> TestHost<Cors> {
    TestHost::start(config).unwrap()
}

fn preflight(host: &TestHost<Cors>, origin: &str) -> Option<TestReply> {
    let mut stream = host.stream();
    let head = [(":method", "OPTIONS"), ("origin", origin), ("access-control-request-method", "PUT")];
    let action = stream.request_headers(&head);
    assert_eq!(action == Action::Pause, stream.reply().is_some());
    stream.reply()
}

fn header(reply: &TestReply, name: &str) -> Option<String> {
    reply.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

#[test]
fn preflights_of_allowed_origins_are_answered_here() {
    let host = start(CONFIG);
    let reply = preflight(&host, "https://b.test").unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (200, "cors_response"));
    assert_eq!(header(&reply, "access-control-allow-origin").as_deref(), Some("https://b.test"));
    assert_eq!(header(&reply, "access-control-allow-methods").as_deref(), Some("GET,PUT"));
    assert_eq!(header(&reply, "access-control-allow-headers").as_deref(), Some("x-a"));
    assert_eq!(header(&reply, "access-control-max-age").as_deref(), Some("86400"));
    assert_eq!(header(&reply, "access-control-allow-credentials"), None);
}

#[test]
fn preflights_of_other_origins_go_upstream_or_get_a_bare_answer() {
    assert_eq!(preflight(&start(CONFIG), "https://evil.test"), None);
    let ignoring = start(&CONFIG.replacen('{', r#"{"unmatchedPreflights": "IGNORE", "#, 1));
    let reply = preflight(&ignoring, "https://evil.test").unwrap();
    assert_eq!((reply.status, reply.headers.len()), (200, 1), "only `vary`");
}

#[test]
fn options_that_is_no_preflight_goes_upstream() {
    let host = start(CONFIG);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[(":method", "OPTIONS"), ("origin", "https://a.test")]), Action::Continue);
}

#[test]
fn responses_to_allowed_origins_say_so_and_others_only_that_they_vary() {
    let host = start(CONFIG);
    let answer = |origin: &[(&str, &str)]| {
        let mut stream = host.stream();
        stream.request_headers(&[&[(":method", "GET")], origin].concat());
        stream.response_headers(&[(":status", "200"), ("access-control-allow-credentials", "true")]);
        let of = |name| stream.response_header(name).concat();
        [
            of("access-control-allow-origin"),
            of("access-control-expose-headers"),
            of("access-control-allow-credentials"),
            of("vary"),
        ]
    };
    assert_eq!(answer(&[("origin", "https://a.test")]), ["https://a.test", "x-b,x-c", "", "origin"]);
    assert_eq!(answer(&[("origin", "https://evil.test")]), ["", "", "true", "origin"]);
    assert_eq!(answer(&[]), ["", "", "true", "origin"]);
    assert_eq!(host.counter("cors_requests_total", &[("origin", "invalid")]), 1);
}

#[test]
fn a_response_that_varies_already_is_left_alone() {
    let host = start(CONFIG);
    for vary in ["Origin", "accept, ORIGIN", "*"] {
        let mut stream = host.stream();
        stream.request_headers(&[(":method", "GET")]);
        stream.response_headers(&[(":status", "200"), ("vary", vary)]);
        assert_eq!(stream.response_header("vary"), [vary]);
    }
}

#[test]
fn every_origin_is_allowed_by_a_star_and_named_all_the_same() {
    let host = start(r#"{"allowOrigins": [{"exact": "*"}], "allowHeaders": ["*"]}"#);
    let reply = preflight(&host, "https://any.test").unwrap();
    assert_eq!(header(&reply, "access-control-allow-origin").as_deref(), Some("https://any.test"));
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<Cors>::start(json).err().unwrap();
    for (json, reason) in [
        (r#"{"allowOrigins": []}"#, "allowOrigins: no origin is allowed"),
        ("{}", "missing field `allowOrigins`"),
        (
            r#"{"allowOrigins": [{"exact": "*"}], "allowCredentials": true}"#,
            "allowCredentials: with origins that hold for every site",
        ),
        (r#"{"allowOrigins": [{"prefix": "https://"}], "allowCredentials": true}"#, "allowCredentials: with origins"),
        (r#"{"allowOrigins": [{"regex": ".*"}], "allowCredentials": true}"#, "allowCredentials: with origins"),
        (r#"{"allowOrigins": [{"exact": "a"}], "allowHeaders": ["x y"]}"#, "allowHeaders: `x y` is no name"),
        (r#"{"allowOrigins": [{"exact": "a"}], "maxAge": "1d"}"#, "maxAge: `1d` is no time"),
        (r#"{"allowOrigins": [{"exact": "a"}], "unmatchedPreflights": "DROP"}"#, "unknown variant `DROP`"),
        (r#"{"allowOrigin": [{"exact": "a"}]}"#, "unknown field `allowOrigin`"),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{json}: {text}");
    }
}

/// Route 3 answers all preflights, route 5 forwards those of others.
const BY_ROUTE: &str = r#"{"schema": 2, "routes": [
    [3, {"allow_origins": [{"exact": "http://a"}], "allow_methods": "GET,PUT", "allow_headers": "*", "expose_headers": "x-e",
         "max_age": 60, "allow_credentials": true, "forward_unmatched": false}],
    [5, {"allow_origins": [{"regex": ".*"}], "allow_methods": "", "allow_headers": "", "expose_headers": "",
         "max_age": null, "allow_credentials": true, "forward_unmatched": true}]]}"#;

fn of_route(host: &TestHost<Cors>, route: u32, head: &[(&str, &str)]) -> Option<Vec<String>> {
    let mut stream = host.stream();
    stream.set_property(ROUTE_PROPERTY, &route.to_le_bytes());
    stream.request_headers(head);
    let mut headers: Vec<_> = stream.reply()?.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    headers.sort();
    Some(headers)
}

#[test]
fn in_the_gateway_s_own_place_preflights_get_what_envoy_says() {
    let host = start(BY_ROUTE);
    let preflight = [(":method", "OPTIONS"), ("access-control-request-method", "PUT")];
    let of = |route, origin| of_route(&host, route, &[&preflight[..], &[("origin", origin)]].concat());
    let others = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: ",
        "access-control-allow-methods: GET,PUT",
    ];
    let age = "access-control-max-age: 60";
    assert_eq!(of(3, "http://b").unwrap(), [others.as_slice(), &[age]].concat());
    let own = ["access-control-allow-origin: http://a", "access-control-expose-headers: x-e", age];
    assert_eq!(of(3, "http://a").unwrap(), [others.as_slice(), &own].concat());
    let any = ["access-control-allow-credentials: true", "access-control-allow-origin: null"];
    assert_eq!(of(5, "null").unwrap(), any, "a regex that holds for everything");
    assert_eq!(of(4, "http://a"), None, "a route without a policy");
    let two = [&preflight[..], &[("origin", "http://a"), ("origin", "http://c")]].concat();
    assert_eq!(of_route(&host, 3, &two).unwrap(), of(3, "http://b").unwrap(), "two origins are none that is allowed");
}

#[test]
fn in_the_gateway_s_own_place_responses_do_not_vary_and_keep_the_upstream_s_marks() {
    let host = start(&BY_ROUTE.replace(r#""allow_credentials": true"#, r#""allow_credentials": false"#));
    let mut stream = host.stream();
    stream.set_property(ROUTE_PROPERTY, &3_u32.to_le_bytes());
    stream.request_headers(&[(":method", "GET"), ("origin", "http://a")]);
    stream.response_headers(&[(":status", "200"), ("access-control-allow-credentials", "true")]);
    let of = |name| stream.response_header(name).concat();
    assert_eq!([of("access-control-allow-origin"), of("access-control-expose-headers")], ["http://a", "x-e"]);
    assert_eq!([of("access-control-allow-credentials"), of("vary")], ["true", ""]);
}
