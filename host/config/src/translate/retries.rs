//! Retry policies: Istio's default and the explicit form.

use portolan_model::RetryPolicy;

use crate::duration;
use crate::resources::istio::virtual_service::HttpRetry;

/// Words of `retryOn` that only have a meaning for what is not served yet.
pub(super) const UNSERVED_WORDS: &[&str] = &[
    "reset-before-request",
    "envoy-ratelimited",
    "retriable-headers",
    "http3-post-connect-failure",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
];

/// The policy of a rule; absent is Istio's default.
pub(super) fn translate(written: Option<&HttpRetry>) -> RetryPolicy {
    let Some(written) = written else { return RetryPolicy::default() };
    let attempts = u32::try_from(written.attempts.max(0)).unwrap_or(u32::MAX);
    if attempts == 0 {
        return RetryPolicy { attempts, connect_failure: false, refused_stream: false, ..RetryPolicy::default() };
    }
    let per_try_timeout_ms = written.per_try_timeout.as_deref().and_then(duration::parse_ms).filter(|ms| *ms > 0);
    let on = written.retry_on.as_deref().filter(|on| !on.trim().is_empty());
    let conditions = on.map_or_else(RetryPolicy::default, conditions);
    RetryPolicy { attempts, per_try_timeout_ms, ..conditions }
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
        ..RetryPolicy::default()
    }
}
