//! [`Queue`]: the passwords whose hashes take longer than a callback should. They are computed one after the other, a slice
//! in each tick, while their requests wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Weak;
use std::time::Duration;

use portolan_filter_conditions::CpuBudget;
use portolan_sdk::{Held, HostError, timer};

use crate::BasicAuth;
use crate::cache::Key;
use crate::hash::BcryptCheck;

/// Longest slice of one callback, nanoseconds: other requests of the worker wait as long.
const SLICE: u64 = 8_000_000;

/// Rounds between two looks at the clock.
const ROUNDS: u64 = 8;

/// Time between slices: with them a worker spends no more than half of its time on passwords.
const TICK: Duration = Duration::from_millis(8);

/// Longest wait that a request is let into, nanoseconds; the host ends it after 15 s.
const MAX_WAIT: u64 = 5_000_000_000;

/// Most requests that wait.
const MAX_JOBS: usize = 256;

/// Passwords in the order in which they came.
pub(crate) struct Queue {
    jobs: RefCell<VecDeque<Job>>,
    /// Nanoseconds of one round, as they were of late; 0 before the first.
    round: Cell<u64>,
    /// Of each second.
    budget: CpuBudget,
    share: Duration,
}

/// One request that waits.
pub(crate) struct Job {
    pub(crate) check: BcryptCheck,
    pub(crate) is_known: bool,
    pub(crate) key: Key,
    pub(crate) held: Held<BasicAuth>,
    /// Gone with the stream: nobody wants to know any more.
    pub(crate) stream: Weak<()>,
}

impl Queue {
    /// A queue that may spend so much of each second.
    pub(crate) fn new(share: Duration) -> Self {
        Self { jobs: RefCell::default(), round: Cell::new(0), budget: CpuBudget::new(share), share }
    }

    /// True when nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.borrow().is_empty()
    }

    /// True when one more password would have to wait too long.
    pub(crate) fn is_full(&self) -> bool {
        let jobs = self.jobs.borrow();
        let rounds = jobs.iter().map(|job| job.check.left()).sum::<u64>();
        let time = u128::from(rounds) * u128::from(self.round.get());
        let wait = time * 1_000_000_000 / self.share.as_nanos().max(1);
        jobs.len() >= MAX_JOBS || wait > u128::from(MAX_WAIT)
    }

    /// Rounds of one check: until it is done, or the slice that has begun at `since`, or the second, is over.
    pub(crate) fn slice(&self, check: &mut BcryptCheck, since: u64) -> Result<Option<bool>, HostError> {
        let (start, before) = (portolan_sdk::now()?, check.left());
        let (mut last, mut outcome) = (start, None);
        while outcome.is_none() && last.saturating_sub(since) < SLICE && !self.budget.is_spent(last) {
            outcome = check.advance(ROUNDS);
            let now = portolan_sdk::now()?;
            self.budget.spend(last, now);
            last = now;
        }
        let rounds = before - check.left();
        if let Some(round) = last.saturating_sub(start).checked_div(rounds) {
            self.round.set(round.max(1));
        }
        Ok(outcome)
    }

    /// Does something quick; none when this second has no more time.
    pub(crate) fn at_once<R>(&self, work: impl FnOnce() -> R) -> Result<Option<R>, HostError> {
        let start = portolan_sdk::now()?;
        if self.budget.is_spent(start) {
            return Ok(None);
        }
        let done = work();
        self.budget.spend(start, portolan_sdk::now()?);
        Ok(Some(done))
    }

    /// Lets a request wait.
    pub(crate) fn push(&self, job: Job) -> Result<(), HostError> {
        let mut jobs = self.jobs.borrow_mut();
        if jobs.is_empty() {
            timer::every(TICK)?;
        }
        jobs.push_back(job);
        Ok(())
    }

    /// The first job whose stream is still there.
    pub(crate) fn pop(&self) -> Option<Job> {
        let mut jobs = self.jobs.borrow_mut();
        std::iter::from_fn(|| jobs.pop_front()).find(|job| job.stream.strong_count() > 0)
    }

    /// Puts a job back that needs more slices.
    pub(crate) fn put_back(&self, job: Job) {
        self.jobs.borrow_mut().push_front(job);
    }

    /// No more ticks where nobody waits.
    pub(crate) fn rest(&self) -> Result<(), HostError> {
        if self.jobs.borrow().is_empty() { timer::stop() } else { Ok(()) }
    }
}
