//! [`Rollout`]: a new version of a filter that gets some of the requests first, and is taken back when it does worse.
//!
//! Both versions are alive and warm. A stream takes its version when it begins and keeps it. A stream has failed when its
//! answer is 5xx, and under FAIL_OPEN when the filter failed in it. The new version is taken back when, of its last
//! [`WINDOW`] streams or so, at least [`MIN_STREAMS`] and [`MIN_FAILED`] failed ones are known, and their share is more than
//! [`MARGIN`] above the old version's; or at once when it is put aside for failing again and again. A version that was taken
//! back stays so until the object changes. Removing the annotation makes the new version the only one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::request;
use portolan_model::Canary;
use serde::Serialize;

use crate::generation::PluginGeneration;

const WINDOW: u64 = 1000;
const MIN_STREAMS: u64 = 10;
const MIN_FAILED: u64 = 3;
const MARGIN: f64 = 0.01;

/// One new version on trial, for all workers.
#[derive(Debug)]
pub struct Rollout {
    pub(crate) next: Arc<PluginGeneration>,
    pub(crate) canary: Canary,
    returned: AtomicBool,
    counts: Mutex<Counts>,
}

/// Streams of the two versions in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The new version's.
    pub canary: Share,
    /// The old version's.
    pub stable: Share,
}

/// Streams, and those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// All.
    pub streams: u64,
    /// Of these.
    pub failed: u64,
}

impl Rollout {
    pub(crate) fn new(next: Arc<PluginGeneration>, canary: Canary) -> Self {
        next.metrics.canary.set(1);
        Self { next, canary, returned: AtomicBool::new(false), counts: Mutex::default() }
    }

    /// True when the new version did worse and gets no new streams.
    pub fn is_returned(&self) -> bool {
        self.returned.load(Relaxed)
    }

    /// SHA-256 of the new version's module.
    pub fn digest(&self) -> &str {
        &self.next.digest
    }

    /// Which requests it is for.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// What was counted lately.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    /// True when a request is for the new version. `draw` is a number from 0 to 99.
    pub(crate) fn takes(&self, request: &request::Parts, draw: u8) -> bool {
        if self.is_returned() {
            return false;
        }
        if self.next.is_held() {
            self.take_back("it keeps failing");
            return false;
        }
        match &self.canary {
            Canary::Weight(weight) => draw < *weight,
            Canary::Header { name, value } => {
                let mut found = request.headers.get_all(name).iter();
                found.any(|found| value.as_ref().is_none_or(|value| found.as_bytes() == value.as_bytes()))
            }
        }
    }

    /// Counts a stream that ended.
    pub(crate) fn record(&self, canary: bool, failed: bool) {
        if canary {
            self.next.metrics.canary_streams_total.inc();
        }
        let counts = {
            let mut counts = self.lock();
            counts.add(canary, failed);
            *counts
        };
        if canary && counts.is_worse() {
            let Share { streams, failed } = counts.canary;
            let old = 100.0 * counts.stable.rate();
            self.take_back(&format!("{failed} of its {streams} streams failed, {old:.1} % of the old version's"));
        }
    }

    fn take_back(&self, reason: &str) {
        if !self.returned.swap(true, Relaxed) {
            self.next.metrics.canary.set(2);
            self.next.metrics.canary_returns_total.inc();
            let (plugin, digest) = (&*self.next.name, &*self.next.digest);
            tracing::error!(plugin, digest, "the new version of the filter is taken back: {reason}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rollout {
    fn drop(&mut self) {
        self.next.metrics.canary.set(0);
    }
}

impl Counts {
    fn add(&mut self, canary: bool, failed: bool) {
        let share = if canary { &mut self.canary } else { &mut self.stable };
        share.streams += 1;
        share.failed += u64::from(failed);
        if share.streams > WINDOW {
            share.streams /= 2;
            share.failed /= 2;
        }
    }

    fn is_worse(&self) -> bool {
        let Share { streams, failed } = self.canary;
        streams >= MIN_STREAMS && failed >= MIN_FAILED && self.canary.rate() > self.stable.rate() + MARGIN
    }
}

impl Share {
    fn rate(self) -> f64 {
        self.failed as f64 / self.streams.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(canary: (u64, u64), stable: (u64, u64)) -> Counts {
        let share = |(streams, failed)| Share { streams, failed };
        Counts { canary: share(canary), stable: share(stable) }
    }

    #[test]
    fn a_version_is_worse_when_enough_streams_say_so() {
        assert!(counts((10, 3), (90, 0)).is_worse());
        assert!(!counts((9, 9), (90, 0)).is_worse(), "too few");
        assert!(!counts((1000, 2), (1000, 0)).is_worse(), "too few that failed");
        assert!(!counts((100, 50), (100, 50)).is_worse(), "as bad as the old one: an upstream's fault");
        assert!(!counts((100, 51), (100, 50)).is_worse(), "within the margin");
        assert!(counts((100, 53), (100, 50)).is_worse());
    }

    #[test]
    fn old_streams_fade() {
        let mut counts = Counts::default();
        for _ in 0..10_000 {
            counts.add(true, true);
        }
        for _ in 0..10_000 {
            counts.add(true, false);
        }
        assert!(counts.canary.streams <= WINDOW && counts.canary.failed < 5, "{counts:?}");
    }
}
