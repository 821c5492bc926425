//! The model: what Portolan serves, as plain data in Envoy's terms.
//!
//! Translation makes it from resources, the proxy builds its snapshot from it, and the bundled filters read
//! projections of it ([`filter`]). It knows neither YAML nor sockets, and builds for Wasm too.

pub mod access_log;
pub mod cluster;
pub mod edge_policy;
pub mod filter;
pub mod grpc;
pub mod health_check;
pub mod library;
pub mod listener;
pub mod network;
pub mod origin;
pub mod own_headers;
pub mod path_policy;
pub mod plugin;
pub mod rare;
pub mod re2;
pub mod route;
pub mod secret;
pub mod standard_metrics;
pub mod tracing;
pub mod transport;
pub mod udp;

pub use access_log::{AccessLog, AccessLogFormat};
pub use cluster::{
    Address, CircuitBreakers, Cluster, ClusterId, Discovery, DynamicHosts, Endpoint, HashCookie, HashPolicy, LbPolicy,
    MISSING_CLUSTER, OutlierDetection, RetryBudget, SlowStart, Workload,
};
pub use edge_policy::{EdgePolicy, ForwardClientCert, Underscores};
pub use grpc::GRPC_STATUSES;
pub use health_check::{CheckIntervals, HealthCheck, HealthProbe, HttpProbe};
pub use library::{LIBRARY, LibraryFilter};
pub use listener::{
    ClientCertificate, DownstreamTls, FilterChain, Listener, ListenerLimits, ProxyHeaders, RouteTableId,
    TcpDestination, TcpProxy, TlsVersion, Tunnel,
};
pub use network::{Network, ParseNetworkError};
pub use origin::{Document, Origin, Parts};
pub use own_headers::{OwnHeaders, ServerHeader};
pub use path_policy::{PathNormalization, PathPolicy};
pub use plugin::{
    Canary, FailPolicy, PathMatch, Plugin, PluginCode, PluginKind, PluginLimits, PluginMatch, PluginPhase, PullPolicy,
    PullSecret, RemoteModule,
};
pub use rare::{Rare, Usual};
pub use re2::from_re2;
pub use route::{
    ConnectMode, CorsPolicy, Destination, DirectResponse, EVERY_REQUEST, FaultAbort, FaultPolicy, Forward, HeaderMatch,
    HeaderOperations, Mirror, Redirect, RetryPolicy, Rewrite, Route, RouteAction, RouteId, RouteMatch, RouteTable,
    Share, Sticky, StringMatch, VirtualHost,
};
pub use secret::{AcmeOrder, Secret, SecretId};
pub use standard_metrics::{MetricOverride, StandardMetrics};
pub use tracing::{SAMPLED_OF, TagValue, TraceExport, TraceTag, Tracing};
pub use transport::{Hidden, Pem, ProxyProtocol, TcpKeepalive, Transport, Trust, UpstreamProtocol, UpstreamTls};
pub use udp::{UdpListener, UdpProxy};

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Everything one gateway serves. Listeners, routes and clusters refer to each other by index into these lists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Model {
    /// Sockets to listen on, ordered by address.
    pub listeners: Vec<Listener>,
    /// Sockets to take datagrams from, ordered by address.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub udp_listeners: Vec<UdpListener>,
    /// Virtual hosts by listener of HTTP; a [`RouteTableId`] is an index into this list.
    pub route_tables: Vec<RouteTable>,
    /// All routes of all tables; a [`RouteId`] is an index into this list. A route may be in several virtual hosts. One that
    /// the last translation has made, and that has not changed since, is the same in memory.
    pub routes: Vec<Arc<Route>>,
    /// All clusters; a [`ClusterId`] is an index into this list.
    pub clusters: Vec<Cluster>,
    /// Filters besides the three bundled decision filters, in the order in which they see a request or, by
    /// [`Plugin::kind`], a connection.
    pub plugins: Vec<Plugin>,
    /// Access logs, each with its own form and choice of requests; empty means that nothing is logged.
    pub access_logs: Vec<AccessLog>,
    /// Istio's standard metrics.
    #[serde(skip_serializing_if = "StandardMetrics::is_default", default)]
    pub metrics: StandardMetrics,
    /// Traces; none when nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracing: Option<Box<Tracing>>,
    /// How paths are read.
    #[serde(skip_serializing_if = "PathPolicy::is_default", default)]
    pub paths: PathPolicy,
    /// What is believed of clients, and refused of them.
    #[serde(skip_serializing_if = "EdgePolicy::is_default", default)]
    pub edge: EdgePolicy,
    /// Which headers are the gateway's own.
    #[serde(skip_serializing_if = "OwnHeaders::is_default", default)]
    pub headers: OwnHeaders,
    /// How long the end may take at most, where the command line does not say it: Istio's `terminationDrainDuration`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drain_time_ms: Option<u64>,
    /// Credentials named by listeners and clusters.
    pub secrets: Vec<Secret>,
}

impl Model {
    /// The files of certificates and keys that clusters name.
    pub fn certificate_files(&self) -> impl Iterator<Item = &std::path::PathBuf> {
        let tls = self.clusters.iter().filter_map(|cluster| cluster.transport.tls.as_ref());
        tls.flat_map(|tls| tls.pems()).filter_map(|pem| match pem {
            Pem::File { path } => Some(path),
            Pem::Secret { .. } | Pem::Missing { .. } => None,
        })
    }
}

impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            listeners,
            udp_listeners,
            route_tables,
            routes,
            clusters,
            plugins,
            access_logs,
            metrics,
            tracing,
            paths,
            edge,
            headers,
            drain_time_ms,
            secrets,
        } = self;
        let same_route = |(a, b): (&Arc<Route>, &Arc<Route>)| Arc::ptr_eq(a, b) || a == b;
        *listeners == other.listeners
            && *udp_listeners == other.udp_listeners
            && *route_tables == other.route_tables
            && routes.len() == other.routes.len()
            && routes.iter().zip(&other.routes).all(same_route)
            && *clusters == other.clusters
            && *plugins == other.plugins
            && *access_logs == other.access_logs
            && *metrics == other.metrics
            && *tracing == other.tracing
            && *paths == other.paths
            && *edge == other.edge
            && *headers == other.headers
            && *drain_time_ms == other.drain_time_ms
            && *secrets == other.secrets
    }
}
