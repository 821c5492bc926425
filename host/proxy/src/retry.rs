//! What is tried again: Envoy's rules, over Istio's policies.

use std::time::Duration;

use http::HeaderMap;
use portolan_model::RetryPolicy;
use portolan_telemetry::ResponseFlags;

use crate::local_reply::Failure;

/// Whether there is another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    Yes,
    /// Nobody wants one, or it cannot be sent again.
    No,
    /// The policy would, had there been a try left.
    LimitExceeded,
    /// The policy would, but the cluster has too many retries in flight.
    Overflow,
}

impl Again {
    /// Envoy's flags for what is answered after all.
    pub(crate) fn flags(self) -> ResponseFlags {
        match self {
            Self::Yes | Self::No => ResponseFlags::NONE,
            Self::LimitExceeded => ResponseFlags::URX,
            Self::Overflow => ResponseFlags::UO,
        }
    }
}

/// Whether this end of a try, without an answer, is to be tried again. A try's timeout counts as a reset.
pub(crate) fn after_failure(policy: &RetryPolicy, failure: Failure, unsent: bool) -> bool {
    let any = policy.reset || policy.on_5xx || policy.gateway_error;
    match failure {
        Failure::Connect | Failure::ConnectTimeout => any || policy.connect_failure || policy.reset_before_request,
        Failure::Reset => any || policy.reset_before_request && unsent,
        Failure::StreamRefused => any || policy.refused_stream || policy.reset_before_request && unsent,
        Failure::StreamReset | Failure::Protocol | Failure::TryTimeout => any,
        Failure::NoCluster | Failure::NoHealthyUpstream | Failure::Overflow | Failure::Timeout => false,
    }
}

/// Whether this answer is to be tried again. One that says it is rate-limited is so by its own word only.
pub(crate) fn after_answer(policy: &RetryPolicy, status: u16, headers: &HeaderMap) -> bool {
    let by_status = policy.on_5xx && status >= 500
        || policy.gateway_error && matches!(status, 502..=504)
        || policy.retriable_4xx && status == 409
        || policy.status_codes.contains(&status);
    let grpc = || {
        let value = headers.get("grpc-status")?.to_str().ok()?;
        value.parse::<u8>().ok().filter(|status| policy.grpc_statuses.contains(status))
    };
    let is_limited = || headers.contains_key("x-envoy-ratelimited");
    if policy.envoy_ratelimited && is_limited() {
        return true;
    }
    (by_status || !policy.grpc_statuses.is_empty() && grpc().is_some()) && !is_limited()
}

/// True when something after the request was sent may ask for another try, of whatever kind the request is.
pub(crate) fn asks_after_sending(policy: &RetryPolicy) -> bool {
    policy.attempts > 0
        && (policy.reset
            || policy.on_5xx
            || policy.gateway_error
            || policy.retriable_4xx
            || policy.envoy_ratelimited
            || !policy.status_codes.is_empty()
            || !policy.grpc_statuses.is_empty() && !is_default_list(policy))
}

/// With the words that Istio gives to all routes; keeping each request for the two of gRPC would cost them all, so only
/// requests of gRPC are kept, and those without a body.
fn is_default_list(policy: &RetryPolicy) -> bool {
    policy.connect_failure && policy.refused_stream && policy.grpc_statuses == [1, 14]
}

/// True when a status of gRPC may.
pub(crate) fn asks_for_grpc(policy: &RetryPolicy) -> bool {
    policy.attempts > 0 && !policy.grpc_statuses.is_empty()
}

