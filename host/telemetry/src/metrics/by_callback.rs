//! Cells with a series for each callback of a filter, label `callback`. They take a lock: filters' meters tell them of many
//! calls at once, so they are no part of each request.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::proto::{Bucket, LabelPair, Metric, MetricType};

use super::cells::{Cell, counter_sample, label};

/// Upper bounds in nanoseconds: a callback takes microseconds, and a deadline is some 100 ms away.
const BOUNDS: [u64; 18] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
];

/// Calls by callback.
#[derive(Debug, Default)]
pub struct CallsByCallback(Mutex<BTreeMap<&'static str, u64>>);

/// CPU time by callback, as a histogram in seconds.
#[derive(Debug, Default)]
pub struct TimeByCallback(Mutex<BTreeMap<&'static str, Times>>);

/// What one callback has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallbackTime {
    /// Calls that the times stand for.
    pub count: u64,
    /// Mean.
    pub mean: Duration,
    /// Median, by the upper bound of its bucket.
    pub p50: Duration,
    /// 99th of 100, by the upper bound of its bucket.
    pub p99: Duration,
}

#[derive(Debug, Default)]
struct Times {
    /// One count per bound, and one for what is beyond the last.
    buckets: [u64; BOUNDS.len() + 1],
    sum: u64,
}

impl CallsByCallback {
    /// Counts calls.
    pub fn add(&self, callback: &'static str, count: u64) {
        *lock(&self.0).entry(callback).or_default() += count;
    }

    /// Calls so far, by callback.
    pub fn values(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0).clone()
    }
}

impl TimeByCallback {
    /// Counts a time that stands for `weight` calls.
    pub fn observe(&self, callback: &'static str, time: Duration, weight: u64) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanos);
        let mut times = lock(&self.0);
        let times = times.entry(callback).or_default();
        times.buckets[bucket] += weight;
        times.sum = times.sum.saturating_add(nanos.saturating_mul(weight));
    }

    /// What each callback has cost so far.
    pub fn values(&self) -> BTreeMap<&'static str, CallbackTime> {
        lock(&self.0).iter().map(|(callback, times)| (*callback, times.summary())).collect()
    }
}

impl Times {
    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn summary(&self) -> CallbackTime {
        let count = self.count();
        CallbackTime {
            count,
            mean: Duration::from_nanos(self.sum / count.max(1)),
            p50: self.quantile(count.div_ceil(2)),
            p99: self.quantile((count * 99).div_ceil(100)),
        }
    }

    /// The bound of the bucket that holds the time of this rank.
    fn quantile(&self, rank: u64) -> Duration {
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(&self.buckets) {
            below += count;
            if below >= rank {
                return Duration::from_nanos(*bound);
            }
        }
        Duration::from_nanos(BOUNDS[BOUNDS.len() - 1])
    }
}

impl Cell for CallsByCallback {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        for (callback, count) in lock(&self.0).iter() {
            samples.push(counter_sample(with_callback(labels, callback), *count as f64));
        }
    }
}

impl Cell for TimeByCallback {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        for (callback, times) in lock(&self.0).iter() {
            let mut cumulative = 0;
            let bucket = |(bound, count): (&u64, &u64)| {
                cumulative += count;
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(*bound as f64 / 1e9);
                bucket.set_cumulative_count(cumulative);
                bucket
            };
            let buckets = BOUNDS.iter().zip(&times.buckets).map(bucket).collect();
            let mut histogram = prometheus::proto::Histogram::default();
            histogram.set_bucket(buckets);
            histogram.set_sample_count(times.count());
            histogram.set_sample_sum(times.sum as f64 / 1e9);
            let mut sample = Metric::from_label(with_callback(labels, callback));
            sample.set_histogram(histogram);
            samples.push(sample);
        }
    }
}

fn with_callback(labels: &[LabelPair], callback: &str) -> Vec<LabelPair> {
    let mut all = vec![label("callback", callback)];
    all.extend_from_slice(labels);
    all
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_bounds_of_buckets_and_weights_count() {
        let times = TimeByCallback::default();
        times.observe("on_log", Duration::from_nanos(900), 98);
        times.observe("on_log", Duration::from_millis(40), 2);
        let value = times.values()["on_log"];
        assert_eq!((value.count, value.p50, value.p99), (100, Duration::from_micros(1), Duration::from_millis(50)));
        times.observe("on_log", Duration::from_secs(7), 1000);
        assert_eq!(times.values()["on_log"].p50, Duration::from_secs(1));
    }
}
