//! [`Standard`]: Istio's standard metrics, as a gateway reports them: `reporter="source"`.
//!
//! A series is found by [`Key`] once for each worker and outcome, and counted through its handle from then on. Labels are
//! made when the page is read, where series that a Telemetry's overrides leave alike are added up.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{Counter, Histogram, counter_sample, gauge_sample, label};
use super::{read, write};
use crate::ResponseFlags;

/// Series of their own; further ones count as [`Key::other`]. Each takes about 700 bytes.
pub const MAX_STANDARD_SERIES: usize = 20_000;

/// What Istio says of what is not known.
const UNKNOWN: &str = "unknown";

/// The metrics, in the order of [`StandardOptions::metrics`].
pub const STANDARD_METRICS: [&str; 8] = [
    "istio_requests_total",
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
];

/// Who reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reporter {
    /// Name of the workload; empty when unknown, as all others.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// Label `app`.
    pub app: String,
    /// Label `version`.
    pub version: String,
    /// Canonical service.
    pub service: String,
    /// Canonical revision.
    pub revision: String,
    /// The cluster that it runs in, and all endpoints that somebody tells of.
    pub cluster: String,
}

/// How one metric is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandardMetric {
    /// Not kept.
    pub disabled: bool,
    /// Labels that are left out.
    pub removed: Vec<String>,
    /// Labels with the index of their value among [`Key::values`].
    pub set: Vec<(String, usize)>,
}

/// How all are kept. Counts start anew when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandardOptions {
    /// Who reports.
    pub reporter: Reporter,
    /// In the order of [`STANDARD_METRICS`].
    pub metrics: [StandardMetric; 8],
}

/// What a series is known by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Where requests went; none when no cluster was chosen.
    pub destination: Option<Arc<StandardDestination>>,
    /// What the endpoint is a part of; none when nobody has told.
    pub workload: Option<Arc<StandardWorkload>>,
    /// What the certificates of the connection to it say; none without.
    pub principals: Option<Arc<StandardPrincipals>>,
    /// A TCP connection; the status and gRPC's then mean nothing.
    pub tcp: bool,
    /// Status sent to the client; 0 when none was sent.
    pub response_code: u16,
    /// What went wrong, as [`ResponseFlags::bits`].
    pub flags: u32,
    /// A request of gRPC.
    pub grpc: bool,
    /// Status of gRPC.
    pub grpc_status: Option<u32>,
    /// Values of labels that a Telemetry sets.
    pub values: Box<[Box<str>]>,
    /// Everything that has no series of its own.
    pub other: bool,
}

/// A service that requests go to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StandardDestination {
    /// Its host.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

/// What an endpoint is a part of. What is empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StandardWorkload {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Canonical service.
    pub service: String,
    /// Canonical revision; `latest` when empty.
    pub revision: String,
}

/// Who both sides of a connection to an endpoint are, by URIs of their certificates. What is empty is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StandardPrincipals {
    /// The gateway.
    pub source: String,
    /// The endpoint.
    pub destination: String,
}

impl StandardPrincipals {
    /// Of the endpoint: `shop` of `spiffe://cluster.local/ns/shop/sa/cart`.
    fn namespace(&self) -> Option<&str> {
        let mut parts = self.destination.strip_prefix("spiffe://")?.split('/').skip(1);
        parts.find(|part| *part == "ns")?;
        parts.next().filter(|namespace| !namespace.is_empty())
    }
}

/// The cells of one series.
#[derive(Debug, Default)]
pub struct StandardSeries {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
    /// Bytes sent and received, connections opened and closed.
    tcp: [Counter; 4],
}

impl StandardSeries {
    /// Counts a request that has ended.
    pub fn request(&self, duration: Duration, received: u64, sent: u64) {
        self.requests.inc();
        self.duration.observe(duration);
        self.request_bytes.observe_number(received);
        self.response_bytes.observe_number(sent);
    }

    /// Counts a connection that has an upstream by now.
    pub fn connection_opened(&self) {
        self.tcp[2].inc();
    }

    /// Counts a connection that has ended, with the bytes that the client was sent and has sent.
    pub fn connection_closed(&self, sent: u64, received: u64) {
        self.tcp[0].inc_by(sent);
        self.tcp[1].inc_by(received);
        self.tcp[3].inc();
    }
}

/// All series.
#[derive(Default)]
pub(super) struct Standard {
    kept: RwLock<Kept>,
    limit: usize,
    pub(super) overflow: Counter,
}

#[derive(Default)]
struct Kept {
    options: Option<StandardOptions>,
    series: BTreeMap<Key, Arc<StandardSeries>>,
}

impl Standard {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// None switches all off.
    pub(super) fn configure(&self, options: Option<StandardOptions>) {
        let mut kept = write(&self.kept);
        if kept.options != options {
            *kept = Kept { options, series: BTreeMap::new() };
        }
    }

