//! [`Bucket`]: the decision. A token bucket kept as one number, the *theoretical arrival time* of GCRA: the time at
//! which the bucket is full again.

/// The size of a bucket and its rate, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What one token takes to come back; at least 1.
    pub interval: u64,
    /// What all of them take.
    pub burst: u64,
}

/// What a bucket says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// There was a token.
    pub allowed: bool,
    /// When the bucket is full again: what is to be kept.
    pub full_at: u64,
    /// Tokens that are left.
    pub remaining: u64,
    /// How long until there is a token; 0 when there is one.
    pub retry_after: u64,
    /// How long until the bucket is full.
    pub full_after: u64,
}

impl Bucket {
    /// Takes a token at the time `now` from a bucket that is full again at `full_at`; 0, or any time that has passed,
    /// is a full one.
    ///
    /// A time that no such bucket could have counts as an empty bucket: the clock was set back, or the rule had been
    /// a larger one.
    pub fn take(&self, full_at: u64, now: u64) -> Verdict {
        let missing = full_at.saturating_sub(now).min(self.burst);
        let after = missing + self.interval;
        if after > self.burst {
            return Verdict {
                allowed: false,
                full_at: now + missing,
                remaining: 0,
                retry_after: after - self.burst,
                full_after: missing,
            };
        }
        Verdict {
            allowed: true,
            full_at: now + after,
            remaining: (self.burst - after) / self.interval,
            retry_after: 0,
            full_after: after,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// 5 at once, one a second.
    const FIVE: Bucket = Bucket { interval: SECOND, burst: 5 * SECOND };

    /// The verdicts of requests at these times on a new bucket.
    fn run(bucket: Bucket, times: &[u64]) -> Vec<Verdict> {
        let mut full_at = 0;
        let mut take = |now: &u64| {
            let verdict = bucket.take(full_at, *now);
            full_at = verdict.full_at;
            verdict
        };
        times.iter().map(&mut take).collect()
    }

    #[test]
    fn a_full_bucket_gives_all_its_tokens_at_once() {
        let now = 1_000 * SECOND;
        let verdicts = run(FIVE, &[now; 6]);
        let remaining: Vec<_> = verdicts.iter().map(|verdict| verdict.remaining).collect();
        assert_eq!(remaining, [4, 3, 2, 1, 0, 0]);
        assert!(verdicts[..5].iter().all(|verdict| verdict.allowed));
        assert!(!verdicts[5].allowed);
        assert_eq!((verdicts[5].retry_after, verdicts[5].full_after), (SECOND, 5 * SECOND));
    }

    #[test]
    fn tokens_come_back_one_by_one() {
        let now = 1_000 * SECOND;
        let mut times = vec![now; 5];
        times.extend([now + SECOND / 2, now + SECOND, now + SECOND, now + 3 * SECOND]);
        let allowed: Vec<_> = run(FIVE, &times)[5..].iter().map(|verdict| verdict.allowed).collect();
        assert_eq!(allowed, [false, true, false, true]);
    }

    #[test]
    fn a_clock_that_is_set_back_leaves_an_empty_bucket_and_not_a_wait_of_years() {
        let verdict = FIVE.take(900_000 * SECOND, SECOND);
        assert_eq!((verdict.allowed, verdict.retry_after), (false, SECOND));
        assert!(FIVE.take(verdict.full_at, 2 * SECOND).allowed);
    }

    proptest! {
        /// Over any span no more than burst + rate x span pass, and a client that keeps to the rate always does.
        #[test]
        fn the_rate_holds_over_any_span(gaps in proptest::collection::vec(0..3 * SECOND, 1..200)) {
            let times: Vec<u64> = gaps.iter().scan(SECOND, |now, gap| { *now += gap; Some(*now) }).collect();
            let verdicts = run(FIVE, &times);
            for first in 0..times.len() {
                let mut allowed = 0;
                for last in first..times.len() {
                    allowed += u64::from(verdicts[last].allowed);
                    prop_assert!(allowed <= 5 + (times[last] - times[first]) / SECOND);
                }
            }
        }

        #[test]
        fn any_numbers_are_taken(full_at: u64, now in 0..u64::MAX / 2, interval in 1..u64::MAX / 8, tokens in 1_u64..8) {
            let bucket = Bucket { interval, burst: interval.saturating_mul(tokens).min(u64::MAX / 4) };
            let verdict = bucket.take(full_at, now);
            prop_assert!(verdict.full_at <= now + bucket.burst);
            prop_assert_eq!(verdict.allowed, verdict.retry_after == 0);
        }
    }
}
