//! `x-envoy-expected-rq-timeout-ms`: how long the upstream is waited for. Envoy tells it where a route or a try has a timeout.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Tells the shorter one of the timeout over all tries and that of one try; nothing when there is neither.
pub(crate) fn tell(headers: &mut HeaderMap, all: Option<Duration>, per_try: Option<Duration>) {
    let limits = all.into_iter().chain(per_try).filter(|limit| !limit.is_zero());
    if let Some(limit) = limits.min() {
        headers.insert(EXPECTED, milliseconds(limit));
    }
}

/// Tells a further try what is left until `end`, and no more than one try may take. What the first one was not told, or
/// a route's header operations have taken away, stays away.
pub(crate) fn tell_again(headers: &mut HeaderMap, end: Option<Instant>, per_try: Option<Duration>) {
    if headers.contains_key(EXPECTED) {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        tell(headers, left, per_try);
    }
}

fn milliseconds(limit: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: Option<u64>, per_try: Option<u64>) -> String {
        let mut headers = HeaderMap::new();
        tell(&mut headers, all.map(Duration::from_millis), per_try.map(Duration::from_millis));
        headers.get(EXPECTED).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
    }

    #[test]
    fn the_shorter_timeout_is_told_and_none_is_not() {
        let cases = [
            (None, None, "-"),
            (Some(0), None, "-"),
            (Some(300), None, "300"),
            (Some(2000), Some(250), "250"),
            (Some(250), Some(2000), "250"),
            (None, Some(250), "250"),
            (Some(0), Some(250), "250"),
        ];
        for (all, per_try, expected) in cases {
            assert_eq!(told(all, per_try), expected, "{all:?} {per_try:?}");
        }
    }

    #[test]
    fn a_further_try_is_told_what_is_left_unless_the_first_was_not_told() {
        let mut headers = HeaderMap::new();
        let past = Instant::now();
        tell_again(&mut headers, Some(past), None);
        assert!(headers.is_empty());
        tell(&mut headers, Some(Duration::from_secs(1)), None);
        tell_again(&mut headers, Some(past), None);
        assert_eq!(headers[EXPECTED], "1");
    }
}
