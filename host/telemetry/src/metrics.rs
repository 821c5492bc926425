//! [`Metrics`]: the registry, and the page that Prometheus reads.

mod by_callback;
mod cells;
mod groups;
mod plugin_values;
mod standard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use prometheus::TextEncoder;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

pub use by_callback::{CallbackTime, CallsByCallback, TimeByCallback};
pub use cells::{BUCKETS_MS, ByVersion, Counter, Gauge, Histogram, ResponseClasses, ResponseCodes, Results, States};
use cells::{counter_sample, gauge_sample, label};
use groups::Group;
pub use groups::{
    AccessLogMetrics, CertificateMetrics, ClusterMetrics, ConfigMetrics, EdgeMetrics, FilterMetrics,
    HealthCheckMetrics, Http2Metrics, HttpMetrics, ListenerMetrics, RouteMetrics, ServerMetrics, TcpMetrics,
    TracerMetrics, UdpMetrics,
};
pub use plugin_values::{PluginValue, PluginValueKind};
use standard::Standard;
pub use standard::{
    Key, MAX_STANDARD_SERIES, Reporter, STANDARD_METRICS, StandardDestination, StandardMetric, StandardOptions,
    StandardPrincipals, StandardSeries, StandardWorkload,
};

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Members of each kind that get series of their own; further ones share the series named `other`.
pub const MAX_MEMBERS: usize = 20_000;

const OVERFLOW: &str = "other";

/// All metrics of the process. Handles are resolved when a configuration is loaded and kept beside what they count.
pub struct Metrics {
    /// The process.
    pub server: ServerMetrics,
    /// What comes in from outside, over all listeners.
    pub edge: EdgeMetrics,
    /// HTTP/2 from clients, over all listeners.
    pub http2: Http2Metrics,
    /// Changes of the configuration.
    pub config: ConfigMetrics,
    /// The access log; shared with each [`crate::AccessLog`].
    pub access_log: Arc<AccessLogMetrics>,
    /// Traces by OpenTelemetry.
    pub tracing: TracerMetrics,
    /// Traces by Zipkin.
    pub zipkin: TracerMetrics,
    started: Instant,
    listeners: Members<ListenerMetrics>,
    http: Members<HttpMetrics>,
    tcp: Members<TcpMetrics>,
    udp: Members<UdpMetrics>,
    certificates: Members<CertificateMetrics>,
    clusters: Members<ClusterMetrics>,
    /// By virtual host and prefix: [`route_name`].
    routes: Members<RouteMetrics>,
    health_checks: Members<HealthCheckMetrics>,
    filters: Members<FilterMetrics>,
    standard: Standard,
    plugin_values: RwLock<Option<PluginSource>>,
}

type PluginSource = Box<dyn Fn() -> Vec<PluginValue> + Send + Sync>;

impl Metrics {
    /// An empty registry. The uptime counts from here.
    pub fn new() -> Arc<Self> {
        Self::with_limit(MAX_MEMBERS)
    }

