//! `grpc-timeout`: how long a client of gRPC waits. Istio lets the route's timeout be the most that it may be (Envoy's
//! `max_grpc_timeout`), so the shorter of the two counts; without a timeout of the route it is the client's. The upstream
//! is told what is left for it, as Envoy does.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::expected_timeout;
use crate::route::ForwardEntry;
use crate::stream::Stream;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The timeout of a gRPC request on its way to a route's destination.
pub(crate) fn of(stream: &Stream, forward: &ForwardEntry) -> Option<Duration> {
    stream.answers_grpc();
    let per_try = forward.retry.per_try_timeout_ms.map(Duration::from_millis);
    let tells = stream.view.snapshot.own_headers.debug;
    stream.with_state(|state| apply(&mut state.request.headers, forward.timeout, per_try, tells))
}

/// The timeout, 0 being none; the header then says the shorter one of it and `per_try`.
fn apply(headers: &mut HeaderMap, route: Option<Duration>, per_try: Option<Duration>, tells: bool) -> Option<Duration> {
    let asked = headers.get(GRPC_TIMEOUT).and_then(|value| parse(value.as_bytes()));
    let limit = shorter(positive(asked), positive(route));
    if let Some(told) = shorter(limit, positive(per_try)).and_then(header) {
        headers.insert(GRPC_TIMEOUT, told);
    }
    if tells {
        expected_timeout::tell(headers, limit, per_try);
    }
    limit
}

fn positive(limit: Option<Duration>) -> Option<Duration> {
    limit.filter(|limit| !limit.is_zero())
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

/// At most eight digits and a unit.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        // To whole milliseconds, as in Envoy.
        b'u' => Duration::from_millis(number.div_ceil(1000)),
        b'n' => Duration::from_millis(number.div_ceil(1_000_000)),
        _ => return None,
    })
}

/// In the finest unit in which it has at most eight digits.
fn header(limit: Duration) -> Option<HeaderValue> {
    let millis = limit.as_millis();
    let units = [(millis, 'm'), (millis / 1000, 'S'), (millis / 60_000, 'M'), (millis / 3_600_000, 'H')];
    let (number, unit) = units.into_iter().find(|(number, _)| *number < 100_000_000)?;
    HeaderValue::try_from(format!("{number}{unit}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(asked: Option<&'static str>, route: Option<u64>, per_try: Option<u64>) -> (Option<u128>, String) {
        let mut headers = HeaderMap::new();
        if let Some(asked) = asked {
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(asked));
        }
        let millis = |limit: Option<u64>| limit.map(Duration::from_millis);
        let limit = apply(&mut headers, millis(route), millis(per_try), true);
        let told = headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok()).unwrap_or("-");
        (limit.map(|limit| limit.as_millis()), told.to_owned())
    }

    #[test]
    fn the_shorter_one_counts_and_is_told() {
        let cases = [
            (None, None, None, None, "-"),
            (Some("2S"), None, None, Some(2000), "2000m"),
            (Some("2S"), Some(500), None, Some(500), "500m"),
            (Some("2S"), Some(5000), None, Some(2000), "2000m"),
            (Some("2S"), Some(5000), Some(700), Some(2000), "700m"),
            (None, Some(5000), None, Some(5000), "5000m"),
            (Some("0S"), Some(5000), None, Some(5000), "5000m"),
            (Some("1500u"), None, None, Some(2), "2m"),
            (Some("99999999H"), None, None, Some(359_999_996_400_000), "99999999H"),
            (Some("3"), None, None, None, "3"),
            (Some("123456789m"), None, None, None, "123456789m"),
        ];
        for (asked, route, per_try, limit, told) in cases {
            assert_eq!(applied(asked, route, per_try), (limit, told.to_owned()), "{asked:?} {route:?} {per_try:?}");
        }
    }
}
