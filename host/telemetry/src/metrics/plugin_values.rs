//! [`PluginValue`]: metrics that filters define themselves, under names that cannot take one of ours, with the labels that
//! their names hold.
//!
//! The ABI has no labels. Istio's filters write them before the name, `LABEL=.=VALUE;.;` for each, and Istio's Envoys
//! are told by regular expressions to take them out again (`stats_tags`); here that needs no configuration.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{counter_sample, gauge_sample};

/// A metric that a filter defined, with its present value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginValue {
    /// As the filter wrote it, labels included; characters that Prometheus does not take become `_`.
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

/// Between a label's name and its value, and after each value.
const EQUALS: &str = "=.=";
const END: &str = ";.;";

/// Labels by name.
type Labels = BTreeMap<String, String>;

/// Families of filters' own metrics. Names that begin like ours are moved under `wasmcustom_`, Envoy's name for them;
/// of two metrics that come out with one name and the same labels the first stays, and so does the first kind of a name.
pub(super) fn families(values: Vec<PluginValue>) -> Vec<MetricFamily> {
    let mut by_name: BTreeMap<String, (MetricType, BTreeMap<Labels, PluginValueKind>)> = BTreeMap::new();
    for value in values {
        let (labels, name) = labels_of(&value.name);
        let kind = value.kind.on_page();
        let (known, series) = by_name.entry(page_name(name)).or_insert_with(|| (kind, BTreeMap::new()));
        if *known == kind {
            series.entry(labels).or_insert(value.kind);
        }
    }
    by_name.into_iter().map(|(name, (kind, series))| family(name, kind, series)).collect()
}

/// The labels that a name begins with, and the rest of it. What is no label belongs to the name.
fn labels_of(name: &str) -> (Labels, &str) {
    let (mut labels, mut rest) = (Labels::new(), name);
    while let Some((label, after)) = rest.split_once(END)
        && let Some((label, value)) = label.split_once(EQUALS)
        && is_label(label)
        && !after.is_empty()
    {
        labels.entry(label_name(label)).or_insert_with(|| value.to_owned());
        rest = after;
    }
    (labels, rest)
}

fn is_label(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Prometheus keeps some names to itself.
fn label_name(name: &str) -> String {
    if name.starts_with("__") || name == "le" || name == "quantile" {
        format!("filter_{name}")
    } else {
        name.to_owned()
    }
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

impl PluginValueKind {
    fn on_page(&self) -> MetricType {
        match self {
            Self::Counter(_) => MetricType::COUNTER,
            Self::Gauge(_) => MetricType::GAUGE,
            Self::Histogram { .. } => MetricType::HISTOGRAM,
        }
    }
}

fn family(name: String, kind: MetricType, series: BTreeMap<Labels, PluginValueKind>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name);
    family.set_help("Defined by a filter".to_owned());
    family.set_field_type(kind);
    family.set_metric(series.into_iter().map(|(labels, value)| sample(labels, value)).collect());
    family
}

fn sample(labels: Labels, value: PluginValueKind) -> Metric {
    let pair = |(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name);
        pair.set_value(value);
        pair
    };
    let labels = labels.into_iter().map(pair).collect();
    match value {
        PluginValueKind::Counter(value) => counter_sample(labels, value as f64),
        PluginValueKind::Gauge(value) => gauge_sample(labels, value as f64),
        PluginValueKind::Histogram { count, sum, buckets } => histogram_sample(labels, count, sum, &buckets),
    }
}

fn histogram_sample(labels: Vec<LabelPair>, count: u64, sum: u64, buckets: &[(u64, u64)]) -> Metric {
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
    let mut sample = Metric::from_label(labels);
    sample.set_histogram(histogram);
    sample
}