    fn with_limit(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            server: ServerMetrics::default(),
            edge: EdgeMetrics::default(),
            http2: Http2Metrics::default(),
            config: ConfigMetrics::default(),
            access_log: Arc::default(),
            tracing: TracerMetrics::default(),
            zipkin: TracerMetrics::default(),
            started: Instant::now(),
            listeners: Members::new("listener", limit),
            http: Members::new("listener", limit),
            tcp: Members::new("tcp", limit),
            udp: Members::new("udp", limit),
            certificates: Members::new("certificate", limit),
            clusters: Members::new("cluster", limit),
            routes: Members::new("route", limit),
            health_checks: Members::new("cluster", limit),
            filters: Members::new("filter", limit),
            standard: Standard::new(limit.min(MAX_STANDARD_SERIES)),
            plugin_values: RwLock::new(None),
        })
    }

    /// Connection metrics of the listener at `address`, label `envoy_listener_address` as Envoy writes it
    /// (`0.0.0.0_8080`).
    pub fn listener(&self, address: SocketAddr) -> Arc<ListenerMetrics> {
        self.listeners.resolve(&listener_label(address))
    }

    /// Request metrics of the listener of this name; the prefix label is `outbound_NAME` as in Istio.
    pub fn http(&self, listener_name: &str) -> Arc<HttpMetrics> {
        self.http.resolve(&http_label(listener_name))
    }

    /// Connection metrics of a TCP route by its prefix, which is Istio's: the cluster's name, or `name.namespace` of the
    /// VirtualService for several.
    pub fn tcp(&self, prefix: &str) -> Arc<TcpMetrics> {
        self.tcp.resolve(prefix)
    }

    /// Session metrics of a UDP route by its prefix, which is made as that of a TCP route.
    pub fn udp(&self, prefix: &str) -> Arc<UdpMetrics> {
        self.udp.resolve(prefix)
    }

    /// Metrics of a certificate by the name of its Secret, or by its files.
    pub fn certificate(&self, secret: &str) -> Arc<CertificateMetrics> {
        self.certificates.resolve(secret)
    }

    /// Ends the series of all certificates whose name `is_configured` denies; once per published configuration.
    pub fn retain_certificates(&self, is_configured: impl Fn(&str) -> bool) {
        write(&self.certificates.by_name).retain(|name, _| is_configured(name));
    }

    /// Metrics of a cluster by its name. The same name gives the same counters over reloads.
    pub fn cluster(&self, name: &str) -> Arc<ClusterMetrics> {
        self.clusters.resolve(name)
    }

    /// Metrics of a cluster's health checks by Istio's name of the cluster.
    pub fn health_check(&self, cluster: &str) -> Arc<HealthCheckMetrics> {
        self.health_checks.resolve(cluster)
    }

    /// Ends the series of health checks of all clusters whose name `has_checks` denies; once per published configuration.
    pub fn retain_health_checks(&self, has_checks: impl Fn(&str) -> bool) {
        write(&self.health_checks.by_name).retain(|name, _| has_checks(name));
    }

    /// Metrics of a virtual host's routes with this `statPrefix`. Further ones than [`MAX_MEMBERS`] count together as
    /// route `other` of virtual host `other`.
    pub fn route(&self, virtual_host: &str, prefix: &str) -> Arc<RouteMetrics> {
        self.routes.resolve(&route_name(virtual_host, prefix))
    }

    /// Ends the series of all routes but those of these virtual hosts and prefixes; once per published configuration.
    pub fn retain_routes<'a>(&self, configured: impl Iterator<Item = (&'a str, &'a str)>) {
        let names: HashSet<String> = configured.map(|(host, prefix)| route_name(host, prefix)).collect();
        write(&self.routes.by_name).retain(|name, _| names.contains(&**name));
    }

    /// Metrics of a filter by the plugin's name.
    pub fn filter(&self, plugin: &str) -> Arc<FilterMetrics> {
        self.filters.resolve(plugin)
    }

    /// Which of Istio's standard metrics are kept, and with which labels; none when `options` is. Counts start anew where
    /// that changes.
    pub fn configure_standard(&self, options: Option<StandardOptions>) {
        self.standard.configure(options);
    }

    /// The series of Istio's standard metrics for one kind of outcome. Takes a lock: the handle is to be kept.
    pub fn standard(&self, key: Key) -> Arc<StandardSeries> {
        self.standard.resolve(key)
    }

    /// Ends the series of a listener that left the configuration; its handles still count, unseen.
    pub fn forget_listener(&self, name: &str, address: SocketAddr) {
        self.listeners.forget(&listener_label(address));
        self.http.forget(&http_label(name));
    }

    /// Ends the series of a cluster that left the configuration.
    pub fn forget_cluster(&self, name: &str) {
        self.clusters.forget(name);
    }

    /// Ends the series of a filter that left the configuration.
    pub fn forget_filter(&self, plugin: &str) {
        self.filters.forget(plugin);
    }

    /// Ends the series of all clusters whose name `is_configured` denies; once per published configuration.
    pub fn retain_clusters(&self, is_configured: impl Fn(&str) -> bool) {
        write(&self.clusters.by_name).retain(|name, _| is_configured(name));
    }

    /// Where the metrics come from that filters define themselves; read at each render.
    pub fn set_plugin_values(&self, source: impl Fn() -> Vec<PluginValue> + Send + Sync + 'static) {
        *write(&self.plugin_values) = Some(Box::new(source));
    }

    /// What filters have defined themselves, as [`Metrics::set_plugin_values`] knows it; empty before.
    pub fn plugin_values(&self) -> Vec<PluginValue> {
        read(&self.plugin_values).as_ref().map(|source| source()).unwrap_or_default()
    }

    /// The page in Prometheus's text format 0.0.4.
    pub fn render(&self) -> String {
        let mut families = self.families();
        families.extend(plugin_values::families(self.plugin_values()));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut page = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut page) {
            tracing::error!(%error, "the metrics page is not complete");
        }
        page
    }

    fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.derived();
        families.extend(ServerMetrics::families(&[(Vec::new(), &self.server)]));
        families.extend(EdgeMetrics::families(&[(Vec::new(), &self.edge)]));
        families.extend(Http2Metrics::families(&[(Vec::new(), &self.http2)]));
        families.extend(ConfigMetrics::families(&[(Vec::new(), &self.config)]));
        families.extend(AccessLogMetrics::families(&[(Vec::new(), &self.access_log)]));
        families.extend(self.tracing.families("opentelemetry"));
        families.extend(self.zipkin.families("zipkin"));
        families.extend(self.listeners.families("envoy_listener_address"));
        families.extend(self.http.families("envoy_http_conn_manager_prefix"));
        families.extend(self.tcp.families("envoy_tcp_prefix"));
        families.extend(self.udp.families("envoy_udp_prefix"));
        families.extend(self.certificates.families("secret"));
        families.extend(self.clusters.families("envoy_cluster_name"));
        families.extend(self.routes.labelled(route_labels));
        families.extend(self.health_checks.families("envoy_cluster_name"));
        families.extend(self.filters.families("plugin"));
        families.extend(self.standard.families());
        families
    }

    /// What is computed when it is read.
    fn derived(&self) -> Vec<MetricFamily> {
        let connections: i64 =
            read(&self.listeners.by_name).values().map(|listener| listener.downstream_cx_active.value()).sum();
        let version = vec![label("version", env!("CARGO_PKG_VERSION"))];
        let gauge = |name, help, value| single(name, help, MetricType::GAUGE, gauge_sample(Vec::new(), value));
        vec![
            gauge("envoy_server_uptime", "Seconds since the start", self.started.elapsed().as_secs() as f64),
            gauge("envoy_server_total_connections", "Client connections open now", connections as f64),
            gauge(
                "envoy_cluster_manager_active_clusters",
                "Clusters of the configuration",
                read(&self.clusters.by_name).len() as f64,
            ),
            single(
                "portolan_metrics_overflow_total",
                "Names that share the series `other` because there are too many",
                MetricType::COUNTER,
                counter_sample(Vec::new(), self.overflow() as f64),
            ),
            single("portolan_build_info", "Always 1", MetricType::GAUGE, gauge_sample(version, 1.0)),
        ]
    }

    fn overflow(&self) -> u64 {
        let of_listeners = [&self.listeners.overflow, &self.http.overflow, &self.tcp.overflow, &self.udp.overflow];
        let others =
            [&self.certificates.overflow, &self.clusters.overflow, &self.filters.overflow, &self.standard.overflow];
        let all = of_listeners.into_iter().chain(others).chain([&self.health_checks.overflow, &self.routes.overflow]);
        all.map(Counter::value).sum()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("started", &self.started).finish_non_exhaustive()
    }
}

