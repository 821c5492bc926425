//! The filter as the host sees it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use portolan_model::filter::{Breaker, SCHEMA};
use portolan_model::{CircuitBreakers, OutlierDetection};
use portolan_sdk::testing::TestHost;

use super::*;

const OUTLIER: OutlierDetection = OutlierDetection {
    consecutive_5xx: 2,
    consecutive_gateway_errors: 0,
    consecutive_local_origin_failures: None,
    interval_ms: 1_000,
    base_ejection_time_ms: 3_000,
    max_ejection_percent: 100,
    min_health_percent: 0,
};

/// Cluster 0 has nothing, 1 has limits, 2 has outlier detection.
fn start() -> TestHost<CircuitBreaker> {
    let limits = CircuitBreakers { max_requests: 7, ..CircuitBreakers::default() };
    let clusters = vec![
        None,
        Some(Breaker { limits, outlier: None }),
        Some(Breaker { limits: CircuitBreakers::default(), outlier: Some(OUTLIER) }),
    ];
    TestHost::start(&serde_json::to_string(&CircuitBreakerConfig { schema: SCHEMA, clusters }).unwrap()).unwrap()
}

fn cluster(id: u8) -> [u8; 8] {
    [id, 0, 0, 0, 0, 0, 0, 0]
}

fn record(consecutive_5xx: u32) -> EndpointRecord {
    EndpointRecord { consecutive_5xx, endpoints: 3, now_ms: 10_000, ..EndpointRecord::default() }
}

#[test]
fn a_cluster_without_limits_is_admitted_without_limits_and_only_failures_may_be_of_interest() {
    let host = start();
    host.answer(ADMIT_FUNCTION, |_| Ok(vec![Admission::Admitted as u8]));
    for property in [cluster(0).as_slice(), &cluster(2), &cluster(9), &[255; 8], b"outbound|80||a"] {
        let mut stream = host.stream();
        stream.set_property(CLUSTER_PROPERTY, property);
        assert_eq!(stream.request_headers(&[]), Action::Continue);
    }
    assert_eq!(host.stream().request_headers(&[]), Action::Continue, "no cluster at all");
    let max = [255; 4];
    let (no_response, failures) = ([max; 5].concat(), [max, max, max, max, [0xf4, 1, 0, 0]].concat());
    let arguments: Vec<_> = host.foreign_calls().into_iter().map(|(_, argument)| argument).collect();
    assert_eq!(
        arguments,
        [&no_response, &failures, &no_response, &no_response, &no_response, &no_response].map(Clone::clone)
    );
}

#[test]
fn an_admitted_request_goes_on() {
    let host = start();
    for admission in [Admission::Admitted, Admission::NoCluster] {
        host.answer(ADMIT_FUNCTION, move |_| Ok(vec![admission as u8]));
        let mut stream = host.stream();
        stream.set_property(CLUSTER_PROPERTY, &cluster(1));
        assert_eq!(stream.request_headers(&[]), Action::Continue);
        assert_eq!(stream.reply(), None);
    }
    let max = [255; 4];
    assert_eq!(host.foreign_calls()[0].1, [max, max, [7, 0, 0, 0], max, max].concat());
}

#[test]
fn overflow_is_answered_as_envoy_does() {
    let host = start();
    host.answer(ADMIT_FUNCTION, |_| Ok(vec![Admission::Overflow as u8]));
    let mut stream = host.stream();
    stream.set_property(CLUSTER_PROPERTY, &cluster(1));
    assert_eq!(stream.request_headers(&[]), Action::Pause);
    let reply = stream.reply().unwrap();
    assert_eq!((reply.status, reply.details.as_str()), (503, "overflow"));
    assert_eq!(reply.body, "upstream connect error or disconnect/reset before headers. reset reason: overflow");
    assert_eq!(reply.headers, [("x-envoy-overloaded".into(), "true".into())]);
}

#[test]
fn responses_of_a_cluster_without_outlier_detection_are_not_reported() {
    let host = start();
    let mut stream = host.stream();
    stream.set_property(CLUSTER_PROPERTY, &cluster(1));
    stream.response_headers(&[(":status", "503")]);
    stream.foreign_function(TRY_ENDED, &503_u16.to_le_bytes());
    assert_eq!(host.foreign_calls(), []);
}

#[test]
fn each_outcome_is_reported_and_the_second_error_ejects() {
    let host = start();
    host.answer(REPORT_FUNCTION, |outcome| Ok(record(u32::from(outcome[0]) * 2).to_bytes().to_vec()));
    host.answer(EJECT_FUNCTION, |_| Ok(vec![1]));
    for status in ["200", "500"] {
        let mut stream = host.stream();
        stream.set_property(CLUSTER_PROPERTY, &cluster(2));
        assert_eq!(stream.response_headers(&[(":status", status)]), Action::Continue);
    }
    let ejection = [3_000_u64.to_le_bytes().as_slice(), &100_u32.to_le_bytes()].concat();
    let report = |outcome| (REPORT_FUNCTION.to_string(), vec![outcome]);
    assert_eq!(host.foreign_calls(), [report(0), report(1), (EJECT_FUNCTION.to_string(), ejection)]);
}

#[test]
fn a_try_that_is_retried_counts_too() {
    let host = start();
    host.answer(REPORT_FUNCTION, |_| Ok(record(1).to_bytes().to_vec()));
    let mut stream = host.stream();
    stream.set_property(CLUSTER_PROPERTY, &cluster(2));
    stream.foreign_function(TRY_ENDED, &504_u16.to_le_bytes());
    stream.foreign_function(1, &504_u16.to_le_bytes());
    assert_eq!(host.foreign_calls(), [(REPORT_FUNCTION.to_string(), vec![2])]);
}

#[test]
fn a_response_without_endpoint_has_no_further_effect() {
    let host = start();
    host.answer(REPORT_FUNCTION, |_| Ok(Vec::new()));
    let mut stream = host.stream();
    stream.set_property(CLUSTER_PROPERTY, &cluster(2));
    assert_eq!(stream.response_headers(&[(":status", "503")]), Action::Continue);
    assert_eq!(host.logs(), []);
}

#[test]
fn what_is_no_answer_is_told_by_the_details_and_by_the_end_of_a_try() {
    let apart = OutlierDetection { consecutive_local_origin_failures: Some(5), ..OUTLIER };
    let clusters = vec![Some(Breaker { limits: CircuitBreakers::default(), outlier: Some(apart) })];
    let config = CircuitBreakerConfig { schema: SCHEMA, clusters };
    let host: TestHost<CircuitBreaker> = TestHost::start(&serde_json::to_string(&config).unwrap()).unwrap();
    host.answer(REPORT_FUNCTION, |_| Ok(record(1).to_bytes().to_vec()));
    for details in ["via_upstream", "upstream_reset_before_response_started{connection_failure}"] {
        let mut stream = host.stream();
        stream.set_property(CLUSTER_PROPERTY, &cluster(0));
        stream.set_property(CODE_DETAILS, details.as_bytes());
        stream.response_headers(&[(":status", "503")]);
    }
    let mut stream = host.stream();
    stream.set_property(CLUSTER_PROPERTY, &cluster(0));
    for data in [[0xf7, 1, 0], [0xf7, 1, 1]] {
        stream.foreign_function(TRY_ENDED, &data);
    }
    let outcomes: Vec<_> = host.foreign_calls().into_iter().map(|(_, outcome)| outcome[0]).collect();
    assert_eq!(outcomes, [2, 3, 2, 3]);
}
