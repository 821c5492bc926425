//! [`Outage`]: keeps a Redis that is out of reach from costing each request its time-out.

use std::cell::Cell;

/// So many failures one after the other are an outage.
const FAILURES: u32 = 3;

/// How long Redis is left alone then, before one request tries again; nanoseconds.
const PAUSE: u64 = 1_000_000_000;

/// What this VM knows of its Redis.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    failures: Cell<u32>,
    until: Cell<u64>,
}

impl Outage {
    /// True when Redis should not be asked at the time `now`. During an outage one request of each pause gets false.
    pub(crate) fn lasts(&self, now: u64) -> bool {
        if self.failures.get() < FAILURES {
            return false;
        }
        // Further away than a pause: the clock was set back.
        if now < self.until.get() && self.until.get() - now <= PAUSE {
            return true;
        }
        self.until.set(now + PAUSE);
        false
    }

    pub(crate) fn answered(&self) {
        self.failures.set(0);
    }

    /// True when an outage begins with it.
    pub(crate) fn failed(&self, now: u64) -> bool {
        self.failures.set(self.failures.get().saturating_add(1));
        self.until.set(now + PAUSE);
        self.failures.get() == FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_the_third_failure_and_ends_with_an_answer() {
        let outage = Outage::default();
        for _ in 0..2 {
            assert!(!outage.failed(0));
        }
        assert!(!outage.lasts(1));
        assert!(outage.failed(0));
        assert!(outage.lasts(1));
        outage.answered();
        assert!(!outage.lasts(1));
    }

    #[test]
    fn one_request_of_each_pause_tries() {
        let outage = Outage::default();
        for _ in 0..3 {
            outage.failed(0);
        }
        assert!(outage.lasts(PAUSE - 1));
        assert!(!outage.lasts(PAUSE), "one tries");
        assert!(outage.lasts(PAUSE + 1), "the others do not wait for it");
        outage.failed(PAUSE + 2);
        assert!(outage.lasts(2 * PAUSE));
        assert!(!outage.lasts(2 * PAUSE + 2));
        assert!(!outage.lasts(0), "a clock that is set back does not make it last");
    }
}
