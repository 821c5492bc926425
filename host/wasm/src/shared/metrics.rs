//! Metrics that filters define. They are the process's: VMs which define the same name share one metric.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::Status;

/// Most metrics of one plugin.
const MAX_PER_PLUGIN: usize = 1_000;

/// Upper bounds of a histogram's buckets; Envoy's defaults, in whole numbers.
const BOUNDS: [u64; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
    3_600_000,
];

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down, not below 0.
    Gauge,
    /// Distribution of recorded values.
    Histogram,
}

/// A metric's value at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterMetric {
    /// As the filter has defined it.
    pub name: String,
    /// Its kind.
    pub kind: MetricKind,
    /// Count of a counter, level of a gauge, sum of a histogram's values.
    pub value: u64,
    /// For a histogram.
    pub histogram: Option<FilterHistogram>,
}

/// A histogram's counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterHistogram {
    /// Number of recorded values.
    pub count: u64,
    /// Upper bound, and number of values at or below it.
    pub buckets: Vec<(u64, u64)>,
}

/// All metrics by kind and name.
#[derive(Default)]
pub(crate) struct MetricRegistry {
    metrics: Mutex<Registered>,
}

#[derive(Default)]
struct Registered {
    by_name: HashMap<(MetricKind, String), Arc<Metric>>,
    by_plugin: HashMap<String, usize>,
}

/// One metric.
pub(crate) struct Metric {
    kind: MetricKind,
    value: AtomicU64,
    /// Values per bucket, the last one for those above all bounds; empty but for histograms.
    buckets: Box<[AtomicU64]>,
}

impl MetricKind {
    /// The kind with the ABI's number.
    pub(crate) fn new(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Counter,
            1 => Self::Gauge,
            2 => Self::Histogram,
            _ => return None,
        })
    }
}

impl MetricRegistry {
    /// The metric with this kind and name, which is made when it is not there. None when the plugin has too many.
    pub(crate) fn define(&self, plugin: &str, kind: MetricKind, name: &str) -> Option<Arc<Metric>> {
        let mut registered = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kind, name.to_owned());
        if let Some(metric) = registered.by_name.get(&key) {
            return Some(metric.clone());
        }
        let count = registered.by_plugin.entry(plugin.to_owned()).or_default();
        if *count == MAX_PER_PLUGIN {
            return None;
        }
        *count += 1;
        let metric = Arc::new(Metric::new(kind));
        registered.by_name.insert(key, metric.clone());
        Some(metric)
    }

    pub(crate) fn snapshot(&self) -> Vec<FilterMetric> {
        let registered = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics: Vec<_> = registered.by_name.iter().map(|((_, name), metric)| metric.snapshot(name)).collect();
        metrics.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        metrics
    }
}

impl Metric {
    fn new(kind: MetricKind) -> Self {
        let buckets = if kind == MetricKind::Histogram { BOUNDS.len() + 1 } else { 0 };
        Self { kind, value: AtomicU64::new(0), buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Adds to a counter, sets a gauge, counts a value of a histogram.
    pub(crate) fn record(&self, value: u64) -> Status {
        match self.kind {
            MetricKind::Counter => drop(self.value.fetch_add(value, Ordering::Relaxed)),
            MetricKind::Gauge => self.value.store(value, Ordering::Relaxed),
            MetricKind::Histogram => {
                let bucket = BOUNDS.partition_point(|bound| *bound < value);
                self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
                self.value.fetch_add(value, Ordering::Relaxed);
            }
        }
        Status::Ok
    }

    /// Adds to a counter (more than 0) or changes a gauge, which stops at 0.
    pub(crate) fn increment(&self, offset: i64) -> Status {
        match self.kind {
            MetricKind::Counter if offset > 0 => drop(self.value.fetch_add(offset.unsigned_abs(), Ordering::Relaxed)),
            MetricKind::Counter | MetricKind::Histogram => return Status::BadArgument,
            MetricKind::Gauge => {
                let change = |level: u64| Some(level.saturating_add_signed(offset));
                // The closure always gives a value, so the update cannot fail.
                let _ = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
            }
        }
        Status::Ok
    }

    /// Value of a counter or gauge; none for a histogram.
    pub(crate) fn value(&self) -> Option<u64> {
        (self.kind != MetricKind::Histogram).then(|| self.value.load(Ordering::Relaxed))
    }

    fn snapshot(&self, name: &str) -> FilterMetric {
        let value = self.value.load(Ordering::Relaxed);
        let histogram = (self.kind == MetricKind::Histogram).then(|| self.histogram());
        FilterMetric { name: name.to_owned(), kind: self.kind, value, histogram }
    }

    fn histogram(&self) -> FilterHistogram {
        let mut count = 0;
        let mut cumulative = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let counts: Vec<u64> = self.buckets.iter().map(&mut cumulative).collect();
        FilterHistogram { count, buckets: BOUNDS.into_iter().zip(counts).collect() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn kinds_follow_the_rules_of_the_abi() {
        let registry = MetricRegistry::default();
        let counter = registry.define("p", MetricKind::Counter, "c").unwrap();
        assert_eq!(counter.record(2), Status::Ok);
        assert_eq!(counter.increment(3), Status::Ok);
        assert_eq!(counter.increment(0), Status::BadArgument);
        assert_eq!(counter.increment(-1), Status::BadArgument);
        assert_eq!(counter.value(), Some(5));
        let gauge = registry.define("p", MetricKind::Gauge, "g").unwrap();
        assert_eq!(gauge.record(4), Status::Ok);
        assert_eq!(gauge.increment(-1), Status::Ok);
        assert_eq!(gauge.value(), Some(3));
        assert_eq!(gauge.increment(i64::MIN), Status::Ok);
        assert_eq!(gauge.value(), Some(0));
        let histogram = registry.define("p", MetricKind::Histogram, "h").unwrap();
        assert_eq!(histogram.increment(1), Status::BadArgument);
        assert_eq!(histogram.value(), None);
    }

    #[test]
    fn a_histogram_counts_each_value_once() {
        let registry = MetricRegistry::default();
        let histogram = registry.define("p", MetricKind::Histogram, "h").unwrap();
        for value in [0, 1, 7, u64::MAX / 2] {
            assert_eq!(histogram.record(value), Status::Ok);
        }
        let snapshot = registry.snapshot().remove(0).histogram.unwrap();
        assert_eq!(snapshot.count, 4);
        assert_eq!(snapshot.buckets[..3], [(1, 2), (5, 2), (10, 3)]);
        assert_eq!(snapshot.buckets.last(), Some(&(3_600_000, 3)));
    }

    #[test]
    fn the_same_name_is_the_same_metric_and_a_plugin_has_a_limited_number() {
        let registry = MetricRegistry::default();
        let first = registry.define("p", MetricKind::Counter, "c").unwrap();
        assert!(Arc::ptr_eq(&first, &registry.define("q", MetricKind::Counter, "c").unwrap()));
        for number in 1..MAX_PER_PLUGIN {
            assert!(registry.define("p", MetricKind::Counter, &number.to_string()).is_some());
        }
        assert!(registry.define("p", MetricKind::Counter, "one too many").is_none());
        assert!(registry.define("q", MetricKind::Counter, "another plugin's").is_some());
    }
}
