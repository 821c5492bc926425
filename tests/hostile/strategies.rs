//! What `failStrategy` says, on every worker alike.

use crate::support::client::Request;
use crate::support::probe::Probe;

#[test]
fn a_trap_costs_one_request_on_every_worker() {
    let probe = Probe::start();
    for round in 0..12 {
        assert_eq!(probe.get("request_headers { trap }").status, 503, "round {round}");
        for _ in 0..4 {
            let next = probe.get("response_headers { is 1 }");
            assert_eq!((next.status, next.header("x-saw").is_some()), (200, true), "round {round}: {next:?}");
        }
    }
    assert!(
        probe.gateway.metric("portolan_filter_traps_total", &[]) >= 12.0,
        "{}",
        probe.gateway.admin("/stats/prometheus").text()
    );
}

#[test]
fn fail_open_passes_the_request_that_trapped() {
    let probe = Probe::with("  failStrategy: FAIL_OPEN\n");
    for round in 0..12 {
        let trapped = probe.get("request_headers { trap }");
        assert_eq!((trapped.status, trapped.upstream()), (200, "app"), "round {round}");
        let next = probe.get("response_headers { is 1 }");
        assert_eq!((next.status, next.header("x-saw").is_some()), (200, true), "round {round}: the filter is back");
    }
}

#[test]
fn fail_reload_brings_the_filter_back() {
    let probe = Probe::with("  failStrategy: FAIL_RELOAD\n");
    for round in 0..12 {
        assert_eq!(probe.get("request_headers { trap }").status, 503, "round {round}");
        let next = probe.get("response_headers { is 1 }");
        assert_eq!((next.status, next.header("x-saw").is_some()), (200, true), "round {round}: {next:?}");
    }
}

#[test]
fn other_streams_of_a_vm_that_trapped_get_an_answer() {
    let probe = Probe::start();
    let held: Vec<_> = (0..6)
        .map(|_| {
            let mut connection = probe.gateway.connect();
            let request = crate::support::probe::asking("request_headers { is 1 }").order("delay 400");
            connection.send(&request.to_bytes()).unwrap();
            connection
        })
        .collect();
    crate::support::await_true("the requests to be on their way", || probe.app.in_flight() == 6);
    for _ in 0..4 {
        assert_eq!(probe.get("request_headers { trap }").status, 503);
    }
    for mut connection in held {
        let status = connection.response(false).unwrap().status;
        assert!([200, 503].contains(&status), "{status}");
    }
}

#[test]
fn fail_open_lets_a_body_go_on_unseen() {
    let probe = Probe::with("  failStrategy: FAIL_OPEN\n");
    let request = crate::support::probe::asking("response_body { trap }").order("chunks 3");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "000000000000000000010000000002"));
    let request = Request::new("POST", "h", "/").header("x-do", "request_body { trap }").order("echo").body("abcdef");
    let response = probe.gateway.send(&request);
    assert_eq!((response.status, response.text().as_str()), (200, "abcdef"));
}

#[test]
fn a_filter_that_keeps_failing_is_put_aside_and_comes_back() {
    let probe = Probe::start();
    for _ in 0..12 {
        assert_eq!(probe.get("request_headers { trap }").status, 503);
    }
    assert_eq!(probe.gateway.admin("/ready").status, 200);
    // On all workers alike, and for a second at first.
    probe.gateway.await_log("put aside");
    probe.gateway.await_answer("h", "/", |response| response.status == 200);
    for _ in 0..10 {
        let next = probe.get("response_headers { is 1 }");
        assert!([200, 503].contains(&next.status), "{next:?}");
    }
    crate::support::await_true("all workers to serve", || {
        (0..8).all(|_| probe.get("response_headers { is 1 }").header("x-saw").is_some())
    });
}
