//! Times as RFC 3339 writes them.

/// Seconds since 1970; fractions are cut off. None for anything else than `YYYY-MM-DDTHH:MM:SS[.F](Z|+HH:MM|-HH:MM)`.
pub fn parse(text: &str) -> Option<i64> {
    let (date, clock) = text.split_at_checked(10)?;
    let clock = clock.strip_prefix(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (time, rest) = clock.split_at_checked(8)?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    if !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = offset(without_fraction(rest)?)?;
    Some(days_before(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset)
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut next = |digits| {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse().ok()
    };
    let all = [next(digits[0])?, next(digits[1])?, next(digits[2])?];
    parts.next().is_none().then_some(all)
}

fn without_fraction(text: &str) -> Option<&str> {
    let Some(fraction) = text.strip_prefix('.') else { return Some(text) };
    let end = fraction.find(|c: char| !c.is_ascii_digit())?;
    (end > 0).then(|| &fraction[end..])
}

/// Seconds ahead of UTC.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = if let Some(rest) = text.strip_prefix('+') { (1, rest) } else { (-1, text.strip_prefix('-')?) };
    let [hour, minute, _] = numbers(&[rest, ":00"].concat(), ':', [2, 2, 2])?;
    (hour <= 23 && minute <= 59).then_some(sign * (hour * 3_600 + minute * 60))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-28T10:00:00Z", 1_795_860_000),
            ("2026-11-28T12:00:00.123+02:00", 1_795_860_000),
            ("2026-11-28t05:30:00-04:30", 1_795_860_000),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2026-11-28",
            "2026-11-28T10:00:00",
            "2026-11-28 10:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-00T00:00:00Z",
            "2026-11-28T24:00:00Z",
            "2026-11-28T10:00:00.Z",
            "2026-11-28T10:00:00+2:00",
            "2026-11-28T10:00:00Zx",
            "+026-11-28T10:00:00Z",
            "2026-11-28T10:00:00é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_day_is_one_after_the_day_before(year in 1_i64..9999, month in 1_i64..=12, day in 1_i64..=31) {
            prop_assume!(day <= days_of(year, month));
            let (next_month, next_day) = if day < days_of(year, month) { (month, day + 1) } else { (month + 1, 1) };
            let (next_year, next_month) = if next_month > 12 { (year + 1, 1) } else { (year, next_month) };
            let today = days_before(year, month, day);
            prop_assert_eq!(days_before(next_year, next_month, next_day), today + 1);
        }

        #[test]
        fn any_text_is_taken(text: String) {
            parse(&text);
        }
    }
}
