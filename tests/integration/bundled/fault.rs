//! `fault` between real sockets.

use std::time::{Duration, Instant};

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

#[test]
fn requests_are_aborted_and_delayed_as_their_heads_ask_for() {
    let app = Upstream::start("app");
    let config = "\
match: {headers: {x-test: {exact: 'yes'}}}
abort: {httpStatus: 418, percentage: 0}
headerControl: {maxDelay: 2s}
";
    let gateway = start(&app, &plugin("fault", config));
    let test = || Request::get("h", "/").header("x-test", "yes");
    let aborted = gateway.send(&test().header("x-fault-abort-request", 503));
    assert_eq!((aborted.status, aborted.text().as_str(), app.requests()), (503, "fault filter abort", 0));
    gateway.await_access("fault_filter_abort");
    let stranger = gateway.send(&Request::get("h", "/").header("x-fault-abort-request", 503));
    assert_eq!(stranger.status, 200);
    let began = Instant::now();
    assert_eq!(gateway.send(&test().header("x-fault-delay-request", 300)).status, 200);
    assert!(began.elapsed() >= Duration::from_millis(300), "it went on after {:?}", began.elapsed());
}

#[test]
fn many_requests_wait_side_by_side_and_then_meet_their_abort() {
    let app = Upstream::start("app");
    let config = "delay: {fixedDelay: 200ms, percentage: 100}\nabort: {grpcStatus: UNAVAILABLE, percentage: 100}";
    let gateway = start(&app, &plugin("fault", config));
    let mut connections: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        connection.send(&Request::get("h", "/").to_bytes()).unwrap();
    }
    // Gone before its time: nobody must be resumed in its place.
    drop(connections.pop());
    for connection in &mut connections {
        assert_eq!(connection.response(false).unwrap().status, 503);
    }
    assert_eq!(app.requests(), 0);
}
