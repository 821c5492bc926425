//! Idle HTTP/1 connections give their buffers back after a second, and serve on when the client says more.

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::tls::{Authority, Tls};
use crate::support::upstream::Upstream;

const PARKED: &str = "portolan_http_downstream_cx_parked";

fn start(app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .argument("--drain-time")
        .argument("10s")
        .start()
}

fn ask(connection: &mut Connection, path: &str) {
    assert_eq!(connection.request(&Request::get("h", path)).unwrap().status, 200, "{path}");
}

#[test]
fn parked_connections_serve_on_also_heads_in_pieces_and_bodies() {
    let app = Upstream::start("app");
    let gateway = start(&app);
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| ask(connection, "/first"));
    gateway.await_metric(PARKED, &[], 3.0);
    let [whole, pieces, body] = &mut connections[..] else { unreachable!() };
    ask(whole, "/whole");
    pieces.send(b"GET /pieces HT").unwrap();
    gateway.await_metric(PARKED, &[], 1.0);
    pieces.send(b"TP/1.1\r\nhost: h\r\n\r\nGET /pipelined HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert_eq!(pieces.response(false).unwrap().seen_request_line(), "GET /pieces HTTP/1.1");
    assert_eq!(pieces.response(false).unwrap().seen_request_line(), "GET /pipelined HTTP/1.1");
    let sent = "x".repeat(100_000);
    let echo = Request::new("POST", "h", "/echo").order("echo").body(sent.clone());
    assert_eq!(body.request(&echo).unwrap().text(), sent);
    gateway.await_metric(PARKED, &[], 3.0);
    let refused = pieces.request(&Request::get("h", "/").header("content-length", "1, 1")).unwrap();
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")), "the guard looks on");
    connections.clear();
    gateway.await_metric("envoy_http_downstream_cx_active", &[], 0.0);
    gateway.await_metric(PARKED, &[], 0.0);
}

#[test]
fn parked_connections_are_closed_by_a_drain() {
    let app = Upstream::start("app");
    let mut gateway = start(&app);
    let mut connection = gateway.connect();
    ask(&mut connection, "/");
    gateway.await_metric(PARKED, &[], 1.0);
    gateway.signal("TERM");
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!(connection.is_closed());
}

#[test]
fn a_client_that_does_not_read_its_answer_is_not_parked() {
    let app = Upstream::start("app");
    let gateway = start(&app);
    let (mut slow, mut idle) = (gateway.connect(), gateway.connect());
    slow.send(&Request::get("h", "/large").order("bytes 20000000").to_bytes()).unwrap();
    ask(&mut idle, "/");
    gateway.await_metric(PARKED, &[], 1.0);
    let response = slow.response(false).unwrap();
    assert_eq!((response.status, response.body.len()), (200, 20_000_000));
    gateway.await_metric(PARKED, &[], 2.0);
    ask(&mut slow, "/again");
}

#[test]
fn parked_connections_keep_their_tls() {
    let (authority, app) = (Authority::new("ca"), Upstream::start("a"));
    let tls = Tls::of_one_host(&authority, &app);
    let mut connection = tls.client(&authority).http("a.test").unwrap();
    for path in ["/1", "/2"] {
        assert_eq!(connection.request(&Request::get("a.test", path)).unwrap().status, 200);
        tls.gateway.await_metric(PARKED, &[], 1.0);
    }
}
