//! [`Samples`]: how long callbacks took, less what the clock itself takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most samples of one callback; later ones are counted and not kept.
const MAX_SAMPLES: usize = 2_000_000;

/// Looks at the clock for [`clock_overhead`].
const LOOKS: usize = 10_001;

/// Times in nanoseconds, in order.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// By callback; an answer to a callout is one too.
    pub callbacks: BTreeMap<&'static str, Vec<u32>>,
    /// All callbacks of one request together.
    pub requests: Vec<u32>,
    /// Requests that the filter held for good, and that were given up: no callout was left whose answer could release
    /// them.
    pub held: u64,
    /// Requests that the filter answered itself.
    pub answered: u64,
    overhead: Duration,
    /// Of the request that runs.
    sum: u64,
}

impl Samples {
    /// None yet. `overhead` is taken off each.
    pub fn new(overhead: Duration) -> Self {
        Self { overhead, ..Self::default() }
    }

    pub(super) fn note(&mut self, callback: &'static str, took: Duration) {
        let nanos = u32::try_from(took.saturating_sub(self.overhead).as_nanos()).unwrap_or(u32::MAX);
        self.sum += u64::from(nanos);
        let samples = self.callbacks.entry(callback).or_default();
        if samples.len() < MAX_SAMPLES {
            samples.push(nanos);
        }
    }

    pub(super) fn end_request(&mut self) {
        let sum = u32::try_from(std::mem::take(&mut self.sum)).unwrap_or(u32::MAX);
        if self.requests.len() < MAX_SAMPLES {
            self.requests.push(sum);
        }
    }
}

/// What two looks at the clock take, one after the other: the median of many.
pub fn clock_overhead() -> Duration {
    let mut looks: Vec<Duration> = (0..LOOKS).map(|_| Instant::now().elapsed()).collect();
    looks.sort_unstable();
    looks[LOOKS / 2]
}
