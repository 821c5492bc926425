//! Durations as Istio writes them: `5s`, `100ms`, `1m30s`, `1.5h`.

/// The duration in milliseconds, rounded up; none when the text is no duration.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    // Not what only the arithmetic has left beside a whole number.
    parse(text).map(|ms| (ms - NANOSECOND / 2.0).ceil() as u64)
}

/// True unless the text is a duration with a part of a millisecond.
pub(crate) fn is_whole_ms(text: &str) -> bool {
    parse(text).is_none_or(|ms| (ms - ms.round()).abs() < NANOSECOND / 2.0)
}

/// Milliseconds.
fn parse(text: &str) -> Option<f64> {
    if text == "0" {
        return Some(0.0);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number * unit_in_ms(&rest[..unit])?;
        rest = &rest[unit..];
    }
    (!text.is_empty() && total <= MAX_MS).then_some(total)
}

/// A hundred years: more is a slip of the pen, and sums of such times stay far from overflow.
const MAX_MS: f64 = 100.0 * 365.0 * 86_400_000.0;

/// The least part that Istio's durations have, in milliseconds.
const NANOSECOND: f64 = 0.000_001;

fn unit_in_ms(unit: &str) -> Option<f64> {
    Some(match unit {
        "h" => 3_600_000.0,
        "m" => 60_000.0,
        "s" => 1000.0,
        "ms" => 1.0,
        "us" | "µs" => 0.001,
        "ns" => 0.000_001,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{is_whole_ms, parse_ms};

    #[test]
    fn reads_what_istio_documents() {
        let cases = [("5s", 5000), ("100ms", 100), ("1m", 60_000), ("1h", 3_600_000), ("1m30s", 90_000), ("0s", 0)];
        for (text, ms) in cases {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
        }
        assert_eq!(parse_ms("1.5s"), Some(1500));
        assert_eq!(parse_ms("10us"), Some(1));
    }

    #[test]
    fn knows_parts_of_a_millisecond() {
        for text in ["1s", "1ms", "1.005s", "8.2s", "0.3s", "1000us", "0", "0s"] {
            assert!(is_whole_ms(text), "{text}");
        }
        assert_eq!(["1.005s", "8.2s", "2.3s"].map(parse_ms), [Some(1005), Some(8200), Some(2300)]);
        for text in ["0.0001s", "1.5ms", "10us", "1ns", "1s1us"] {
            assert!(!is_whole_ms(text), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "5", "s", "5 s", "-5s", "5x", "1..5s", "99999999999h"] {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
