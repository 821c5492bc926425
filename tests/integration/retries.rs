//! Istio's retries: what is tried again, where, and what is not.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn gateway(rule: &str, endpoints: &[(&str, std::net::SocketAddr)]) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rule))
        .file("app.yaml", service_entry("app.test", endpoints))
        .file("policy.yaml", policy("app.test", "loadBalancer: {simple: ROUND_ROBIN}"))
        .start()
}

const PLAIN: &str = "- route: [{destination: {host: app.test}}]\n";

#[test]
fn a_refused_connection_is_retried_on_another_endpoint() {
    let (app, closed) = (Upstream::start("app"), Port::free());
    let gateway = gateway(PLAIN, &[("v1", closed.address()), ("v1", app.address())]);
    let mut connection = gateway.connect();
    for number in 0..20 {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        assert_eq!(response.status, 200, "request {number}");
    }
    // A body is replayed.
    for _ in 0..4 {
        let response = connection.request(&Request::new("POST", "h", "/").order("sink").body("body")).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "4"));
    }
    assert_eq!(app.requests(), 24);
}

#[test]
fn an_answered_503_is_not_retried_by_default() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let gateway = gateway(PLAIN, &[("v1", one.address()), ("v1", two.address())]);
    let response = gateway.send(&Request::get("h", "/").order("status 503"));
    assert_eq!((response.status, one.requests() + two.requests()), (503, 1));
    assert!(response.text().starts_with("GET / HTTP/1.1"), "the upstream's own answer is passed on");
}

#[test]
fn attempts_n_means_n_tries_more_and_zero_means_none() {
    let rules = "\
- match: [{uri: {prefix: /three}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 3, retryOn: 5xx}
- match: [{uri: {prefix: /none}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 0}
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, &[("v1", app.address())]);
    assert_eq!(gateway.send(&Request::get("h", "/three").order("status 500")).status, 500);
    assert_eq!(app.requests(), 4);
    let line = gateway.await_access("/three");
    assert!(line.contains(" 500 URX "), "{line}");
    assert_eq!(gateway.send(&Request::get("h", "/none").order("status 500")).status, 500);
    assert_eq!(app.requests(), 5);
}

#[test]
fn a_status_named_in_retry_on_is_retried_until_it_changes() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 5, retryOn: '503'}
";
    let (bad, good) = (Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 503");
    let gateway = gateway(rules, &[("v1", bad.address()), ("v1", good.address())]);
    for _ in 0..10 {
        assert_eq!(gateway.get("h", "/").upstream(), "good");
    }
    assert_eq!(gateway.send(&Request::get("h", "/").order("status 500")).status, 500, "another status is passed on");
}

#[test]
fn a_try_that_takes_too_long_is_retried_when_asked_for() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 2, perTryTimeout: 0.1s, retryOn: 5xx}
";
    let (slow, fast) = (Upstream::start("slow"), Upstream::start("fast"));
    slow.always("delay 3000");
    let gateway = gateway(rules, &[("v1", slow.address()), ("v1", fast.address())]);
    for _ in 0..4 {
        assert_eq!(gateway.get("h", "/").upstream(), "fast");
    }
}

#[test]
fn the_upstream_learns_which_attempt_it_serves() {
    let (app, closed) = (Upstream::start("app"), Port::free());
    let gateway = gateway(PLAIN, &[("v1", closed.address()), ("v1", app.address())]);
    let mut connection = gateway.connect();
    let attempts: Vec<_> = (0..4)
        .map(|_| connection.request(&Request::get("h", "/")).unwrap().seen("x-envoy-attempt-count").unwrap())
        .collect();
    // Requests whose turn was the good endpoint's got it at once.
    assert!(attempts.iter().all(|attempt| attempt == "1" || attempt == "2"), "{attempts:?}");
    assert!(attempts.contains(&"2".to_owned()), "{attempts:?}");
}

#[test]
fn a_kept_connection_that_the_upstream_closed_costs_no_request() {
    let app = Upstream::start("app");
    let gateway = gateway(PLAIN, &[("v1", app.address())]);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        // `half` closes the connection after its answer: the gateway's client sees a cut body, the next one a 200.
        let _ = gateway.connect().request(&Request::get("h", "/").order("half"));
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
}