/// The longest pause after so many tries: each is random up to it.
pub(crate) fn longest_pause(policy: &RetryPolicy, tries: u32) -> Duration {
    let times = (1_u64 << tries.saturating_sub(1).min(4)).min(10);
    Duration::from_millis(policy.back_off_ms.saturating_mul(times))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn nothing() -> RetryPolicy {
        RetryPolicy {
            connect_failure: false,
            refused_stream: false,
            grpc_statuses: Vec::new(),
            ..RetryPolicy::default()
        }
    }

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap_or(http::header::VIA), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn istio_s_default_takes_refused_connections_and_two_statuses_of_grpc() {
        let policy = RetryPolicy::default();
        assert!(
            after_failure(&policy, Failure::Connect, true) && after_failure(&policy, Failure::ConnectTimeout, true)
        );
        assert!(after_failure(&policy, Failure::StreamRefused, false));
        for failure in [
            Failure::Reset,
            Failure::StreamReset,
            Failure::Protocol,
            Failure::TryTimeout,
            Failure::Overflow,
            Failure::Timeout,
        ] {
            assert!(!after_failure(&policy, failure, true), "{failure:?}");
        }
        let retried = |grpc| after_answer(&policy, 200, &head(&[("grpc-status", grpc)]));
        assert_eq!(["0", "1", "4", "14", "x"].map(retried), [false, true, false, true, false]);
        assert!(!after_answer(&policy, 503, &head(&[])));
    }

    #[test]
    fn each_word_takes_what_it_names() {
        let takes = |policy: &RetryPolicy| {
            let statuses = [200, 409, 500, 502, 504].map(|status| after_answer(policy, status, &head(&[])));
            let failures = [Failure::Connect, Failure::Reset, Failure::TryTimeout];
            (statuses.to_vec(), failures.map(|failure| after_failure(policy, failure, false)).to_vec())
        };
        let (yes, no) = (true, false);
        let cases = [
            (RetryPolicy { on_5xx: true, ..nothing() }, [no, no, yes, yes, yes], [yes, yes, yes]),
            (RetryPolicy { gateway_error: true, ..nothing() }, [no, no, no, yes, yes], [yes, yes, yes]),
            (RetryPolicy { reset: true, ..nothing() }, [no; 5], [yes, yes, yes]),
            (RetryPolicy { connect_failure: true, ..nothing() }, [no; 5], [yes, no, no]),
            (RetryPolicy { reset_before_request: true, ..nothing() }, [no; 5], [yes, no, no]),
            (RetryPolicy { retriable_4xx: true, ..nothing() }, [no, yes, no, no, no], [no, no, no]),
            (RetryPolicy { status_codes: vec![200, 504], ..nothing() }, [yes, no, no, no, yes], [no, no, no]),
        ];
        for (policy, statuses, failures) in cases {
            assert_eq!(takes(&policy), (statuses.to_vec(), failures.to_vec()), "{policy:?}");
        }
        assert!(after_failure(&RetryPolicy { reset_before_request: true, ..nothing() }, Failure::Reset, true));
    }

    #[test]
    fn a_rate_limited_answer_is_tried_again_by_its_own_word_only() {
        let limited = head(&[("x-envoy-ratelimited", "true")]);
        assert!(!after_answer(&RetryPolicy { on_5xx: true, ..nothing() }, 503, &limited));
        assert!(after_answer(&RetryPolicy { envoy_ratelimited: true, ..nothing() }, 429, &limited));
        assert!(!after_answer(&RetryPolicy { envoy_ratelimited: true, ..nothing() }, 429, &head(&[])));
    }

    #[test]
    fn pauses_double_up_to_ten_times_the_base() {
        let pauses: Vec<_> = (1..8).map(|tries| longest_pause(&nothing(), tries).as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 250, 250, 250]);
    }

    proptest! {
        #[test]
        fn pauses_never_shrink_and_have_a_bound(base in 1_u64..1_000_000, tries in 0_u32..100) {
            let policy = RetryPolicy { back_off_ms: base, ..nothing() };
            let (now, next) = (longest_pause(&policy, tries), longest_pause(&policy, tries + 1));
            prop_assert!(now <= next && next <= Duration::from_millis(base * 10));
        }
    }
}
