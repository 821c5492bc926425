//! [`Snapshot`]: the model made ready to serve: names turned into indexes, patterns compiled, plugins attached. Immutable.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use portolan_model::{
    ClusterId, DynamicHosts, FailPolicy, Listener, ListenerLimits, MISSING_CLUSTER, Model, Origin, OutlierDetection,
    ProxyHeaders, RetryBudget, RouteId, RouteTableId,
};
use portolan_telemetry::{FilterMetrics, HttpMetrics, ListenerMetrics, Metrics};
use tokio::sync::watch;

use crate::challenges::Challenges;
use crate::cluster::ClusterState;
use crate::dns::Names;
use crate::generation::PluginGeneration;
use crate::generations::Generations;
use crate::handover::HostVersions;
use crate::log_entry::LogEntry;
use crate::own_headers::HeaderPlan;
use crate::plugin_match::PluginTraffic;
use crate::pool::PoolLimits;
use crate::rollout::Rollout;
use crate::route::{LazyRoute, RouteEntry};
use crate::route_stats::RouteStats;
use crate::sockets::Sockets;
use crate::spans::SpanPlan;
use crate::standard_metrics::StandardPlan;
use crate::stream_trace::StreamTrace;
use crate::tcp::TcpEntry;
use crate::tls::FilterChains;
use crate::traffic::asked_headers;
use crate::udp::UdpEntry;
use crate::upstream::UpstreamTransport;
use crate::worker_sockets::ClientSockets;

/// What workers serve with, until the next one is published. A request holds the one that it began with.
pub struct Snapshot {
    /// Grows by one with each build.
    pub generation: u64,
    /// What it was built from.
    pub model: Arc<Model>,
    pub(crate) listeners: Vec<ListenerEntry>,
    pub(crate) udp_listeners: Vec<Arc<UdpEntry>>,
    pub(crate) routes: Vec<LazyRoute>,
    /// Some route makes headers of responses of what is known of requests.
    pub(crate) has_response_formats: bool,
    pub(crate) host_versions: HostVersions,
    /// Counters of routes that have their own.
    pub(crate) route_stats: RouteStats,
    pub(crate) clusters: Vec<ClusterEntry>,
    cluster_names: HashMap<Arc<str>, ClusterId>,
    /// Those of HTTP in the order in which they see a request, then those of TCP.
    plugins: Vec<Attached>,
    /// How many are of HTTP.
    http_plugins: usize,
    /// New versions on trial, at the place of their plugin.
    pub(crate) rollouts: Vec<Option<Arc<Rollout>>>,
    /// Why plugins, or their newest versions, could not be started, by name.
    plugin_problems: HashMap<String, String>,
    generations: Arc<Generations>,
    /// By plugin: which requests it sees; none for all.
    pub(crate) traffic: Vec<Option<PluginTraffic>>,
    pub(crate) access_logs: Vec<LogEntry>,
    /// Istio's standard metrics; none when they are off.
    pub(crate) standard: Option<StandardPlan>,
    /// What is traced; none when nothing is.
    pub(crate) tracing: Option<Arc<SpanPlan>>,
    /// Who is told of each stream's end, besides.
    pub(crate) trace: Option<Arc<dyn StreamTrace>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Resolves hosts that no cluster names.
    pub(crate) names: Names,
    /// What an authority is shown of hosts.
    pub(crate) challenges: Arc<Challenges>,
    /// Whose values tell kinds of requests apart.
    pub(crate) asked_headers: Vec<HeaderName>,
    /// Headers that are the gateway's own.
    pub(crate) own_headers: HeaderPlan,
    /// Workers that have taken it over.
    adopted: watch::Sender<usize>,
}

/// A plugin in the chain: started, or standing for one that could not be.
#[derive(Clone, Debug)]
pub enum Attached {
    /// Ready.
    Ready(Arc<PluginGeneration>),
    /// It never started; requests get what its fail policy says.
    Failed {
        /// The plugin's name.
        name: Arc<str>,
        /// What requests get.
        fail_policy: FailPolicy,
    },
}

