//! [`PluginValue`]: metrics that filters define themselves, under names that cannot take one of ours.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::cells::{counter_sample, gauge_sample};

/// A metric that a filter defined, with its present value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginValue {
    /// As the filter wrote it; characters that Prometheus does not take become `_`.
    pub name: String,
    /// What kind of metric, with the value.
    pub kind: PluginValueKind,
}

/// The ABI's three kinds of metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginValueKind {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// A distribution, in the unit that the filter records.
    Histogram {
        /// Number of records.
        count: u64,
        /// Sum of all records.
        sum: u64,
        /// Upper bounds, each with the number of records at or below it.
        buckets: Vec<(u64, u64)>,
    },
}

/// Families of filters' own metrics. Names that begin like ours are moved under `wasmcustom_`, Envoy's name for them;
/// of two metrics that come out with one name the first stays.
pub(super) fn families(values: Vec<PluginValue>) -> Vec<MetricFamily> {
    let mut by_name = BTreeMap::new();
    for value in values {
        let name = page_name(&value.name);
        by_name.entry(name).or_insert(value.kind);
    }
    by_name.into_iter().map(|(name, kind)| family(name, kind)).collect()
}

fn page_name(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == ':' { c } else { '_' };
    let clean: String = name.chars().map(keep).collect();
    let ours = ["envoy_", "portolan_"].iter().any(|prefix| clean.starts_with(prefix));
    if ours || clean.is_empty() || clean.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("wasmcustom_{clean}");
    }
    clean
}

fn family(name: String, kind: PluginValueKind) -> MetricFamily {
    let (kind, sample) = match kind {
        PluginValueKind::Counter(value) => (MetricType::COUNTER, counter_sample(Vec::new(), value as f64)),
        PluginValueKind::Gauge(value) => (MetricType::GAUGE, gauge_sample(Vec::new(), value as f64)),
        PluginValueKind::Histogram { count, sum, buckets } => {
            (MetricType::HISTOGRAM, histogram_sample(count, sum, &buckets))
        }
    };
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help("Defined by a filter".to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![sample]);
    family
}

fn histogram_sample(count: u64, sum: u64, buckets: &[(u64, u64)]) -> Metric {
    let bucket = |(bound, cumulative): &(u64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64);
        bucket.set_cumulative_count(*cumulative);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.iter().map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum as f64);
    let mut sample = Metric::from_label(Vec::new());
    sample.set_histogram(histogram);
    sample
}