    pub(super) fn resolve(&self, key: Key) -> Arc<StandardSeries> {
        let mut kept = write(&self.kept);
        if let Some(series) = kept.series.get(&key) {
            return series.clone();
        }
        if kept.series.len() < self.limit {
            return kept.series.entry(key).or_default().clone();
        }
        self.overflow.inc();
        kept.series.entry(Key { tcp: key.tcp, other: true, ..Key::default() }).or_default().clone()
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        // Copied out, so that nobody waits for the page to be written.
        let (options, all) = {
            let kept = read(&self.kept);
            let Some(options) = &kept.options else { return Vec::new() };
            let all: Vec<_> = kept.series.iter().map(|(key, series)| (key.clone(), series.clone())).collect();
            (options.clone(), all)
        };
        let mut families = vec![build()];
        for (at, name) in STANDARD_METRICS.iter().enumerate() {
            let metric = &options.metrics[at];
            let is_tcp = at >= 4;
            let of_kind = all.iter().filter(|(key, _)| key.tcp == is_tcp && !metric.disabled);
            let labelled = of_kind.map(|(key, series)| (labels(key, &options.reporter, metric), &**series));
            families.push(match at {
                0 => counters(name, labelled.map(|(labels, series)| (labels, series.requests.value()))),
                1 => histograms(name, labelled.map(|(labels, series)| (labels, &series.duration))),
                2 => histograms(name, labelled.map(|(labels, series)| (labels, &series.request_bytes))),
                3 => histograms(name, labelled.map(|(labels, series)| (labels, &series.response_bytes))),
                _ => counters(name, labelled.map(|(labels, series)| (labels, series.tcp[at - 4].value()))),
            });
        }
        families
    }
}

/// Labels with their values, by name.
type Labels = BTreeMap<String, String>;

fn labels(key: &Key, reporter: &Reporter, metric: &StandardMetric) -> Labels {
    let unknown = Arc::new(StandardDestination::default());
    let destination = key.destination.as_ref().unwrap_or(&unknown);
    let nobody = Arc::new(StandardWorkload::default());
    let workload = key.workload.as_ref().unwrap_or(&nobody);
    let revision = if workload.revision.is_empty() { "latest" } else { &workload.revision };
    let cluster = key.workload.as_ref().map_or("", |_| reporter.cluster.as_str());
    let anybody = Arc::new(StandardPrincipals::default());
    let principals = key.principals.as_ref().unwrap_or(&anybody);
    let namespace = principals.namespace().unwrap_or(&workload.namespace);
    let protocol = match (key.tcp, key.grpc) {
        (true, _) => "tcp",
        (false, true) => "grpc",
        (false, false) => "http",
    };
    let mut labels: Labels = [
        ("reporter", "source"),
        ("source_workload", &reporter.workload),
        ("source_workload_namespace", &reporter.namespace),
        ("source_principal", &principals.source),
        ("source_app", &reporter.app),
        ("source_version", &reporter.version),
        ("source_cluster", &reporter.cluster),
        ("source_canonical_service", &reporter.service),
        ("source_canonical_revision", &reporter.revision),
        ("destination_workload", &workload.name),
        ("destination_workload_namespace", namespace),
        ("destination_principal", &principals.destination),
        ("destination_app", ""),
        ("destination_version", ""),
        ("destination_service", &destination.service),
        ("destination_service_name", &destination.name),
        ("destination_service_namespace", &destination.namespace),
        ("destination_cluster", cluster),
        ("destination_canonical_service", &workload.service),
        ("destination_canonical_revision", revision),
        ("request_protocol", protocol),
        ("connection_security_policy", ""),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), if value.is_empty() { UNKNOWN } else { value }.to_owned()))
    .collect();
    labels.insert("response_flags".to_owned(), ResponseFlags::from_key(key.flags).to_string());
    if !key.tcp {
        labels.insert("response_code".to_owned(), key.response_code.to_string());
        let status = key.grpc_status.map(|status| status.to_string()).unwrap_or_default();
        labels.insert("grpc_response_status".to_owned(), status);
    }
    for (name, at) in &metric.set {
        let value = key.values.get(*at).map_or(UNKNOWN, |value| value);
        labels.insert(name.clone(), value.to_owned());
    }
    if key.other {
        labels.values_mut().for_each(|value| value.replace_range(.., super::OVERFLOW));
    }
    labels.retain(|name, _| !metric.removed.contains(name));
    labels
}

fn pairs(labels: Labels) -> Vec<LabelPair> {
    labels.iter().map(|(name, value)| label(name, value)).collect()
}

fn counters(name: &str, all: impl Iterator<Item = (Labels, u64)>) -> MetricFamily {
    let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
    for (labels, value) in all {
        *sums.entry(labels).or_default() += value;
    }
    let samples = sums.into_iter().map(|(labels, value)| counter_sample(pairs(labels), value as f64));
    family(name, MetricType::COUNTER, samples.collect())
}

