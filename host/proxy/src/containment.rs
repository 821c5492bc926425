//! [`Containment`]: what a filter's failures lead to: how many spares are kept ready, and when a filter that keeps failing
//! is put aside. Decisions only; time is handed in.
//!
//! A failure costs the stream that it happened to. The next VM takes over at once, and a filter that traps now and then is
//! never put aside. It is when [`PATIENCE`] VMs in a row failed before they had done [`GOOD_CALLS`] calls, and when
//! [`MAX_DEADLINES`] callbacks were cut at their deadline within [`SPARE_WINDOW`], since each held a worker, and all that it
//! serves, for its time. Then it is held back on all workers alike for [`FIRST_HOLD`], twice as long each time up to
//! [`LONGEST_HOLD`]. After that one worker tries: after [`PROBES`] calls without a failure all others follow, and after a
//! failure the next hold begins. Holds are forgotten after [`MEMORY`] without one.
//!
//! After a deadline the filter is on a short leash for [`LEASH_TIME`]: see [`leash`].

use std::collections::VecDeque;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Calls after which a VM's failure is no longer one in a row.
pub(crate) const GOOD_CALLS: u64 = 4;
const PATIENCE: u32 = 8;
const MAX_DEADLINES: usize = 5;
const FIRST_HOLD: Duration = Duration::from_secs(1);
const LONGEST_HOLD: Duration = Duration::from_secs(32);
const MEMORY: Duration = Duration::from_secs(60);

/// Calls of the worker that tries, before the others follow; and how long it may take to make them.
const PROBES: u32 = 3;
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Spares: one, and one more for each failure within [`SPARE_WINDOW`], up to [`MAX_SPARES`].
const MAX_SPARES: usize = 8;
const SPARE_WINDOW: Duration = Duration::from_secs(10);

/// How long a filter is on a leash after a deadline, and what part of its deadline that leaves.
const LEASH_TIME: Duration = Duration::from_secs(10);
const LEASH_PART: u32 = 5;

/// The time that is left to a callback on the leash: a fifth of the deadline, so that an attack cannot hold workers for long,
/// but no less than four times what a good callback has taken, so that one slow request does not cut all the others.
pub(crate) fn leash(deadline: Duration, longest_good: Duration) -> Duration {
    (deadline / LEASH_PART).max(longest_good.saturating_mul(4)).min(deadline)
}

/// How a filter failed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A trap, the memory limit, an exit.
    Trap,
    /// A callback took too long.
    Deadline,
    /// A replacement did not start.
    Start,
}

/// Whether a worker may call the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Granted,
    Refused,
}

/// The state of one generation, the same for all workers.
#[derive(Debug, Default)]
pub(crate) struct Containment {
    recent: VecDeque<Instant>,
    deadlines: VecDeque<Instant>,
    /// Points of failures in a row.
    points: u32,
    /// Holds in a row.
    holds: u32,
    last_hold: Option<Instant>,
    hold: Hold,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    None,
    Until(Instant),
    Probing {
        by: ThreadId,
        since: Instant,
        calls: u32,
    },
}

impl Containment {
    /// Counts a failure of a VM that had made so many calls. True when a hold begins.
    pub(crate) fn fail(&mut self, failure: Failure, calls: u64, now: Instant) -> bool {
        self.recent.push_back(now);
        self.forget(now);
        if failure == Failure::Deadline {
            self.deadlines.push_back(now);
        }
        let points = if failure == Failure::Start { PATIENCE } else { 1 };
        self.points = if calls > GOOD_CALLS { points } else { self.points.saturating_add(points) };
        let holds = match self.hold {
            Hold::None => self.points >= PATIENCE || self.deadlines.len() >= MAX_DEADLINES,
            Hold::Probing { .. } => true,
            // A call that had begun before the hold.
            Hold::Until(_) => false,
        };
        if holds {
            self.hold = Hold::Until(now + FIRST_HOLD.saturating_mul(1 << self.holds.min(10)).min(LONGEST_HOLD));
            self.holds += 1;
            self.last_hold = Some(now);
            self.points = 0;
            self.deadlines.drain(..self.deadlines.len().saturating_sub(1));
        }
        holds
    }

    /// True while callbacks get less time: after a deadline, and while a filter that met some is put aside or tried.
    pub(crate) fn is_on_leash(&self, now: Instant) -> bool {
        let last = self.deadlines.back();
        last.is_some_and(|at| now.duration_since(*at) < LEASH_TIME || self.is_held())
    }

    /// True while not every call is granted.
    pub(crate) fn is_held(&self) -> bool {
        self.hold != Hold::None
    }

    /// How long the hold goes on; zero while a worker tries, none without a hold.
    pub(crate) fn held_for(&self, now: Instant) -> Option<Duration> {
        match self.hold {
            Hold::None => None,
            Hold::Until(until) => Some(until.saturating_duration_since(now)),
            Hold::Probing { .. } => Some(Duration::ZERO),
        }
    }

    /// Asks for leave to make a call, while there is a hold.
    pub(crate) fn ask(&mut self, worker: ThreadId, now: Instant) -> Leave {
        match &mut self.hold {
            Hold::None => Leave::Granted,
            Hold::Until(until) if now < *until => Leave::Refused,
            Hold::Probing { by, calls, .. } if *by == worker => {
                *calls += 1;
                if *calls > PROBES {
                    self.hold = Hold::None;
                }
                Leave::Granted
            }
            Hold::Probing { since, .. } if now.duration_since(*since) < PROBE_TIME => Leave::Refused,
            Hold::Until(_) | Hold::Probing { .. } => {
                self.hold = Hold::Probing { by: worker, since: now, calls: 1 };
                Leave::Granted
            }
        }
    }

