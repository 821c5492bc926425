//! `Meter`: what a guest's callbacks cost, against the deadline of one and the budget of a second.
//!
//! A look at a clock costs about as much as a small callback's own work, so most callbacks are only counted. Those that
//! are timed: the first [`EXACT`] of each second, then one of [`INTERVAL`], standing for all of them; and each one that
//! was still running at two ticks of the engine's clock, for itself. The wall's clock is the cheap one; a call that seems to
//! have taken long may have been put off by the system, and from then to the end of the second CPU time is looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

use crate::context::Phase;
use crate::engine::{Clock, TICK};
use crate::settings::VmLimits;

/// Callbacks of a second that are all timed.
const EXACT: u32 = 64;

/// After those, one of so many is timed.
const INTERVAL: u32 = 32;

/// By the wall's clock a longer call says little: the thread may not have run meanwhile.
const SUSPICIOUS: Duration = Duration::from_millis(1);

/// The callbacks as metrics tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Callback {
    /// `on_request_headers`.
    RequestHeaders,
    /// `on_request_body`.
    RequestBody,
    /// `on_request_trailers`.
    RequestTrailers,
    /// `on_response_headers`.
    ResponseHeaders,
    /// `on_response_body`.
    ResponseBody,
    /// `on_response_trailers`.
    ResponseTrailers,
    /// `on_foreign_function`.
    ForeignFunction,
    /// `on_new_connection`.
    NewConnection,
    /// `on_downstream_data`.
    DownstreamData,
    /// `on_upstream_data`.
    UpstreamData,
    /// `on_log`, `on_done` and `on_delete` of a stream, which are one step, and the closing of a connection.
    End,
    /// `on_context_create`, `on_tick`, `on_queue_ready`, answers to calls, and any other.
    Other,
}

impl Callback {
    /// All of them, each at its own number.
    pub const ALL: [Self; 12] = [
        Self::RequestHeaders,
        Self::RequestBody,
        Self::RequestTrailers,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::ForeignFunction,
        Self::NewConnection,
        Self::DownstreamData,
        Self::UpstreamData,
        Self::End,
        Self::Other,
    ];

    /// The value of the label `callback`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestHeaders => "on_request_headers",
            Self::RequestBody => "on_request_body",
            Self::RequestTrailers => "on_request_trailers",
            Self::ResponseHeaders => "on_response_headers",
            Self::ResponseBody => "on_response_body",
            Self::ResponseTrailers => "on_response_trailers",
            Self::ForeignFunction => "on_foreign_function",
            Self::NewConnection => "on_new_connection",
            Self::DownstreamData => "on_downstream_data",
            Self::UpstreamData => "on_upstream_data",
            Self::End => "on_done",
            Self::Other => "other",
        }
    }

    /// What a phase is counted as.
    pub(crate) fn of(phase: Phase) -> Self {
        match phase {
            Phase::RequestHeaders => Self::RequestHeaders,
            Phase::RequestBody { .. } => Self::RequestBody,
            Phase::RequestTrailers => Self::RequestTrailers,
            Phase::ResponseHeaders => Self::ResponseHeaders,
            Phase::ResponseBody { .. } => Self::ResponseBody,
            Phase::ResponseTrailers => Self::ResponseTrailers,
            Phase::Foreign => Self::ForeignFunction,
            Phase::NewConnection => Self::NewConnection,
            Phase::DownstreamData => Self::DownstreamData,
            Phase::UpstreamData => Self::UpstreamData,
            Phase::End | Phase::ConnectionEnd => Self::End,
            _ => Self::Other,
        }
    }
}

/// Where a VM's costs are told. Shared by all VMs of a filter, on all workers.
pub trait CostObserver: Send + Sync {
    /// `count` more calls of this callback. Told from time to time, not at each call.
    fn called(&self, callback: Callback, count: u64);

    /// A call took this much CPU time; it stands for `weight` calls.
    fn took(&self, callback: Callback, time: Duration, weight: u64);
}