pub(crate) struct ListenerEntry {
    pub(crate) address: SocketAddr,
    pub(crate) server_port: u16,
    pub(crate) route_table: RouteTableId,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) metrics: Arc<ListenerMetrics>,
    pub(crate) http: Arc<HttpMetrics>,
    /// Where connections go; none where HTTP is served.
    pub(crate) tcp: Option<Arc<TcpEntry>>,
    /// Connections begin with a header of the PROXY protocol; none where they do not.
    pub(crate) proxy_headers: Option<Arc<ProxyHeaders>>,
    pub(crate) limits: ListenerLimits,
    /// What TLS clients are given; none where connections are plain.
    pub(crate) chains: Option<Arc<FilterChains>>,
}

impl ListenerEntry {
    pub(crate) fn new(
        listener: &Listener,
        sockets: Arc<Sockets>,
        chains: Option<Arc<FilterChains>>,
        metrics: &Metrics,
    ) -> Self {
        let tcp = listener.tcp.as_ref();
        Self {
            address: listener.address,
            server_port: listener.server_port,
            route_table: listener.route_table,
            sockets,
            metrics: metrics.listener(listener.address),
            http: tcp.map_or_else(|| metrics.http(&listener.name), |_| Arc::default()),
            tcp: tcp.map(|tcp| TcpEntry::new(tcp, metrics.tcp(&tcp.stat_prefix))),
            proxy_headers: listener.proxy_headers.clone().map(Arc::new),
            limits: listener.limits,
            chains,
        }
    }
}

/// A cluster's policy in this snapshot, with its lasting state.
pub struct ClusterEntry {
    /// Counters and endpoints, shared by all workers and kept over snapshots.
    pub state: Arc<ClusterState>,
    /// The line of the subset, ServiceEntry or Service.
    pub origin: Origin,
    /// There is no such cluster unless DNS knows its name.
    pub undefined: bool,
    /// Requests go to the host that each is for.
    pub(crate) dynamic: Option<Box<DynamicHosts>>,
    /// Requests of one hash go to one endpoint.
    pub(crate) is_consistent: bool,
    /// The hash is that of the client's address.
    pub(crate) hashes_source: bool,
    pub(crate) limits: PoolLimits,
    pub(crate) idle_timeout: Duration,
    pub(crate) transport: Arc<UpstreamTransport>,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    /// In the place of the limit on retries.
    pub(crate) retry_budget: Option<RetryBudget>,
}

/// Parts that the builder has made.
pub(crate) struct SnapshotParts {
    pub(crate) generation: u64,
    pub(crate) model: Arc<Model>,
    pub(crate) listeners: Vec<ListenerEntry>,
    pub(crate) udp_listeners: Vec<Arc<UdpEntry>>,
    pub(crate) routes: Vec<LazyRoute>,
    pub(crate) host_versions: HostVersions,
    pub(crate) clusters: Vec<ClusterEntry>,
    pub(crate) http_plugins: Vec<Attached>,
    pub(crate) network_plugins: Vec<Attached>,
    pub(crate) rollouts: Vec<Option<Arc<Rollout>>>,
    pub(crate) plugin_problems: HashMap<String, String>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) access_logs: Vec<LogEntry>,
    pub(crate) standard: Option<StandardPlan>,
    pub(crate) tracing: Option<Arc<SpanPlan>>,
    pub(crate) trace: Option<Arc<dyn StreamTrace>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) names: Names,
    pub(crate) challenges: Arc<Challenges>,
}

impl Snapshot {
    /// Handles on all sockets that clients come to, for a process that takes over.
    ///
    /// # Errors
    /// When the system gives no more descriptors.
    pub fn handles(&self) -> std::io::Result<ClientSockets> {
        let mut all = ClientSockets::default();
        for listener in &self.listeners {
            all.tcp.append(&mut listener.sockets.handles()?);
        }
        for listener in &self.udp_listeners {
            all.udp.append(&mut listener.sockets.handles()?);
        }
        Ok(all)
    }

    /// The UDP addresses that are bound.
    pub fn udp_addresses(&self) -> impl Iterator<Item = std::net::SocketAddr> {
        self.udp_listeners.iter().map(|listener| listener.address)
    }

