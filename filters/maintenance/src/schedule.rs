//! [`Window`]: a time from and to, written as RFC 3339 has it.

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
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to)?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
        };
        let is = |at: usize, byte: u8| text.as_bytes().get(at).is_some_and(|found| found.eq_ignore_ascii_case(&byte));
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !marks.iter().all(|(at, byte)| is(*at, *byte)) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let offset = match text.len() {
            20 if is(19, b'Z') => 0,
            25 if is(22, b':') && number(20, 22)? < 24 && number(23, 25)? < 60 => {
                let minutes = number(20, 22)? * 60 + number(23, 25)?;
                if is(19, b'+') {
                    minutes
                } else if is(19, b'-') {
                    -minutes
                } else {
                    return None;
                }
            }
            _ => return None,
        };
        let is_day = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        if !is_day || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Self((days_before(year, month, day) * 24 + hour) * 3600 + (minute - offset) * 60 + second))
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

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this day of the Gregorian calendar. Years begin in March here, so that a leap day is the last.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
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
