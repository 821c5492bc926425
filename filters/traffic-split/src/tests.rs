//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_model::filter::{SCHEMA, SPLIT_FUNCTION, Split};
use portolan_sdk::testing::TestHost;

use super::*;

fn start(routes: Vec<Split>) -> TestHost<TrafficSplit> {
    TestHost::start(&serde_json::to_string(&TrafficSplitConfig { schema: SCHEMA, routes }).unwrap()).unwrap()
}

fn two(sticky: Option<Sticky>) -> Split {
    Split { destinations: vec![(5, 1), (6, 1)], names: vec!["a".into(), "b".into()], sticky }
}

/// The cluster and the `set-cookie` that a request to this route with these headers ends up with.
fn ask(host: &TestHost<TrafficSplit>, route: u32, headers: &[(&str, &str)]) -> (Option<u8>, Option<String>) {
    let mut stream = host.stream();
    stream.set_property(ROUTE_PROPERTY, &route.to_le_bytes());
    assert_eq!(stream.request_headers(headers), Action::Continue);
    let cluster = stream.property(CLUSTER_PROPERTY).map(|bytes| bytes[0]);
    (cluster, stream.property(SET_COOKIE_PROPERTY).map(|bytes| String::from_utf8(bytes).unwrap()))
}

#[test]
fn nothing_is_set_without_a_route_or_for_a_route_that_does_not_forward() {
    let host = start(vec![Split::default()]);
    assert_eq!(ask(&host, 0, &[]), (None, None));
    assert_eq!(ask(&host, 1, &[]), (None, None));
    let mut stream = host.stream();
    stream.request_headers(&[]);
    assert_eq!(stream.property(CLUSTER_PROPERTY), None);
}

#[test]
fn a_single_destination_costs_two_host_calls() {
    let host = start(vec![Split { destinations: vec![(9, 0)], ..Split::default() }]);
    let before = host.calls().len();
    assert_eq!(ask(&host, 0, &[]), (Some(9), None));
    assert_eq!(host.calls()[before..], ["proxy_get_property", "proxy_set_property"]);
}

#[test]
fn a_split_comes_when_it_is_first_needed_and_a_single_destination_never() {
    let host = TestHost::<TrafficSplit>::start(&format!(r#"{{"schema": {ON_DEMAND_SCHEMA}, "routes": []}}"#)).unwrap();
    host.answer(SPLIT_FUNCTION, |_| Ok(serde_json::to_vec(&two(None)).unwrap()));
    let ask = |split: SplitRef| {
        let mut stream = host.stream();
        stream.set_property(SPLIT_PROPERTY, &split.to_bytes());
        stream.request_headers(&[]);
        stream.property(CLUSTER_PROPERTY).map(|bytes| bytes[0])
    };
    assert_eq!(ask(SplitRef::One(9)), Some(9));
    assert_eq!(host.foreign_calls().len(), 0);
    let first = (0..100).filter(|_| ask(SplitRef::Many(1)) == Some(5)).count();
    assert_eq!((first, host.foreign_calls().len()), (50, 1));
    ask(SplitRef::Many(2));
    assert_eq!(host.foreign_calls().len(), 2);
    let mut stream = host.stream();
    stream.request_headers(&[]);
    assert_eq!(stream.property(CLUSTER_PROPERTY), None, "a route that does not forward");
}

#[test]
fn destinations_take_turns() {
    let host = start(vec![two(None)]);
    let first = (0..100).filter(|_| ask(&host, 0, &[]).0 == Some(5)).count();
    assert_eq!(first, 50);
}

#[test]
fn a_header_keeps_its_user_on_one_destination() {
    let host = start(vec![two(Some(Sticky::Header("x-user".into())))]);
    for user in ["a", "b", "c"] {
        let first = ask(&host, 0, &[("x-user", user)]);
        assert!((0..20).all(|_| ask(&host, 0, &[("x-user", user)]) == first));
    }
}

#[test]
fn a_new_user_gets_a_cookie_that_leads_back() {
    let host = start(vec![two(Some(Sticky::Cookie("version".into())))]);
    for _ in 0..4 {
        let (cluster, cookie) = ask(&host, 0, &[("cookie", "other=1")]);
        let cookie = cookie.unwrap();
        let pair = cookie.split(';').next().unwrap();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        for _ in 0..10 {
            assert_eq!(ask(&host, 0, &[("cookie", "x=y"), ("cookie", pair)]), (cluster, None));
        }
    }
}

#[test]
fn a_cookie_that_names_no_destination_is_replaced() {
    let host = start(vec![two(Some(Sticky::Cookie("version".into())))]);
    assert!(ask(&host, 0, &[("cookie", "version=gone")]).1.is_some());
}

#[test]
fn an_unknown_schema_is_refused() {
    let refusal = TestHost::<TrafficSplit>::start(r#"{"schema": 99, "routes": []}"#).err().unwrap();
    assert_eq!(refusal, "invalid configuration: schema 99 is not 2, the one that this filter knows");
}
