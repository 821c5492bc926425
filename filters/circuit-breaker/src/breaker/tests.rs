//! Thresholds, shares and times of ejection.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;

use super::*;

const POLICY: OutlierDetection = OutlierDetection {
    consecutive_5xx: 5,
    consecutive_gateway_errors: 0,
    consecutive_local_origin_failures: None,
    interval_ms: 10_000,
    base_ejection_time_ms: 30_000,
    max_ejection_percent: 100,
    min_health_percent: 0,
};

const RECORD: EndpointRecord = EndpointRecord {
    consecutive_5xx: 5,
    consecutive_gateway_errors: 5,
    consecutive_local_origin_failures: 5,
    ejections: 0,
    ejected: 0,
    endpoints: 2,
    ejected_endpoints: 0,
    since_return_ms: u64::MAX,
    now_ms: 20_000,
};

fn time(verdict: Verdict) -> Option<u64> {
    match verdict {
        Verdict::Keep => None,
        Verdict::Eject(argument) => Some(u64::from_le_bytes(argument[..8].try_into().unwrap())),
    }
}

fn gateway_error(record: EndpointRecord, policy: OutlierDetection) -> Option<u64> {
    time(judge(&record, Outcome::GatewayError, &policy))
}

#[test]
fn a_status_is_classified_as_envoy_does() {
    for (status, outcome) in [
        (0, Outcome::Success),
        (200, Outcome::Success),
        (429, Outcome::Success),
        (499, Outcome::Success),
        (500, Outcome::ServerError),
        (501, Outcome::ServerError),
        (502, Outcome::GatewayError),
        (503, Outcome::GatewayError),
        (504, Outcome::GatewayError),
        (505, Outcome::ServerError),
        (599, Outcome::ServerError),
    ] {
        assert_eq!(classify(status), outcome, "{status}");
    }
}

#[test]
fn failures_that_are_no_answer_are_gateway_errors_unless_they_count_apart() {
    assert_eq!(classify_failure(503, &POLICY), Outcome::GatewayError);
    let apart = OutlierDetection { consecutive_local_origin_failures: Some(3), ..POLICY };
    assert_eq!(classify_failure(504, &apart), Outcome::LocalOriginFailure);
    let verdict = |failures| {
        let record = EndpointRecord { consecutive_local_origin_failures: failures, ..RECORD };
        time(judge(&record, Outcome::LocalOriginFailure, &apart))
    };
    assert_eq!((verdict(2), verdict(3).is_some(), verdict(4)), (None, true, None), "whatever the count of 5xx");
    assert_eq!(time(judge(&RECORD, Outcome::ServerError, &apart)), gateway_error(RECORD, POLICY));
}

#[test]
fn the_fifth_error_in_a_row_ejects_and_the_ones_before_and_after_do_not() {
    for count in 1..=12 {
        let record = EndpointRecord { consecutive_5xx: count, ..RECORD };
        assert_eq!(gateway_error(record, POLICY).is_some(), count == 5 || count == 10, "{count}");
    }
}

#[test]
fn threshold_zero_switches_a_count_off() {
    let off = OutlierDetection { consecutive_5xx: 0, ..POLICY };
    assert_eq!(gateway_error(RECORD, off), None);
    let gateway = OutlierDetection { consecutive_gateway_errors: 5, ..off };
    assert!(gateway_error(RECORD, gateway).is_some());
    assert_eq!(time(judge(&RECORD, Outcome::ServerError, &gateway)), None, "500 is no gateway error");
}

#[test]
fn a_success_never_ejects() {
    assert_eq!(judge(&RECORD, Outcome::Success, &POLICY), Verdict::Keep);
}

#[test]
fn an_ejected_endpoint_is_not_ejected_again() {
    assert_eq!(gateway_error(EndpointRecord { ejected: 1, ..RECORD }, POLICY), None);
}

#[test]
fn the_share_counts_the_next_one_in() {
    for (percent, endpoints, ejected, may) in [
        (10, 1, 0, false),
        (10, 9, 0, false),
        (10, 10, 0, true),
        (10, 19, 1, false),
        (10, 20, 1, true),
        (50, 2, 0, true),
        (50, 3, 1, false),
        (100, 1, 0, true),
        (100, 3, 2, true),
        (100, 3, 3, false),
        (0, 100, 0, false),
        (250, 2, 2, false),
    ] {
        let record = EndpointRecord { endpoints, ejected_endpoints: ejected, ..RECORD };
        let policy = OutlierDetection { max_ejection_percent: percent, ..POLICY };
        assert_eq!(gateway_error(record, policy).is_some(), may, "{percent} % of {endpoints}, {ejected} ejected");
    }
}

#[test]
fn each_ejection_lasts_longer_up_to_five_minutes() {
    let times = [0, 1, 2, 8, 9, 10, 1000]
        .map(|ejections| gateway_error(EndpointRecord { ejections, ..RECORD }, POLICY).unwrap());
    assert_eq!(times, [30_000, 60_000, 90_000, 270_000, 300_000, 300_000, 300_000]);
}

#[test]
fn a_base_time_above_the_cap_counts_as_it_is() {
    let policy = OutlierDetection { base_ejection_time_ms: 600_000, ..POLICY };
    assert_eq!(gateway_error(EndpointRecord { ejections: 3, ..RECORD }, policy), Some(600_000));
}

#[test]
fn return_waits_for_the_next_sweep() {
    let at = |now_ms| gateway_error(EndpointRecord { now_ms, ..RECORD }, POLICY).unwrap();
    assert_eq!((at(20_000), at(20_001), at(29_999)), (30_000, 39_999, 30_001));
}

#[test]
fn the_cluster_is_the_first_word_of_the_property() {
    assert_eq!(cluster(&[7, 1, 0, 0, 9, 0, 0, 0]), Some(263));
    assert_eq!(cluster(b"outbound|80||a"), None);
}

proptest! {
    #[test]
    fn every_time_ends_on_a_sweep_and_is_at_least_the_base(
        ejections: u32,
        now_ms in 0_u64..u64::MAX / 2,
        interval_ms in 1_u64..100_000,
        base_ejection_time_ms in 1_u64..1_000_000,
    ) {
        let policy = OutlierDetection { interval_ms, base_ejection_time_ms, ..POLICY };
        let time = gateway_error(EndpointRecord { ejections, now_ms, ..RECORD }, policy).unwrap();
        prop_assert!(time >= base_ejection_time_ms);
        prop_assert!(time < base_ejection_time_ms.max(MAX_EJECTION_MS) + interval_ms);
        prop_assert_eq!((now_ms + time) % interval_ms, 0);
    }

    #[test]
    fn no_record_overflows(
        words in prop::array::uniform6(any::<u32>()),
        longs in prop::array::uniform2(any::<u64>()),
        base_ejection_time_ms: u64,
        interval_ms: u64,
        max_ejection_percent: u32,
    ) {
        let record = EndpointRecord {
            consecutive_5xx: words[0],
            consecutive_gateway_errors: words[1],
            consecutive_local_origin_failures: words[3],
            ejections: words[2],
            ejected: 0,
            endpoints: words[4],
            ejected_endpoints: words[5],
            since_return_ms: longs[0],
            now_ms: longs[1],
        };
        let policy = OutlierDetection {
            consecutive_5xx: 1,
            consecutive_gateway_errors: words[3],
            consecutive_local_origin_failures: Some(words[2]),
            interval_ms,
            base_ejection_time_ms,
            max_ejection_percent,
            min_health_percent: 0,
        };
        judge(&record, Outcome::GatewayError, &policy);
        judge(&record, Outcome::LocalOriginFailure, &policy);
    }
}