    /// A route by number.
    pub(crate) fn route(&self, id: RouteId) -> Option<&RouteEntry> {
        self.routes.get(id as usize)?.get(&self.model, id)
    }

    pub(crate) fn new(parts: SnapshotParts) -> Self {
        let names = parts.clusters.iter().zip(0..).map(|(cluster, id)| (cluster.state.name.clone(), id));
        Self {
            generation: parts.generation,
            listeners: parts.listeners,
            udp_listeners: parts.udp_listeners,
            has_response_formats: parts.routes.iter().any(|route| route.has_response_formats),
            routes: parts.routes,
            host_versions: parts.host_versions,
            route_stats: RouteStats::new(&parts.model, &parts.metrics),
            cluster_names: names.collect(),
            clusters: parts.clusters,
            traffic: PluginTraffic::of_all(&parts.http_plugins, &parts.model),
            http_plugins: parts.http_plugins.len(),
            plugins: [parts.http_plugins, parts.network_plugins].concat(),
            rollouts: parts.rollouts,
            plugin_problems: parts.plugin_problems,
            generations: parts.generations,
            access_logs: parts.access_logs,
            standard: parts.standard,
            tracing: parts.tracing,
            trace: parts.trace,
            metrics: parts.metrics,
            names: parts.names,
            challenges: parts.challenges,
            asked_headers: asked_headers(&parts.model),
            own_headers: HeaderPlan::of(&parts.model.headers),
            adopted: watch::Sender::new(0),
            model: parts.model,
        }
    }

    /// A worker serves new requests with it from now on.
    pub(crate) fn note_adopted(&self) {
        self.adopted.send_modify(|workers| *workers += 1);
    }

    /// Waits until so many workers serve new requests with it. One that another snapshot has overtaken may never come so far:
    /// set a limit.
    pub async fn adopted_by(&self, workers: usize) {
        // The sender lives as long as `self`.
        let _ = self.adopted.subscribe().wait_for(|adopted| *adopted >= workers).await;
    }

    /// True when somebody wants to know of each stream's end.
    pub(crate) fn tells_streams(&self) -> bool {
        !self.access_logs.is_empty() || self.trace.is_some() || self.tracing.is_some()
    }

    /// The cluster of this id; none for [`MISSING_CLUSTER`].
    pub(crate) fn cluster(&self, id: ClusterId) -> Option<&ClusterEntry> {
        self.clusters.get(id as usize)
    }

    pub(crate) fn cluster_by_name(&self, name: &[u8]) -> ClusterId {
        let name = std::str::from_utf8(name).ok();
        name.and_then(|name| self.cluster_names.get(name)).copied().unwrap_or(MISSING_CLUSTER)
    }

    /// All clusters in the model's order.
    pub fn clusters(&self) -> &[ClusterEntry] {
        &self.clusters
    }

    /// All plugins: those of HTTP in the order in which they see a request, then those of TCP.
    pub fn plugins(&self) -> &[Attached] {
        &self.plugins
    }

    /// The plugins of requests, in order.
    pub(crate) fn http_plugins(&self) -> &[Attached] {
        &self.plugins[..self.http_plugins]
    }

    /// The plugins of TCP connections, in order.
    pub(crate) fn network_plugins(&self) -> &[Attached] {
        &self.plugins[self.http_plugins..]
    }

    /// The versions of a plugin that are alive, oldest first: this snapshot's, and others that end their streams.
    pub fn versions(&self, plugin: &str) -> Vec<Arc<PluginGeneration>> {
        self.generations.of(plugin)
    }

    /// The new version of a plugin that is on trial.
    pub fn rollout(&self, plugin: &str) -> Option<&Arc<Rollout>> {
        self.rollouts.iter().flatten().find(|rollout| *rollout.next.name == *plugin)
    }

    /// Why a plugin, or its newest version, could not be started.
    pub fn plugin_problem(&self, plugin: &str) -> Option<&str> {
        self.plugin_problems.get(plugin).map(String::as_str)
    }

    /// The counters of a plugin.
    pub fn plugin_metrics(&self, plugin: &str) -> Arc<FilterMetrics> {
        self.metrics.filter(plugin)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("generation", &self.generation).finish_non_exhaustive()
    }
}
