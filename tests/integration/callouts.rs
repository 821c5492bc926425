//! Callouts of filters: the real binary between a client, the service behind it, and hosts that a filter asks.

use std::time::{Duration, Instant};

use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;
use crate::support::wasm;

mod grpc;
mod guest;
mod redis;

use guest::Guest;

/// The cluster of the host that filters ask.
const AUTH: &str = "outbound|80||auth.test";

/// A gateway whose only filter is this guest, with a service `app` behind it and `auth` beside it.
fn gateway(app: &Upstream, auth: &Upstream, guest: &str) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("guest.wasm");
    std::fs::write(&module, wasm::from_text(guest)).unwrap();
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("auth.yaml", service_entry("auth.test", &[("v1", auth.address())]))
        .file("plugin.yaml", wasm_plugin("guest", &module, "{}"))
        .start();
    (gateway, folder)
}

/// A request with this authorization.
fn with_token(token: &str) -> Request {
    Request::get("h", "/private").header("authorization", token)
}

/// An address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_filter_that_asks_lets_the_request_go_on_when_the_answer_is_good() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 1_000));
    for _ in 0..20 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.upstream()), (200, "app"));
        assert_eq!(response.seen("x-auth").as_deref(), Some("auth"), "the answer's header was read");
    }
    assert_eq!((app.requests(), auth.requests()), (20, 20));
    assert!(auth.connections() <= 2, "the pool of each worker keeps its connection: {}", auth.connections());
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_total", &[AUTH]), 20.0);
    let seen = gateway.get("h", "/seen");
    assert_eq!(seen.status, 200);
}

#[test]
fn a_filter_that_asks_refuses_when_the_answer_is_bad() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    auth.always("status 403");
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 1_000));
    let response = gateway.get("h", "/");
    assert_eq!(response.status, 403);
    // The answer's body is the head that the host saw.
    assert!(response.seen_request_line().starts_with("POST /check HTTP/1.1"), "{}", response.text());
    assert_eq!(response.seen("host").as_deref(), Some("auth.test"));
    assert_eq!(response.seen("content-length").as_deref(), Some("5"));
    assert_eq!(app.requests(), 0);
}

#[test]
fn an_address_needs_no_cluster() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(&auth.address().to_string(), 1_000));
    assert_eq!(gateway.get("h", "/").seen("x-auth").as_deref(), Some("auth"));
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_total", &["\"callout\""]), 1.0);
}

#[test]
fn a_filter_on_the_stock_sdk_asks_and_goes_on_with_its_own_stream() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let module = wasm::built("examples/filter-authorize");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("auth.yaml", service_entry("auth.test", &[("v1", auth.address())]))
        .file("plugin.yaml", wasm_plugin("authorize", &module, &format!("{{cluster: '{AUTH}'}}")))
        .start();
    // Many at once, so that answers meet other streams' contexts.
    std::thread::scope(|scope| {
        for number in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                for _ in 0..20 {
                    let response = gateway.send(&with_token(&number.to_string()));
                    assert_eq!((response.status, response.upstream()), (200, "app"));
                    assert_eq!(response.seen("authorization"), Some(number.to_string()));
                }
            });
        }
    });
    assert_eq!((app.requests(), auth.requests()), (160, 160));
    auth.always("status 401");
    let refused = gateway.send(&with_token("bad"));
    assert_eq!((refused.status, refused.seen("authorization").as_deref()), (401, Some("bad")));
    assert_eq!(refused.seen_request_line(), "GET /private HTTP/1.1");
    auth.always("close");
    assert_eq!(gateway.send(&with_token("any")).status, 503);
    assert_eq!(app.requests(), 160);
}

#[test]
fn a_name_with_a_port_is_resolved_and_needs_no_cluster() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let port = auth.address().port();
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(&format!("localhost:{port}"), 5_000));
    assert_eq!(gateway.get("h", "/").seen("x-auth").as_deref(), Some("auth"));
    let (gateway, _folder) = self::gateway(&app, &auth, &Guest::asking(&format!("no-such-host.invalid:{port}"), 5_000));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
}

