//! Limits and ejection: what connectionPool and outlierDetection promise.

use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn gateway(block: &str, endpoints: &[(&str, std::net::SocketAddr)]) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n  retries: {attempts: 0}\n"))
        .file("app.yaml", service_entry("app.test", endpoints))
        .file("policy.yaml", policy("app.test", block))
        .start()
}

#[test]
fn a_request_over_the_limit_is_refused_at_once() {
    let app = Upstream::start("app");
    let gateway = gateway("connectionPool: {http: {http2MaxRequests: 2}}", &[("v1", app.address())]);
    let mut held: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for connection in &mut held {
        connection.send(&Request::get("h", "/held").order("delay 1500").to_bytes()).unwrap();
    }
    await_true("two requests in flight", || app.in_flight() == 2);
    // Every worker counts the same two: connections are spread over both.
    for _ in 0..8 {
        let start = Instant::now();
        let response = gateway.get("h", "/over");
        assert_eq!((response.status, response.header("x-envoy-overloaded")), (503, Some("true")));
        assert!(response.text().ends_with("reset reason: overflow"), "{}", response.text());
        assert!(start.elapsed() < Duration::from_millis(1000), "the refusal waited");
    }
    let line = gateway.await_access("/over");
    assert!(line.contains(" 503 UO upstream_reset_before_response_started{overflow} "), "{line}");
    for connection in &mut held {
        assert_eq!(connection.response(false).unwrap().status, 200);
    }
    assert_eq!((app.most_in_flight(), gateway.get("h", "/after").status), (2, 200), "permits come back");
}

#[test]
fn permits_come_back_when_clients_go_away() {
    let app = Upstream::start("app");
    let gateway = gateway("connectionPool: {http: {http2MaxRequests: 1}}", &[("v1", app.address())]);
    for _ in 0..10 {
        let mut connection = gateway.connect();
        connection.send(&Request::get("h", "/gone").order("delay 100").to_bytes()).unwrap();
        await_true("the request in flight", || app.in_flight() > 0);
        drop(connection);
        gateway.await_answer("h", "/next", |response| response.status == 200);
    }
}

#[test]
fn pending_requests_wait_for_a_connection_up_to_their_limit() {
    let app = Upstream::start("app");
    let block = "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}";
    let gateway = gateway(block, &[("v1", app.address())]);
    let mut first = gateway.connect();
    first.send(&Request::get("h", "/first").order("delay 1000").to_bytes()).unwrap();
    await_true("the first in flight", || app.in_flight() == 1);
    let mut others: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for other in &mut others {
        other.send(&Request::get("h", "/other").to_bytes()).unwrap();
    }
    let mut statuses: Vec<_> = others.iter_mut().map(|other| other.response(false).unwrap().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503], "one waits, the rest is refused");
    assert_eq!(first.response(false).unwrap().status, 200);
    assert_eq!(app.most_in_flight(), 1);
}

#[test]
fn consecutive_5xx_eject_an_endpoint_and_it_comes_back() {
    let (bad, good) = (Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 500");
    let block = "\
loadBalancer: {simple: ROUND_ROBIN}
outlierDetection: {consecutive5xxErrors: 3, interval: 0.2s, baseEjectionTime: 0.5s, maxEjectionPercent: 50}
";
    let gateway = gateway(block, &[("v1", bad.address()), ("v1", good.address())]);
    let mut connection = gateway.connect();
    let mut failures = 0;
    for _ in 0..6 {
        failures += usize::from(connection.request(&Request::get("h", "/")).unwrap().status == 500);
    }
    assert_eq!(failures, 3, "the third failure in a row ejects");
    for _ in 0..10 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().upstream(), "good");
    }
    assert_eq!(bad.requests(), 3);
    bad.always("");
    gateway.await_answer("h", "/", |response| response.upstream() == "bad");
}

#[test]
fn connect_failures_count_as_5xx() {
    let (closed, good) = (Port::free(), Upstream::start("good"));
    let block = "\
loadBalancer: {simple: ROUND_ROBIN}
outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 50}
";
    let gateway = gateway(block, &[("v1", closed.address()), ("v1", good.address())]);
    let mut connection = gateway.connect();
    let mut failures = 0;
    for _ in 0..20 {
        failures += usize::from(connection.request(&Request::get("h", "/")).unwrap().status == 503);
    }
    assert_eq!(failures, 2);
}

#[test]
fn a_good_answer_starts_the_count_again_and_gateway_errors_count_apart() {
    let app = Upstream::start("app");
    let other = Upstream::start("other");
    let block = "\
loadBalancer: {simple: ROUND_ROBIN}
outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, baseEjectionTime: 60s, maxEjectionPercent: 50}
";
    let gateway = gateway(block, &[("v1", app.address()), ("v1", other.address())]);
    let mut connection = gateway.connect();
    // In turn: `app` gets every second request.
    for order in ["status 503", "status 200", "status 500", "status 200", "status 503", "status 200"] {
        app.always(order);
        for _ in 0..2 {
            connection.request(&Request::get("h", "/")).unwrap();
        }
    }
    assert_eq!(app.requests(), 6, "never two gateway errors in a row");
    app.always("status 502");
    for _ in 0..12 {
        connection.request(&Request::get("h", "/")).unwrap();
    }
    assert_eq!(app.requests(), 8, "two in a row eject");
}

#[test]
fn the_default_share_ejects_none_of_few_endpoints() {
    let (bad, good) = (Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 500");
    let block = "loadBalancer: {simple: ROUND_ROBIN}\noutlierDetection: {consecutive5xxErrors: 1}\n";
    let gateway = gateway(block, &[("v1", bad.address()), ("v1", good.address())]);
    let mut connection = gateway.connect();
    for _ in 0..10 {
        connection.request(&Request::get("h", "/")).unwrap();
    }
    assert_eq!(bad.requests(), 5, "10 % of two endpoints is none");
}

#[test]
fn one_request_per_connection_when_asked_for() {
    let app = Upstream::start("app");
    let gateway = gateway("connectionPool: {http: {maxRequestsPerConnection: 1}}", &[("v1", app.address())]);
    let mut connection = gateway.connect();
    for _ in 0..5 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    assert_eq!((app.requests(), app.connections()), (5, 5));
}