fn histograms<'a>(name: &str, all: impl Iterator<Item = (Labels, &'a Histogram)>) -> MetricFamily {
    let mut sums: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for (labels, histogram) in all {
        sums.entry(labels).or_default().add(histogram);
    }
    let mut samples = Vec::with_capacity(sums.len());
    for (labels, histogram) in sums {
        super::cells::Cell::collect(&histogram, &pairs(labels), &mut samples);
    }
    family(name, MetricType::HISTOGRAM, samples)
}

fn build() -> MetricFamily {
    let labels = vec![label("component", "proxy"), label("tag", env!("CARGO_PKG_VERSION"))];
    family("istio_build", MetricType::GAUGE, vec![gauge_sample(labels, 1.0)])
}

fn family(name: &str, kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(format!("Istio's standard metric {name}"));
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

impl Histogram {
    /// Counts a number in the same buckets, as Envoy does with bytes.
    pub fn observe_number(&self, number: u64) {
        self.observe_us(number.saturating_mul(1000));
    }

    fn add(&self, other: &Self) {
        for (sum, count) in self.buckets.iter().zip(&other.buckets) {
            sum.fetch_add(count.load(Relaxed), Relaxed);
        }
        self.sum_us.fetch_add(other.sum_us.load(Relaxed), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::Metrics;

    fn key(code: u16) -> Key {
        let shop = StandardDestination {
            service: "shop.default.svc.cluster.local".to_owned(),
            name: "shop".to_owned(),
            namespace: "default".to_owned(),
        };
        Key { destination: Some(Arc::new(shop)), response_code: code, ..Key::default() }
    }

    fn lines(metrics: &Metrics, name: &str) -> Vec<String> {
        metrics.render().lines().filter(|line| line.starts_with(&format!("{name}{{"))).map(str::to_owned).collect()
    }

    #[test]
    fn series_have_istios_labels_and_buckets() {
        let metrics = Metrics::new();
        metrics.configure_standard(Some(StandardOptions::default()));
        metrics.standard(key(200)).request(Duration::from_millis(7), 0, 12);
        let [line] = lines(&metrics, "istio_requests_total").try_into().unwrap();
        for label in [
            r#"reporter="source""#,
            r#"destination_service="shop.default.svc.cluster.local""#,
            r#"destination_service_name="shop""#,
            r#"destination_service_namespace="default""#,
            r#"destination_workload="unknown""#,
            r#"request_protocol="http""#,
            r#"response_code="200""#,
            r#"response_flags="-""#,
            r#"grpc_response_status="""#,
            r#"connection_security_policy="unknown""#,
        ] {
            assert!(line.contains(label), "{label}: {line}");
        }
        let buckets = lines(&metrics, "istio_request_duration_milliseconds_bucket");
        assert_eq!(buckets.len(), 20);
        let count = |bound: &str| {
            let line = buckets.iter().find(|line| line.contains(&format!(r#"le="{bound}""#))).unwrap();
            line.ends_with(" 1")
        };
        assert!(!count("5") && count("10") && count("3600000"));
        assert!(lines(&metrics, "istio_response_bytes_sum")[0].ends_with(" 12"));
        assert_eq!(lines(&metrics, "istio_build").len(), 1);
        assert!(lines(&metrics, "istio_tcp_sent_bytes_total").is_empty());
        metrics.configure_standard(None);
        assert!(lines(&metrics, "istio_requests_total").is_empty());
    }

    #[test]
    fn overrides_take_labels_away_and_add_up_what_is_left_alike() {
        let metrics = Metrics::new();
        let mut options = StandardOptions::default();
        options.metrics[0] = StandardMetric {
            removed: vec!["response_code".to_owned()],
            set: vec![("host".to_owned(), 0)],
            ..StandardMetric::default()
        };
        options.metrics[1].disabled = true;
        metrics.configure_standard(Some(options));
        for code in [200, 404] {
            let key = Key { values: Box::new(["a.test".into()]), ..key(code) };
            metrics.standard(key).request(Duration::ZERO, 1, 1);
        }
        let [line] = lines(&metrics, "istio_requests_total").try_into().unwrap();
        assert!(line.ends_with(" 2") && line.contains(r#"host="a.test""#) && !line.contains("response_code"), "{line}");
        assert!(lines(&metrics, "istio_request_duration_milliseconds_count").is_empty());
        assert_eq!(lines(&metrics, "istio_request_bytes_count").len(), 2);
    }

    #[test]
    fn too_many_series_share_one() {
        let metrics = Metrics::with_limit(2);
        metrics.configure_standard(Some(StandardOptions::default()));
        for code in 200..210 {
            metrics.standard(key(code)).request(Duration::ZERO, 0, 0);
        }
        let lines = lines(&metrics, "istio_requests_total");
        assert_eq!(lines.len(), 3);
        assert!(
            lines.iter().any(|line| line.contains(r#"response_code="other""#) && line.ends_with(" 8")),
            "{lines:?}"
        );
    }
}
