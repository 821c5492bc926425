//! [`Share`]: the decision. Users are spread over 100,000 places by their hash; a share is how many of them, from the
//! first on, get the canary: while it grows, nobody goes back.

/// Number of places.
pub(crate) const ALL: u32 = 100_000;

/// How many get the canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Always so many places.
    Fixed(u32),
    /// From one number to another, evenly; seconds since 1970.
    Ramp { from: u32, to: u32, start: i64, seconds: u64 },
}

impl Share {
    /// How many places get the canary at this time, in seconds since 1970.
    pub(crate) fn at(&self, now: i64) -> u32 {
        match *self {
            Self::Fixed(places) => places,
            Self::Ramp { from, to, start, seconds } => {
                let passed = u64::try_from(now.saturating_sub(start)).unwrap_or(0).min(seconds);
                let change = |wide: u32| (u64::from(wide) as u128 * u128::from(passed) / u128::from(seconds)) as u32;
                if to >= from { from + change(to - from) } else { from - change(from - to) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ramp_goes_evenly_from_its_start_to_its_end() {
        let ramp = Share::Ramp { from: 1_000, to: 51_000, start: 100, seconds: 50 };
        let at = |now| ramp.at(now);
        assert_eq!(
            [i64::MIN, 0, 100, 101, 125, 150, 999, i64::MAX].map(at),
            [1_000, 1_000, 1_000, 2_000, 26_000, 51_000, 51_000, 51_000]
        );
        let down = Share::Ramp { from: ALL, to: 0, start: 0, seconds: 4 };
        assert_eq!([0, 1, 2, 3, 4].map(|now| down.at(now)), [ALL, 75_000, 50_000, 25_000, 0]);
    }

    proptest! {
        #[test]
        fn a_share_stays_between_its_ends_and_never_goes_back(
            from in 0..=ALL, to in 0..=ALL, start: i64, seconds in 1..u64::MAX, now: i64, later: i64,
        ) {
            let ramp = Share::Ramp { from, to, start, seconds };
            let (first, second) = (ramp.at(now.min(later)), ramp.at(now.max(later)));
            prop_assert!((from.min(to)..=from.max(to)).contains(&first));
            let order = if to >= from { first <= second } else { first >= second };
            prop_assert!(order);
        }
    }
}
