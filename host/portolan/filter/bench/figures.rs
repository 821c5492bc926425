//! [`Figures`]: what was measured, and the [`Report`] that is made of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use portolan_proxy::Samples;
use serde::Serialize;

/// Number of the form of the JSON report; grows when a reader would have to change.
const SCHEMA: u32 = 1;

/// Parts of the run whose medians are compared.
const SLICES: usize = 10;

/// As it was measured.
pub(super) struct Figures {
    pub(super) module: PathBuf,
    pub(super) module_bytes: u64,
    pub(super) case: Option<String>,
    pub(super) request: String,
    pub(super) compile: Duration,
    pub(super) start: Duration,
    pub(super) memory_at_start: u64,
    pub(super) memory_after: u64,
    /// By callback, per request.
    pub(super) host_calls: Vec<(String, f64)>,
    pub(super) budget: Option<Duration>,
    pub(super) samples: Samples,
    pub(super) overhead: Duration,
}

/// As it is told. Times are nanoseconds where the name says so.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema: u32,
    /// The file.
    pub(super) module: String,
    /// Its size.
    pub(super) module_bytes: u64,
    /// The case whose request was sent.
    pub(super) case: Option<String>,
    /// Method and path.
    pub(super) request: String,
    /// Requests that were measured.
    pub(super) requests: usize,
    /// Of the module, without any cache.
    pub(super) compile_ns: u64,
    /// Of an instance, up to the end of `on_configure`.
    pub(super) start_ns: u64,
    /// Linear memory of an instance.
    pub(super) memory_at_start_bytes: u64,
    /// The same after all requests.
    pub(super) memory_after_bytes: u64,
    /// In the order of a request.
    pub(super) callbacks: Vec<Row>,
    /// All callbacks of one request together.
    pub(super) per_request: Row,
    /// Requests that the filter answered itself.
    pub(super) answered: u64,
    /// Requests that the filter held for good.
    pub(super) held: u64,
    /// How far the medians of ten slices of the run lie apart, in per cent of the median.
    pub(super) spread_percent: f64,
    /// What looking at the clock takes; taken off each time.
    pub(super) clock_ns: u64,
    /// For the median of a request.
    pub(super) budget_ns: Option<u64>,
    /// Whether it is kept; null without a budget.
    within_budget: Option<bool>,
}

/// One callback.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// `on_request_headers`; `request` for all together.
    pub(super) callback: String,
    /// Calls of it per request.
    pub(super) calls: f64,
    pub(super) median_ns: u64,
    pub(super) p99_ns: u64,
    /// Calls of the host in it, per request.
    pub(super) host_calls: f64,
}

/// The order of a request.
const ORDER: [&str; 11] = [
    "on_context_create",
    "on_request_headers",
    "on_request_body",
    "on_request_trailers",
    "on_http_call_response",
    "on_grpc_close",
    "on_redis_call_response",
    "on_response_headers",
    "on_response_body",
    "on_response_trailers",
    "on_done",
];

impl Figures {
    /// Sorts and sums up.
    pub(super) fn report(self) -> anyhow::Result<Report> {
        let Self { samples, host_calls, .. } = self;
        let requests = samples.requests.len();
        let calls_of = |name: &str| host_calls.iter().find(|(known, _)| known == name).map_or(0.0, |(_, calls)| *calls);
        let row = |name: &&str| {
            let times = samples.callbacks.get(*name)?;
            Some(Row::new(name, times, requests, calls_of(name)))
        };
        let callbacks: Vec<_> = ORDER.iter().filter_map(row).collect();
        let total = callbacks.iter().map(|row| row.host_calls).sum();
        let per_request = Row::new("request", &samples.requests, requests, total);
        let budget_ns = self.budget.map(nanos);
        Ok(Report {
            schema: SCHEMA,
            module: self.module.file_name().context("a module has a name")?.to_string_lossy().into_owned(),
            module_bytes: self.module_bytes,
            case: self.case,
            request: self.request,
            requests,
            compile_ns: nanos(self.compile),
            start_ns: nanos(self.start),
            memory_at_start_bytes: self.memory_at_start,
            memory_after_bytes: self.memory_after,
            spread_percent: spread(&samples.requests, per_request.median_ns),
            clock_ns: nanos(self.overhead),
            within_budget: budget_ns.map(|budget| per_request.median_ns <= budget),
            budget_ns,
            callbacks,
            per_request,
            answered: samples.answered,
            held: samples.held,
        })
    }
}

impl Report {
    /// True when there is a budget, and the median of a request is above it.
    pub(super) fn is_over_budget(&self) -> bool {
        self.within_budget == Some(false)
    }
}

impl Row {
    fn new(callback: &str, times: &[u32], requests: usize, host_calls: f64) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        Self {
            callback: callback.to_owned(),
            calls: times.len() as f64 / requests.max(1) as f64,
            median_ns: at(&sorted, 0.5),
            p99_ns: at(&sorted, 0.99),
            host_calls,
        }
    }
}

/// The time that this share of the sorted times does not exceed.
fn at(sorted: &[u32], share: f64) -> u64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default().into()
}

fn spread(times: &[u32], median: u64) -> f64 {
    let median_of = |slice: &[u32]| {
        let mut sorted = slice.to_vec();
        sorted.sort_unstable();
        at(&sorted, 0.5)
    };
    let medians: Vec<_> = times.chunks(times.len().div_ceil(SLICES).max(1)).map(median_of).collect();
    let (least, most) = (medians.iter().min().copied(), medians.iter().max().copied());
    let apart = most.unwrap_or_default() - least.unwrap_or_default();
    (apart as f64 * 1000.0 / median.max(1) as f64).round() / 10.0
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles_are_of_the_sorted_times() {
        let times: Vec<u32> = (1..=1000).rev().collect();
        let row = Row::new("a", &times, 500, 2.0);
        assert_eq!((row.median_ns, row.p99_ns, row.calls), (501, 991, 2.0));
        assert_eq!(Row::new("a", &[], 0, 0.0).median_ns, 0);
    }

    #[test]
    fn the_spread_is_that_of_the_slices_medians() {
        assert!(spread(&[100; 1000], 100).abs() < f64::EPSILON);
        let times: Vec<u32> = (0..1000).map(|index| if index < 100 { 110 } else { 100 }).collect();
        assert!((spread(&times, 100) - 10.0).abs() < f64::EPSILON);
    }
}