/// One VM's meter.
pub(crate) struct Meter {
    clock: Arc<Clock>,
    observer: Option<Arc<dyn CostObserver>>,
    /// CPU time for one callback, or for the whole start, in nanoseconds.
    limit: u64,
    /// CPU time of all callbacks of a second, in nanoseconds.
    budget: u64,
    /// What is used of the budget.
    spent: u64,
    /// The second that runs, by the engine's clock.
    second: u64,
    /// Callbacks of this second that are still to be timed without exception.
    exact: u32,
    /// For how many calls the next timed one stands.
    interval: u32,
    /// The longest good callback that was timed.
    longest: Duration,
    /// Calls until one is timed; 0 while that one runs.
    until_timed: u32,
    /// Calls that the observer has not been told of.
    untold: [u32; Callback::ALL.len()],
    told: u64,
    callback: Callback,
    /// When the call that runs began, if it is timed.
    started: Option<Instant>,
    /// The thread's CPU time then, if that is what it is timed by.
    started_at: Option<Duration>,
    /// Timed calls are timed by CPU time.
    careful: bool,
    /// Ticks of the clock since the call began.
    ticks: u32,
    /// The thread's CPU time at the first tick; none before.
    seen: Option<Duration>,
    /// What `seen` is at the beginning of a call: during the start, the CPU time when it began.
    base: Option<Duration>,
}

impl Meter {
    /// A meter for a VM that starts now, on this thread.
    pub(crate) fn new(limits: &VmLimits, clock: &Arc<Clock>) -> Self {
        clock.wake();
        Self {
            clock: clock.clone(),
            observer: None,
            limit: nanos(limits.start_deadline),
            budget: nanos(limits.cpu_per_second).max(1),
            spent: 0,
            second: clock.millis() / 1000,
            exact: EXACT,
            interval: 1,
            longest: Duration::ZERO,
            until_timed: 1,
            untold: Default::default(),
            told: 0,
            callback: Callback::Other,
            started: None,
            started_at: None,
            careful: false,
            ticks: 0,
            seen: None,
            base: thread_time(),
        }
    }

    /// Ends the start: from now on each callback has a time of its own, and only streams' work is counted.
    pub(crate) fn end_start(&mut self, limits: &VmLimits) {
        self.limit = nanos(limits.callback_deadline);
        self.base = None;
        self.spent = 0;
        self.longest = Duration::ZERO;
        self.untold = Default::default();
        self.told = 0;
    }

