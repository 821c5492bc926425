//! [`BindAgain`]: when listeners whose address could not be bound are tried again.

use std::time::{Duration, Instant};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);

/// The longest one: each is twice as long as the one before.
const LONGEST: Duration = Duration::from_secs(30);

/// The next time, and the pause before it.
#[derive(Debug, Default)]
pub(super) struct BindAgain(Option<(Instant, Duration)>);

impl BindAgain {
    /// From the first pause on, or not at all when no address is missing.
    pub(super) fn restart(&mut self, is_wanted: bool) {
        self.0 = is_wanted.then(|| (Instant::now() + FIRST, FIRST));
    }

    /// They could not be bound now either.
    pub(super) fn later(&mut self) {
        if let Some((at, pause)) = &mut self.0 {
            *pause = (*pause * 2).min(LONGEST);
            *at = Instant::now() + *pause;
        }
    }

    /// How long to wait; none when there is nothing to wait for.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.0.map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew() {
        let mut again = BindAgain::default();
        again.later();
        assert!(again.wait().is_none());
        again.restart(true);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.extend(again.0.map(|(_, pause)| pause.as_secs()));
            assert!(again.wait().is_some_and(|wait| wait <= LONGEST));
            again.later();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        again.restart(true);
        assert!(again.wait().is_some_and(|wait| wait <= FIRST));
        again.restart(false);
        assert!(again.wait().is_none());
    }
}
