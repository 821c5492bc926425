//! Retry policies: Istio's default and the explicit form.

use portolan_model::RetryPolicy;

use crate::duration;
use crate::resources::istio::virtual_service::HttpRetry;

/// Words of `retryOn` without effect: Istio names no headers for the one, and there is no HTTP/3 upstream for the other.
pub(super) const WITHOUT_EFFECT: &[&str] = &["retriable-headers", "http3-post-connect-failure"];

/// Words of gRPC and the statuses that they stand for.
const GRPC_WORDS: [(&str, u8); 5] =
    [("cancelled", 1), ("deadline-exceeded", 4), ("internal", 13), ("resource-exhausted", 8), ("unavailable", 14)];

/// The policy of a rule; absent is Istio's default. `avoid_previous_hosts` is what counts when the rule does not say.
pub(super) fn translate(written: Option<&HttpRetry>, avoid_previous_hosts: bool) -> RetryPolicy {
    let Some(written) = written else { return RetryPolicy { avoid_previous_hosts, ..RetryPolicy::default() } };
    let attempts = u32::try_from(written.attempts.max(0)).unwrap_or(u32::MAX);
    if attempts == 0 {
        return RetryPolicy { attempts, connect_failure: false, refused_stream: false, ..RetryPolicy::default() };
    }
    let ms = |text: &Option<String>| text.as_deref().and_then(duration::parse_ms).filter(|ms| *ms > 0);
    let on = written.retry_on.as_deref().filter(|on| !on.trim().is_empty());
    let conditions = on.map_or_else(RetryPolicy::default, conditions);
    RetryPolicy {
        attempts,
        per_try_timeout_ms: ms(&written.per_try_timeout),
        back_off_ms: ms(&written.backoff).unwrap_or(conditions.back_off_ms),
        avoid_previous_hosts: written.retry_ignore_previous_hosts.unwrap_or(avoid_previous_hosts),
        retry_remote_localities: written.retry_remote_localities == Some(true),
        ..conditions
    }
}

fn conditions(text: &str) -> RetryPolicy {
    let words: Vec<&str> = text.split(',').map(str::trim).collect();
    let has = |word: &str| words.contains(&word);
    RetryPolicy {
        connect_failure: has("connect-failure"),
        refused_stream: has("refused-stream"),
        reset: has("reset"),
        on_5xx: has("5xx"),
        gateway_error: has("gateway-error"),
        retriable_4xx: has("retriable-4xx"),
        status_codes: words.iter().filter_map(|word| word.parse().ok()).collect(),
        grpc_statuses: GRPC_WORDS.iter().filter(|(word, _)| has(word)).map(|(_, status)| *status).collect(),
        reset_before_request: has("reset-before-request"),
        envoy_ratelimited: has("envoy-ratelimited"),
        ..RetryPolicy::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn policy(yaml: &str) -> RetryPolicy {
        translate(Some(&serde_yaml::from_str(yaml).unwrap()), true)
    }

    #[test]
    fn words_replace_the_default_list_and_numbers_are_statuses() {
        assert_eq!(policy("attempts: 2"), RetryPolicy::default());
        let written = policy("{attempts: 1, retryOn: 'unavailable,internal, 503,envoy-ratelimited'}");
        let nothing = RetryPolicy { connect_failure: false, refused_stream: false, ..RetryPolicy::default() };
        let expected = RetryPolicy {
            attempts: 1,
            status_codes: vec![503],
            grpc_statuses: vec![13, 14],
            envoy_ratelimited: true,
            ..nothing
        };
        assert_eq!(written, expected);
    }

    #[test]
    fn back_off_and_hosts_are_the_rule_s_when_it_says_so() {
        let written = policy("{attempts: 1, backoff: 1s, retryIgnorePreviousHosts: false}");
        assert_eq!((written.back_off_ms, written.avoid_previous_hosts), (1000, false));
        assert!(!translate(None, false).avoid_previous_hosts, "chosen by hash");
    }
}
