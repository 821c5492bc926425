//! What `failStrategy` says, on every worker alike.

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
