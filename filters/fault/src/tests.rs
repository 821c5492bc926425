//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_sdk::testing::TestHost;

use super::*;

fn start(config: &str) -> TestHost<Fault> {
    TestHost::start(config).unwrap()
}

#[test]
fn an_abort_answers_in_the_upstream_s_place() {
    let host = start(r#"{"abort": {"httpStatus": 418, "percentage": 100}}"#);
    let mut stream = host.stream();
    assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Pause);
    let reply = stream.reply().unwrap();
    assert_eq!(
        (reply.status, reply.body.as_str(), reply.details.as_str()),
        (418, "fault filter abort", "fault_filter_abort")
    );
    assert_eq!((host.gauge("fault_active", &[]), host.counter("fault_injected_total", &[("kind", "abort")])), (1, 1));
    drop(stream);
    assert_eq!(host.gauge("fault_active", &[]), 0);
}

#[test]
fn a_grpc_status_comes_with_the_http_status_that_goes_with_it() {
    for (status, http, grpc) in [(r#""UNAVAILABLE""#, 503, 14), ("5", 404, 5)] {
        let host = start(&format!(r#"{{"abort": {{"grpcStatus": {status}, "percentage": 100}}}}"#));
        let mut stream = host.stream();
        stream.request_headers(&[(":path", "/")]);
        let reply = stream.reply().unwrap();
        assert_eq!((reply.status, reply.grpc_status), (http, grpc));
    }
}

#[test]
fn a_delayed_request_goes_on_when_its_time_has_come_and_not_before() {
    let host = start(r#"{"delay": {"fixedDelay": "2s", "percentage": 100}}"#);
    host.set_time(Duration::from_secs(1000));
    let mut stream = host.stream();
    assert_eq!(host.tick_period(), None);
    assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Pause);
    assert_eq!(host.tick_period(), Some(Duration::from_secs(2)));
    host.advance(Duration::from_millis(1999));
    host.tick();
    assert!(stream.is_paused());
    assert_eq!(host.tick_period(), Some(Duration::from_millis(1)));
    host.advance(Duration::from_millis(1));
    host.tick();
    assert!(!stream.is_paused() && stream.reply().is_none());
    assert_eq!(host.tick_period(), None, "nobody waits any more");
}

#[test]
fn a_request_may_be_delayed_and_then_aborted() {
    let host = start(
        r#"{"delay": {"fixedDelay": "10ms", "percentage": 100}, "abort": {"httpStatus": 503, "percentage": 100}}"#,
    );
    host.set_time(Duration::from_secs(1000));
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/")]);
    assert!(stream.reply().is_none());
    host.advance(Duration::from_millis(10));
    host.tick();
    assert_eq!(stream.reply().unwrap().status, 503);
}

#[test]
fn a_request_that_is_over_before_its_time_is_forgotten() {
    let host = start(r#"{"delay": {"fixedDelay": "10ms", "percentage": 100}}"#);
    host.set_time(Duration::from_secs(1000));
    let mut stream = host.stream();
    stream.request_headers(&[(":path", "/")]);
    drop(stream);
    host.advance(Duration::from_millis(10));
    host.tick();
    assert!(!host.calls().contains(&"proxy_continue_stream"));
    assert_eq!(host.gauge("fault_active", &[]), 0);
}

#[test]
fn no_more_faults_than_allowed_happen_at_one_time() {
    let host = start(r#"{"delay": {"fixedDelay": "10ms", "percentage": 100}, "maxActiveFaults": 1}"#);
    let mut first = host.stream();
    assert_eq!(first.request_headers(&[]), Action::Pause);
    assert_eq!(host.stream().request_headers(&[]), Action::Continue);
    assert_eq!(host.counter("fault_overflow_total", &[]), 1);
    drop(first);
    assert_eq!(host.stream().request_headers(&[]), Action::Pause);
}

#[test]
fn a_wrong_configuration_is_refused_with_its_place() {
    let refusal = |json| TestHost::<Fault>::start(json).err().unwrap();
    for (json, reason) in [
        ("{}", "none of `delay`, `abort` and `headerControl` is there"),
        (r#"{"delay": {"fixedDelay": "0s", "percentage": 1}}"#, "delay.fixedDelay: a delay is 1ms to 300s"),
        (r#"{"delay": {"fixedDelay": "1s"}}"#, "delay: missing field `percentage`"),
        (r#"{"delay": {"fixedDelay": "1s", "percentage": 101}}"#, "delay.percentage: 101 is no percentage"),
        (r#"{"abort": {"percentage": 1}}"#, "abort: one of `httpStatus` and `grpcStatus` is required"),
        (r#"{"abort": {"httpStatus": 503, "grpcStatus": 14, "percentage": 1}}"#, "exclude each other"),
        (r#"{"abort": {"httpStatus": 100, "percentage": 1}}"#, "abort.httpStatus: 100 is no status"),
        (r#"{"abort": {"grpcStatus": "GONE", "percentage": 1}}"#, "abort.grpcStatus: `GONE` is no status of gRPC"),
        (r#"{"headerControl": {"prefix": ":path"}}"#, "headerControl.prefix: this is a header by itself"),
        (r#"{"headerControl": {"maxDelay": "1h"}}"#, "headerControl.maxDelay: a delay is 1ms to 300s"),
    ] {
        let text = refusal(json);
        assert!(text.contains(reason), "{json}: {text}");
    }
}

#[test]
fn in_the_gateway_s_own_place_each_route_has_its_faults() {
    let host = start(
        r#"{"schema": 2, "routes": [
            [3, {"delay": null, "abort": [{"grpc": 14}, 1000000]}], [7, {"delay": [20, 1000000], "abort": null}]
        ]}"#,
    );
    let mut outcomes = Vec::new();
    for route in [0_u32, 3, 7, 8] {
        let mut stream = host.stream();
        stream.set_property(ROUTE_PROPERTY, &route.to_le_bytes());
        let action = stream.request_headers(&[]);
        outcomes.push((action, stream.reply().map(|reply| (reply.status, reply.grpc_status))));
    }
    let (goes_on, waits) = ((Action::Continue, None), (Action::Pause, None));
    assert_eq!(outcomes, [goes_on, (Action::Pause, Some((200, 14))), waits, goes_on]);
    assert_eq!(host.stream().request_headers(&[]), Action::Continue, "no route at all");
    let other = TestHost::<Fault>::start(r#"{"schema": 99, "routes": []}"#).err().unwrap();
    assert!(other.contains("schema 99 is not 2"), "{other}");
}
