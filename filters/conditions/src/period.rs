//! [`Period`]: a time as Istio writes it.

use std::time::Duration;

use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use serde::{Deserialize, Deserializer, de};

/// `1h`, `5m`, `1.5s`, `100ms`, and sums of them such as `1m30s`. Whole milliseconds, 30 days at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

/// The longest one, in milliseconds.
const MAX_MILLIS: u64 = 30 * 24 * 3600 * 1000;

impl Period {
    /// Reads one; none for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut micros: u64 = 0;
        while !rest.is_empty() {
            let number = &rest[..rest.find(|c: char| !c.is_ascii_digit() && c != '.')?];
            rest = &rest[number.len()..];
            let unit = &rest[..rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len())];
            rest = &rest[unit.len()..];
            let unit = match unit {
                "h" => 3_600_000_000,
                "m" => 60_000_000,
                "s" => 1_000_000,
                "ms" => 1000,
                _ => return None,
            };
            micros = micros.checked_add(times(number, unit)?)?;
        }
        let is_whole = !text.is_empty() && micros.is_multiple_of(1000) && micros / 1000 <= MAX_MILLIS;
        is_whole.then_some(Self(Duration::from_micros(micros)))
    }

    /// Of whole seconds.
    pub const fn of_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub fn duration(self) -> Duration {
        self.0
    }
}

/// A decimal number of units, exactly.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = u32::try_from(part.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let fraction = part.parse::<u64>().ok()?.checked_mul(unit)?;
    let scale = 10_u64.pow(digits);
    let fraction = (fraction % scale == 0).then_some(fraction / scale)?;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(fraction)
}

impl ConfigSchema for Period {
    const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text)
            .ok_or_else(|| de::Error::custom(format!("`{text}` is no time: `5s`, `100ms`, `1h30m`, 720h at most")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Period;

    #[test]
    fn times_are_istio_s() {
        for (text, millis) in
            [("5s", 5000), ("100ms", 100), ("1h30m", 5_400_000), ("1.5s", 1500), ("0s", 0), ("0.25m", 15_000)]
        {
            assert_eq!(Period::read(text).map(Period::duration), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "+5s",
            "5us",
            "1.s",
            ".5s",
            "1.2.3s",
            "0.0001s",
            "721h",
            "99999999999999999999s",
        ] {
            assert_eq!(Period::read(text), None, "{text}");
        }
    }
}