    /// From now on a callback has this time.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = nanos(limit);
    }

    /// The longest good callback that was timed since the start.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    pub(crate) fn observe(&mut self, observer: Arc<dyn CostObserver>) {
        self.observer = Some(observer);
    }

    /// A call begins.
    #[inline]
    pub(crate) fn begin(&mut self, callback: Callback) {
        self.callback = callback;
        let untold = &mut self.untold[callback as usize];
        *untold = untold.wrapping_add(1);
        self.seen = self.base;
        self.ticks = 0;
        self.until_timed = self.until_timed.wrapping_sub(1);
        if self.until_timed == 0 {
            self.clock.wake();
            self.started_at = if self.careful { thread_time() } else { None };
            self.started = Some(Instant::now());
        }
    }

    /// The clock ticked while the call runs: false when its time is over.
    pub(crate) fn tick(&mut self) -> bool {
        self.clock.wake();
        self.ticks += 1;
        let Some(now) = thread_time() else { return self.ticks < 1000 };
        let seen = *self.seen.get_or_insert(now);
        nanos(now.saturating_sub(seen)) < self.limit
    }

    /// The call that began has ended.
    #[inline]
    pub(crate) fn end(&mut self, good: bool) {
        if self.until_timed == 0 || self.ticks != 0 {
            self.settle(good);
        }
    }

    /// Counts a call that was timed or took long.
    #[cold]
    fn settle(&mut self, good: bool) {
        let timed = self.until_timed == 0;
        let started = self.started.take();
        let weight = self.interval;
        self.roll();
        if timed {
            self.exact = self.exact.saturating_sub(1);
            self.interval = if self.exact > 0 { 1 } else { INTERVAL };
            self.until_timed = self.interval;
        }
        let (time, weight) = match (self.seen, started) {
            (Some(seen), _) if self.ticks > 1 => {
                let since = thread_time().map_or(Duration::ZERO, |now| now.saturating_sub(seen));
                (since + TICK, 1)
            }
            (_, Some(started)) => self.timed(started, weight),
            _ => return,
        };
        if good {
            self.longest = self.longest.max(time);
        }
        self.spent = self.spent.saturating_add(nanos(time).saturating_mul(weight.into()));
        if let Some(observer) = &self.observer {
            observer.took(self.callback, time, weight.into());
        }
        if timed {
            self.tell();
        }
    }

    /// How long a call took that was timed, and for how many it stands.
    fn timed(&mut self, started: Instant, weight: u32) -> (Duration, u32) {
        if let Some(from) = self.started_at {
            return (thread_time().map_or(Duration::ZERO, |now| now.saturating_sub(from)), weight);
        }
        let elapsed = started.elapsed();
        if elapsed < SUSPICIOUS {
            return (elapsed, weight);
        }
        // Whatever the system did meanwhile, it did not do it to the calls that this one would stand for.
        self.careful = true;
        (elapsed.min(2 * TICK), 1)
    }

    /// Tells the observer what it has not heard of.
    pub(crate) fn tell(&mut self) {
        for (callback, count) in Callback::ALL.into_iter().zip(&mut self.untold) {
            let count = u64::from(std::mem::take(count));
            self.told += count;
            if let Some(observer) = self.observer.as_ref().filter(|_| count > 0) {
                observer.called(callback, count);
            }
        }
    }

    /// Calls since the start.
    pub(crate) fn calls(&self) -> u64 {
        self.told + self.untold.iter().map(|count| u64::from(*count)).sum::<u64>()
    }

    /// True while this second's CPU time is used up.
    pub(crate) fn is_overdrawn(&mut self) -> bool {
        if self.spent < self.budget {
            return false;
        }
        self.roll();
        self.spent >= self.budget
    }

    /// Goes on with the budget of a VM that this one replaces.
    pub(crate) fn inherit(&mut self, other: &Self) {
        (self.spent, self.second, self.exact) = (other.spent, other.second, other.exact);
    }

    /// Begins a new second when the old one is over.
    fn roll(&mut self) {
        let second = self.clock.millis() / 1000;
        if second != self.second {
            let refilled = self.budget.saturating_mul(second.saturating_sub(self.second));
            self.spent = self.spent.saturating_sub(refilled);
            (self.second, self.exact) = (second, EXACT);
            self.careful = false;
        }
    }
}

impl Drop for Meter {
    /// What a VM did before it was replaced counts too.
    fn drop(&mut self) {
        self.tell();
    }
}

/// CPU time of this thread; none where the system does not tell it.
fn thread_time() -> Option<Duration> {
    ThreadTime::try_now().ok().map(|time| time.as_duration())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After this many calls of the kind: is the budget of 50 ms used up?
    fn is_used_up(calls: u32, call: impl Fn()) -> bool {
        let limits = VmLimits { cpu_per_second: Duration::from_millis(50), ..VmLimits::default() };
        // A clock that stands: all is one second, and nothing ticks.
        let mut meter = Meter::new(&limits, &Arc::default());
        meter.end_start(&limits);
        for _ in 0..calls {
            meter.begin(Callback::RequestHeaders);
            call();
            meter.end(true);
        }
        meter.is_overdrawn()
    }

    #[test]
    fn time_in_which_the_thread_did_not_run_is_not_the_filters() {
        assert!(!is_used_up(100, || std::thread::sleep(Duration::from_millis(2))));
    }

    #[test]
    fn calls_that_take_long_use_the_budget_up() {
        let begin = || thread_time().unwrap_or_default();
        assert!(is_used_up(40, || {
            let from = begin();
            while begin().saturating_sub(from) < Duration::from_millis(2) {}
        }));
    }
}
