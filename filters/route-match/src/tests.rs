//! The filter as the host sees it, with the cases that also run in Wasm: `cases.json`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_model::filter::{RouteExplanation, SCHEMA};
use portolan_sdk::testing::TestHost;
use serde::Deserialize;

use super::*;

/// Several configurations, each with requests and the routes that they must take.
#[derive(Deserialize)]
struct Suite {
    name: String,
    config: serde_json::Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// Header lines; `:method` is GET, `:scheme` http and `:authority` a.example when absent.
    headers: Vec<(String, String)>,
    #[serde(default)]
    table: Option<u32>,
    route: Option<u32>,
}

impl Case {
    fn headers(&self) -> Vec<(&str, &str)> {
        let given: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut all = vec![(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")];
        all.retain(|(name, _)| !given.iter().any(|(known, _)| known == name));
        all.extend(given);
        all
    }
}

#[test]
fn every_case_takes_its_route() {
    let suites: Vec<Suite> = serde_json::from_str(include_str!("../cases.json")).unwrap();
    for suite in suites {
        let host = TestHost::<RouteMatch>::start(&suite.config.to_string()).unwrap();
        for case in &suite.cases {
            let mut stream = host.stream();
            if let Some(table) = case.table {
                stream.set_property(ROUTE_TABLE_PROPERTY, &table.to_le_bytes());
            }
            assert_eq!(stream.request_headers(&case.headers()), Action::Continue);
            let route = stream.property(ROUTE_PROPERTY).map(|id| u32::from_le_bytes(id.try_into().unwrap()));
            assert_eq!(route, case.route, "{}: {:?}", suite.name, case.headers);
        }
        assert_eq!(host.logs(), [], "{}", suite.name);
    }
}

fn start(hosts: &str, matches: &str, explain: bool) -> TestHost<RouteMatch> {
    let config = format!(r#"{{"schema": {SCHEMA}, "tables": [{hosts}], "matches": {matches}, "explain": {explain}}}"#);
    TestHost::start(&config).unwrap()
}

const ONE_HOST: &str = r#"[{"name": "a", "domain": "*", "routes": [0, 1, 2]}]"#;

#[test]
fn only_what_the_routes_ask_for_is_read() {
    let plain = r#"[{"uri": {"exact": "/a"}}, {"uri": {"prefix": "/b"}}, {}]"#;
    let host = start(ONE_HOST, plain, false);
    let before = host.calls().len();
    host.stream().request_headers(&[(":path", "/b"), (":authority", "x")]);
    let reads = ["proxy_get_header_map_value"; 2];
    assert_eq!(host.calls()[before..], [reads[0], reads[1], "proxy_set_property"]);
}

#[test]
fn a_broken_regex_is_logged_and_the_other_routes_serve_on() {
    let host =
        start(ONE_HOST, r#"[{"uri": {"regex": "("}}, {"headers": [{"name": "x", "value": "present"}]}, {}]"#, false);
    let (_, line) = &host.logs()[0];
    assert_eq!(line, "route 0 never matches: `(` is no regular expression that this filter knows");
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/"), (":authority", "x")]);
    assert_eq!(stream.property(ROUTE_PROPERTY), Some(vec![2, 0, 0, 0]));
}

#[test]
fn a_failed_read_sets_no_route() {
    let host = start(ONE_HOST, r#"[{"uri": {"prefix": "/a"}}, {}, {}]"#, false);
    host.fail("proxy_get_header_map_value", portolan_sdk::Status::InternalFailure);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Continue);
    assert_eq!(stream.property(ROUTE_PROPERTY), None);
    assert_eq!(host.logs().len(), 1);
}

fn explanation(matches: &str, headers: &[(&str, &str)]) -> RouteExplanation {
    let host = start(ONE_HOST, matches, true);
    let mut stream = host.stream();
    stream.request_headers(headers);
    serde_json::from_slice(&stream.property(EXPLAIN_PROPERTY).unwrap()).unwrap()
}

#[test]
fn an_explanation_names_the_first_condition_that_failed_and_what_held() {
    let told = explanation(
        r#"[{"uri": {"prefix": "/api"}, "headers": [{"name": "x-user", "value": {"exact": "alpha"}}]},
            {"uri": {"prefix": "/api"}, "method": {"exact": "GET"}},
            {}]"#,
        &[(":path", "/api/cart"), (":authority", "x:80"), (":method", "GET"), ("x-user", "beta")],
    );
    assert_eq!((told.host.as_deref(), told.host_kind.as_deref()), (Some("*"), Some("any")));
    let told: Vec<_> = told.routes.iter().map(|route| (route.verdict.as_str(), route.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("no", r#"headers x-user: wants exact "alpha", got "beta""#),
            ("yes", r#"uri prefix "/api", method exact "GET""#),
            ("not reached", ""),
        ]
    );
}

#[test]
fn each_kind_of_condition_has_its_words() {
    let head =
        [(":path", "/api/cart?v=2"), (":authority", "x:80"), (":method", "GET"), (":scheme", "http"), ("b", "1")];
    for (condition, reason) in [
        (r#""uri": {"prefix": "/api/v2"}"#, r#"uri: wants prefix "/api/v2", path is "/api/cart""#),
        (r#""uri": {"regex": "/b.*"}"#, r#"uri: wants regex "/b.*", path is "/api/cart""#),
        (r#""method": {"exact": "PUT"}"#, r#"method: wants exact "PUT", got "GET""#),
        (r#""scheme": {"exact": "https"}"#, r#"scheme: wants exact "https", got "http""#),
        (r#""authority": {"exact": "x"}"#, r#"authority: wants exact "x", got "x:80""#),
        (r#""headers": [{"name": "a", "value": "present"}]"#, "headers a: wants any value, got none"),
        (
            r#""without_headers": [{"name": "b", "value": "present"}]"#,
            r#"withoutHeaders b: wants none of any value, got "1""#,
        ),
        (r#""query_params": [{"name": "v", "value": {"exact": "1"}}]"#, r#"queryParams v: wants exact "1", got "2""#),
    ] {
        let told = explanation(&format!("[{{{condition}}}, {{}}, {{}}]"), &head);
        assert_eq!(told.routes[0].reason, reason);
        assert_eq!(told.routes[1].reason, "no condition");
    }
}

#[test]
fn no_host_is_explained_as_such() {
    let host = start(r#"[{"name": "a", "domain": "a.example", "routes": []}]"#, "[]", true);
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/"), (":authority", "b.example")]);
    let told: RouteExplanation = serde_json::from_slice(&stream.property(EXPLAIN_PROPERTY).unwrap()).unwrap();
    assert_eq!(told, RouteExplanation::default());
}

/// `/admin` is guarded by route 0; the rest of `/` is route 2, and route 1 has meant its two slashes.
fn guarded(refuse: bool) -> TestHost<RouteMatch> {
    let matches = r#"[{"uri": {"prefix": "/admin"}}, {"uri": {"prefix": "//cdn"}}, {}]"#;
    TestHost::start(&format!(
        r#"{{"schema": {SCHEMA}, "tables": [{ONE_HOST}], "matches": {matches}, "refuse_ambiguous": {refuse}}}"#
    ))
    .unwrap()
}

fn taken(host: &TestHost<RouteMatch>, path: &str) -> Result<u32, String> {
    let mut stream = host.stream();
    stream.request_headers(&[(":path", path), (":authority", "x")]);
    match stream.reply() {
        Some(reply) => Err(format!("{} {}", reply.status, reply.details)),
        None => Ok(u32::from_le_bytes(stream.property(ROUTE_PROPERTY).unwrap().try_into().unwrap())),
    }
}

#[test]
fn a_path_that_could_be_read_as_another_routes_is_refused() {
    let host = guarded(true);
    let refused = || Err("400 path_ambiguous".to_owned());
    for path in ["//admin", "/%2Fadmin", "/x/..%2fadmin", "/x/..;/admin", "/.;/admin/x", "/x/%c0%ae%c0%ae/admin?q"] {
        assert_eq!(taken(&host, path), refused(), "{path}");
    }
    for (path, route) in
        [("/x//y", 2), ("/x%2Fy", 2), ("/x;v=1", 2), ("/admin//x", 0), ("//cdn/admin", 1), ("/?//admin", 2)]
    {
        assert_eq!(taken(&host, path), Ok(route), "{path}");
    }
}

#[test]
fn ambiguous_paths_are_served_when_the_guard_is_off() {
    assert_eq!(taken(&guarded(false), "//admin"), Ok(2));
}