    /// How many spares should be ready.
    pub(crate) fn spares(&mut self, now: Instant) -> usize {
        self.forget(now);
        (1 + self.recent.len()).min(MAX_SPARES)
    }

    fn forget(&mut self, now: Instant) {
        while self.recent.len() > MAX_SPARES
            || self.recent.front().is_some_and(|at| now.duration_since(*at) > SPARE_WINDOW)
        {
            self.recent.pop_front();
        }
        // The last one stays for the leash.
        while self.deadlines.len() > 1
            && self.deadlines.front().is_some_and(|at| now.duration_since(*at) > SPARE_WINDOW)
        {
            self.deadlines.pop_front();
        }
        if self.last_hold.is_some_and(|at| now.duration_since(at) > MEMORY) {
            (self.holds, self.last_hold) = (0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> ThreadId {
        std::thread::current().id()
    }

    fn other() -> ThreadId {
        std::thread::spawn(me).join().unwrap_or_else(|_| me())
    }

    #[test]
    fn a_filter_that_fails_now_and_then_is_never_held() {
        let (mut containment, now) = (Containment::default(), Instant::now());
        for _ in 0..10_000 {
            assert!(!containment.fail(Failure::Trap, 100, now));
        }
        assert_eq!(containment.spares(now), MAX_SPARES);
        assert_eq!(containment.spares(now + SPARE_WINDOW * 2), 1);
    }

    #[test]
    fn traps_in_a_row_and_deadlines_in_a_row_begin_a_hold() {
        let now = Instant::now();
        let mut containment = Containment::default();
        assert_eq!((0..7).filter(|_| containment.fail(Failure::Trap, 1, now)).count(), 0);
        assert!(containment.fail(Failure::Trap, 1, now));
        assert_eq!(containment.held_for(now), Some(FIRST_HOLD));
        assert!(!containment.fail(Failure::Trap, 1, now), "a call that was under way begins no second hold");
        let mut containment = Containment::default();
        let good = 1000;
        assert_eq!((1..MAX_DEADLINES).filter(|_| containment.fail(Failure::Deadline, good, now)).count(), 0);
        assert!(containment.fail(Failure::Deadline, good, now), "good calls between deadlines make them no cheaper");
        let mut containment = Containment::default();
        let seldom = |number| now + SPARE_WINDOW * 2 * number;
        assert!((0..100).all(|number| !containment.fail(Failure::Deadline, good, seldom(number))));
    }

    #[test]
    fn a_deadline_puts_the_filter_on_a_leash_for_a_while() {
        let now = Instant::now();
        let mut containment = Containment::default();
        assert!(!containment.fail(Failure::Trap, 1, now));
        assert!(!containment.is_on_leash(now));
        assert!(!containment.fail(Failure::Deadline, 1, now));
        assert!(containment.is_on_leash(now + LEASH_TIME / 2) && !containment.is_on_leash(now + LEASH_TIME));
        let ms = Duration::from_millis;
        assert_eq!(leash(ms(50), ms(0)), ms(10));
        assert_eq!(leash(ms(50), ms(5)), ms(20), "a filter that is slow by nature keeps its time");
        assert_eq!(leash(ms(50), ms(40)), ms(50));
    }

    #[test]
    fn after_a_hold_one_worker_tries_and_the_others_follow() {
        let now = Instant::now();
        let mut containment = Containment::default();
        assert!(containment.fail(Failure::Start, 0, now));
        assert_eq!(containment.ask(me(), now), Leave::Refused);
        let later = now + FIRST_HOLD;
        assert_eq!(containment.ask(me(), later), Leave::Granted);
        assert_eq!(containment.ask(other(), later), Leave::Refused);
        for _ in 0..PROBES {
            assert_eq!(containment.ask(me(), later), Leave::Granted);
        }
        assert!(!containment.is_held());
        assert_eq!(containment.ask(other(), later), Leave::Granted);
    }

    #[test]
    fn a_worker_without_requests_does_not_keep_the_others_waiting() {
        let now = Instant::now();
        let mut containment = Containment::default();
        assert!(containment.fail(Failure::Start, 0, now));
        let later = now + FIRST_HOLD;
        assert_eq!(containment.ask(me(), later), Leave::Granted);
        assert_eq!(containment.ask(other(), later + PROBE_TIME), Leave::Granted);
    }

    #[test]
    fn holds_double_and_are_forgotten_in_the_end() {
        let mut now = Instant::now();
        let mut containment = Containment::default();
        assert!(containment.fail(Failure::Start, 0, now));
        let mut held = Vec::new();
        for _ in 0..7 {
            held.push(containment.held_for(now).map(|time| time.as_secs()));
            now += containment.held_for(now).unwrap_or_default();
            assert_eq!(containment.ask(me(), now), Leave::Granted);
            assert!(containment.fail(Failure::Trap, 1, now));
        }
        assert_eq!(held, [1, 2, 4, 8, 16, 32, 32].map(Some));
        now += MEMORY * 2;
        assert_eq!(containment.ask(me(), now), Leave::Granted);
        assert!(containment.fail(Failure::Trap, 1, now));
        assert_eq!(containment.held_for(now), Some(FIRST_HOLD));
    }
}
