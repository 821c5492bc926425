//! [`Seldom`]: what may happen over and over and is logged once in [`INTERVAL`], with a count.

use std::time::{Duration, Instant};

/// The same is logged again after so long.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// When it was logged last.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    at: Option<Instant>,
    /// How often it has happened since then.
    unsaid: u64,
}

impl Seldom {
    /// It has happened. How often it went unsaid before, when it is to be logged.
    pub(crate) fn say(&mut self, now: Instant) -> Option<u64> {
        if self.at.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            self.unsaid += 1;
            return None;
        }
        self.at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}