/// The members of one kind, by the value of their label.
struct Members<G> {
    kind: &'static str,
    limit: usize,
    by_name: RwLock<BTreeMap<Box<str>, Arc<G>>>,
    overflow: Counter,
}

impl<G: Group + Default> Members<G> {
    fn new(kind: &'static str, limit: usize) -> Self {
        Self { kind, limit, by_name: RwLock::default(), overflow: Counter::default() }
    }

    fn resolve(&self, name: &str) -> Arc<G> {
        let mut members = write(&self.by_name);
        if let Some(group) = members.get(name) {
            return group.clone();
        }
        if members.len() < self.limit {
            return members.entry(name.into()).or_default().clone();
        }
        self.overflow.inc();
        if self.overflow.value() == 1 {
            let (kind, limit) = (self.kind, self.limit);
            tracing::warn!(
                kind,
                limit,
                "too many names for metrics of their own: `{name}` and more count as `{OVERFLOW}`"
            );
        }
        members.entry(OVERFLOW.into()).or_default().clone()
    }

    fn forget(&self, name: &str) {
        write(&self.by_name).remove(name);
    }

    fn families(&self, label_name: &str) -> Vec<MetricFamily> {
        self.labelled(|name| vec![label(label_name, name)])
    }

    fn labelled(&self, labels: impl Fn(&str) -> Vec<LabelPair>) -> Vec<MetricFamily> {
        // Copied out first, so that a load of the configuration does not wait for a page to be written.
        let members: Vec<(Vec<LabelPair>, Arc<G>)> =
            read(&self.by_name).iter().map(|(name, group)| (labels(name), group.clone())).collect();
        let borrowed: Vec<(Vec<LabelPair>, &G)> =
            members.iter().map(|(labels, group)| (labels.clone(), &**group)).collect();
        G::families(&borrowed)
    }
}

fn single(name: &str, help: &str, kind: MetricType, sample: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![sample]);
    family
}

/// Envoy replaces the colons of an address, which separate parts of a statistic's name.
fn listener_label(address: SocketAddr) -> String {
    address.to_string().replace(':', "_")
}

/// Names of virtual hosts have no spaces.
fn route_name(virtual_host: &str, prefix: &str) -> String {
    format!("{virtual_host} {prefix}")
}

fn route_labels(name: &str) -> Vec<LabelPair> {
    let (virtual_host, prefix) = name.split_once(' ').unwrap_or((name, name));
    vec![label("envoy_route", prefix), label("envoy_virtual_host", virtual_host)]
}

fn http_label(listener_name: &str) -> String {
    format!("outbound_{listener_name}")
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
