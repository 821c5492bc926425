//! [`FailureLog`]: a filter's failures on their way to the log: each reason seldom, with a count; and the last one for `/filters`.

use std::time::{Instant, SystemTime};

use portolan_wasm::VmError;

use crate::seldom::Seldom;

/// Reasons that are told apart; further ones share the last place.
const MAX_REASONS: usize = 16;

/// A failure as it is shown.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// When it was.
    pub at: SystemTime,
    /// What happened, on one line.
    pub reason: String,
    /// The guest's frames with demangled names, one a line; empty when there are none.
    pub backtrace: String,
}

/// What was said, and what is to be said of the next failure.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    said: Vec<Said>,
    last: Option<LastFailure>,
}

#[derive(Debug)]
struct Said {
    reason: String,
    seldom: Seldom,
}

impl FailureLog {
    /// Keeps a failure. Gives how many of its kind went unsaid before, when it is to be logged.
    pub(crate) fn add(&mut self, error: &VmError, now: Instant) -> Option<u64> {
        let text = error.to_string();
        let (reason, backtrace) = text.split_once('\n').unwrap_or((&text, ""));
        self.last =
            Some(LastFailure { at: SystemTime::now(), reason: reason.to_owned(), backtrace: backtrace.to_owned() });
        let known = self.said.iter().position(|said| said.reason == reason);
        let at = known.unwrap_or_else(|| {
            if self.said.len() < MAX_REASONS {
                self.said.push(Said { reason: reason.to_owned(), seldom: Seldom::default() });
            }
            self.said.len() - 1
        });
        self.said[at].seldom.say(now)
    }

    pub(crate) fn last(&self) -> Option<LastFailure> {
        self.last.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seldom::INTERVAL;

    fn trap(reason: &str) -> VmError {
        VmError::Trap { reason: reason.to_owned(), backtrace: "\n  0: f".to_owned() }
    }

    #[test]
    fn a_reason_is_said_once_in_a_while_with_a_count() {
        let (mut log, now) = (FailureLog::default(), Instant::now());
        assert_eq!(log.add(&trap("a"), now), Some(0));
        assert_eq!(log.add(&trap("a"), now), None);
        assert_eq!(log.add(&trap("b"), now), Some(0));
        assert_eq!(log.add(&trap("a"), now + INTERVAL), Some(1));
        let last = log.last();
        assert_eq!(last.map(|last| (last.reason, last.backtrace)), Some(("a".to_owned(), "  0: f".to_owned())));
    }

    #[test]
    fn endless_new_reasons_take_no_endless_room() {
        let (mut log, now) = (FailureLog::default(), Instant::now());
        let logged = (0..100).filter(|number| log.add(&trap(&number.to_string()), now).is_some()).count();
        assert_eq!((logged, log.said.len()), (MAX_REASONS, MAX_REASONS));
    }
}
