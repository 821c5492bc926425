//! The cells that metrics are kept in: plain atomics, a few bytes each.
//!
//! The crate `prometheus` keeps a description and its labels in every single counter, about half a kilobyte; with some
//! forty counters per cluster that is what limits the number of clusters. Here a group of cells shares its labels, and
//! the crate is used to write the page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus::proto::{Bucket, LabelPair, Metric, MetricType};

/// Upper bounds in milliseconds of Envoy's histograms.
pub const BUCKETS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// [`BUCKETS_MS`] in microseconds, the unit that is compared with on the request path.
const BUCKETS_US: [u64; 19] = {
    let mut bounds = [0; 19];
    let mut i = 0;
    while i < bounds.len() {
        bounds[i] = (BUCKETS_MS[i] * 1000.0) as u64;
        i += 1;
    }
    bounds
};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// Adds `count`.
    pub fn inc_by(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds one unless there are `limit` already. False then.
    pub fn inc_below(&self, limit: i64) -> bool {
        let next = |value: i64| (value < limit).then_some(value + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `difference`, which may be negative.
    pub fn add(&self, difference: i64) {
        self.0.fetch_add(difference, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in Envoy's buckets, told in milliseconds.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One count per bound, and one for what is beyond the last.
    pub(super) buckets: [AtomicU64; BUCKETS_US.len() + 1],
    pub(super) sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn observe_us(&self, us: u64) {
        // A scan from the left beats a binary search here: most requests end in one of the first buckets.
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

/// Responses by class of their status, the label `envoy_response_code_class`.
#[derive(Debug, Default)]
pub struct ResponseClasses([Counter; 5]);

impl ResponseClasses {
    /// Counts a response by its status; a code outside 100 to 599 counts nothing.
    pub fn inc(&self, code: u16) {
        if let Some(counter) = self.0.get(usize::from(code / 100).wrapping_sub(1)) {
            counter.inc();
        }
    }

    /// Responses of a class, 1 to 5; 0 for any other.
    pub fn value(&self, class: u16) -> u64 {
        self.0.get(usize::from(class).wrapping_sub(1)).map_or(0, Counter::value)
    }
}

/// Responses by their status, the label `envoy_response_code`. There is memory for the codes of a class from its first on.
#[derive(Debug, Default)]
pub struct ResponseCodes([OnceLock<Box<[Counter; 100]>>; 5]);

impl ResponseCodes {
    /// Counts a response; a code outside 100 to 599 counts nothing.
    pub fn inc(&self, code: u16) {
        if let Some(class) = self.0.get(usize::from(code / 100).wrapping_sub(1)) {
            let counters = class.get_or_init(|| Box::new(std::array::from_fn(|_| Counter::default())));
            counters[usize::from(code % 100)].inc();
        }
    }
}

/// Connections by the version of the PROXY protocol, the label `envoy_proxy_protocol_version`.
#[derive(Debug, Default)]
pub struct ByVersion([Counter; 2]);

impl ByVersion {
    /// Counts one of version 1 or 2; of any other nothing.
    pub fn inc(&self, version: usize) {
        if let Some(counter) = self.0.get(version.wrapping_sub(1)) {
            counter.inc();
        }
    }
}

/// Deeds by their outcome, the label `result`. Not for the request path: it takes a lock.
#[derive(Debug, Default)]
pub struct Results(Mutex<BTreeMap<&'static str, u64>>);

impl Results {
    /// Counts one deed.
    pub fn inc(&self, result: &'static str) {
        *lock(&self.0).entry(result).or_default() += 1;
    }
}

/// Things by their state, the label `state`. Not for the request path: it takes a lock.
#[derive(Debug, Default)]
pub struct States(Mutex<BTreeMap<&'static str, i64>>);

impl States {
    /// Says how many things are in a state.
    pub fn set(&self, state: &'static str, count: i64) {
        lock(&self.0).insert(state, count);
    }
}

/// A cell that can write itself to the metrics page.
pub(super) trait Cell {
    /// Type of its family.
    const TYPE: MetricType;

    /// Appends its samples under `labels`.
    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>);
}

impl Cell for Counter {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        samples.push(counter_sample(labels.to_vec(), self.value() as f64));
    }
}

impl Cell for Gauge {
    const TYPE: MetricType = MetricType::GAUGE;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        samples.push(gauge_sample(labels.to_vec(), self.value() as f64));
    }
}

impl Cell for ResponseClasses {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        for (counter, class) in self.0.iter().zip(["1", "2", "3", "4", "5"]) {
            let mut all = vec![label("envoy_response_code_class", class)];
            all.extend_from_slice(labels);
            samples.push(counter_sample(all, counter.value() as f64));
        }
    }
}

impl Cell for ResponseCodes {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        for (class, from) in self.0.iter().zip([100, 200, 300, 400, 500]) {
            let counters = class.get().into_iter().flat_map(|counters| counters.iter().zip(from..));
            for (counter, code) in counters.filter(|(counter, _)| counter.value() > 0) {
                let mut all = vec![label("envoy_response_code", &code.to_string())];
                all.extend_from_slice(labels);
                samples.push(counter_sample(all, counter.value() as f64));
            }
        }
    }
}

impl Cell for ByVersion {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        for (counter, version) in self.0.iter().zip(["1", "2"]) {
            let mut all = vec![label("envoy_proxy_protocol_version", version)];
            all.extend_from_slice(labels);
            samples.push(counter_sample(all, counter.value() as f64));
        }
    }
}

impl Cell for Results {
    const TYPE: MetricType = MetricType::COUNTER;

    fn collect(&self, _: &[LabelPair], samples: &mut Vec<Metric>) {
        samples
            .extend(lock(&self.0).iter().map(|(result, n)| counter_sample(vec![label("result", result)], *n as f64)));
    }
}

impl Cell for States {
    const TYPE: MetricType = MetricType::GAUGE;

    fn collect(&self, _: &[LabelPair], samples: &mut Vec<Metric>) {
        samples.extend(lock(&self.0).iter().map(|(state, n)| gauge_sample(vec![label("state", state)], *n as f64)));
    }
}

impl Cell for Histogram {
    const TYPE: MetricType = MetricType::HISTOGRAM;

    fn collect(&self, labels: &[LabelPair], samples: &mut Vec<Metric>) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(BUCKETS_MS.len());
        for (bound, count) in BUCKETS_MS.iter().zip(&self.buckets) {
            cumulative += count.load(Ordering::Relaxed);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        // The count is that of the last bucket and not a cell of its own, so that the two always agree.
        let count = cumulative + self.buckets[BUCKETS_MS.len()].load(Ordering::Relaxed);
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(self.sum_us.load(Ordering::Relaxed) as f64 / 1000.0);
        let mut sample = Metric::from_label(labels.to_vec());
        sample.set_histogram(histogram);
        samples.push(sample);
    }
}

/// A label of a sample.
pub(super) fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// One sample of a counter family.
pub(super) fn counter_sample(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut counter = prometheus::proto::Counter::default();
    counter.set_value(value);
    let mut sample = Metric::from_label(labels);
    sample.set_counter(counter);
    sample
}

/// One sample of a gauge family.
pub(super) fn gauge_sample(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = prometheus::proto::Gauge::default();
    gauge.set_value(value);
    let mut sample = Metric::from_label(labels);
    sample.set_gauge(gauge);
    sample
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves at worst one count undone.
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}