#[test]
fn an_unknown_cluster_is_refused_at_once() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking("outbound|80||nobody.test", 1_000));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (500, "2"), "BAD_ARGUMENT");
}

#[test]
fn a_host_that_takes_too_long_is_a_504_to_the_filter() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    auth.always("delay 5000");
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 100));
    let start = Instant::now();
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_host_that_breaks_off_or_is_not_there_is_a_503_to_the_filter() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 1_000));
    for order in ["close", "half"] {
        auth.always(order);
        let response = gateway.get("h", "/");
        assert_eq!(response.status, 503);
        assert!(response.text().ends_with("reset reason: connection termination"), "{}", response.text());
    }
    let (gateway, _folder) = self::gateway(&app, &auth, &Guest::asking(&nobody().to_string(), 1_000));
    let response = gateway.get("h", "/");
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("reset reason: remote connection failure"), "{}", response.text());
}

#[test]
fn an_answer_over_the_limit_is_a_503_to_the_filter() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 5_000));
    auth.always("bytes 1048576");
    assert_eq!(gateway.get("h", "/").status, 200);
    auth.always("bytes 1048577");
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "response payload too large"));
}

#[test]
fn a_filter_that_asks_without_end_is_bounded_and_the_gateway_serves_on() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    auth.always("delay 300");
    let (gateway, _folder) = gateway(&app, &auth, &Guest::flooding(AUTH, 3_000));
    let before = gateway.resident_bytes();
    // The body tells how many of the calls were taken.
    let taken: usize = gateway.get("h", "/").text().parse().unwrap();
    assert!(taken <= 1_000 && taken > 0, "{taken}");
    await_some("all answers", || (auth.requests() >= taken && auth.in_flight() == 0).then_some(()));
    let again: usize = await_some("room again", || gateway.get("h", "/").text().parse().ok().filter(|n| *n > 0));
    assert!(again <= 1_000);
    assert!(gateway.resident_bytes() < before + 200 * 1024 * 1024);
}

#[test]
fn callouts_of_the_start_and_of_ticks_go_out() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::ticking(AUTH));
    // Each worker's VM asks once when it starts, and from then on every 20 ms.
    await_some("calls", || (auth.requests() > 20).then_some(()));
    gateway.await_log("answered 200");
    assert_eq!(gateway.get("h", "/").status, 200);
}

#[test]
fn a_callout_outlives_the_client_that_caused_it() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    auth.always("delay 300");
    let (gateway, _folder) = gateway(&app, &auth, &Guest::asking(AUTH, 5_000));
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/").to_bytes()).unwrap();
    await_some("the call", || (auth.in_flight() == 1).then_some(()));
    drop(connection);
    await_some("its end", || (auth.in_flight() == 0).then_some(()));
    auth.always("");
    assert_eq!(gateway.get("h", "/").status, 200, "the late answer has hurt nobody");
}

#[test]
fn a_stream_gets_its_answer_from_the_filter_that_it_began_with() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    auth.always("delay 500");
    let (gateway, folder) = gateway(&app, &auth, &Guest::asking(AUTH, 5_000));
    let response = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gateway.get("h", "/"));
        await_some("the call", || (auth.in_flight() == 1).then_some(()));
        std::fs::write(folder.path().join("guest.wasm"), wasm::from_text(&Guest::flooding(AUTH, 1))).unwrap();
        await_some("the new filter", || (gateway.get("h", "/").text() == "1").then_some(()));
        waiting.join().unwrap()
    });
    assert_eq!((response.status, response.seen("x-auth").as_deref()), (200, Some("auth")));
}

#[test]
fn a_filter_that_fails_on_an_answer_is_replaced_and_its_other_calls_are_dropped() {
    let (app, auth) = (Upstream::start("app"), Upstream::start("auth"));
    let (gateway, _folder) = gateway(&app, &auth, &Guest::trapping_on_answers(AUTH));
    let response = gateway.get("h", "/");
    assert_eq!(response.status, 503);
    gateway.await_log("its VM is replaced");
    assert_eq!(gateway.get("h", "/").status, 503);
}
