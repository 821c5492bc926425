//! [`Window`]: a time from and to, written as RFC 3339 has it.

use portolan_filter_conditions::time;
use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use serde::{Deserialize, Deserializer, de};

/// A point in time, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub i64);

/// Longer than no time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Its first second.
    pub from: Instant,
    /// The second after its last.
    pub to: Instant,
}

impl Window {
    /// True when this moment is in it.
    pub fn holds(self, now: Instant) -> bool {
        (self.from..self.to).contains(&now)
    }
}

impl Instant {
    /// `2026-12-01T22:00:00Z`, or with an offset such as `+01:00` in place of `Z`. None for anything else; fractions of
    /// seconds are not taken.
    pub fn read(text: &str) -> Option<Self> {
        if text.contains('.') {
            return None;
        }
        time::parse(text).map(Self)
    }
}

impl ConfigSchema for Instant {
    const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused =
            || de::Error::custom(format!("`{text}` is no time: write it as `2026-12-01T22:00:00Z` or with `+01:00`"));
        Self::read(&text).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::{Instant, Window};

    #[test]
    fn times_are_those_of_rfc_3339() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2024-12-31T23:59:59Z", 1_735_689_599),
            ("2026-12-01T22:00:00Z", 1_796_162_400),
            ("2026-12-01T23:00:00+01:00", 1_796_162_400),
            ("2026-12-01t12:30:00-09:30", 1_796_162_400),
        ] {
            assert_eq!(Instant::read(text), Some(Instant(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-12-01",
            "2026-12-01T22:00Z",
            "2026-12-01T22:00:00",
            "2026-13-01T22:00:00Z",
            "2026-02-29T22:00:00Z",
            "2026-12-00T22:00:00Z",
            "2026-12-01T24:00:00Z",
            "2026-12-01T22:60:00Z",
            "2026-12-01 22:00:00Z",
            "2026-12-01T22:00:00+1:00",
            "2026-12-01T22:00:00*01:00",
            "2026-12-01T22:00:00+24:00",
            "+026-12-01T22:00:00Z",
            "2026-12-01T22:00:00é",
            "éé26-12-01T22:00:00Z",
        ] {
            assert_eq!(Instant::read(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_begins_with_its_first_second_and_ends_before_its_last() {
        let window = Window { from: Instant(10), to: Instant(20) };
        assert_eq!([9, 10, 19, 20].map(|now| window.holds(Instant(now))), [false, true, true, false]);
    }
}
