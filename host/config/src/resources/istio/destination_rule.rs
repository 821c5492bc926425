//! Spec of the Istio `DestinationRule`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::http_policy::Percent;
use super::load_balancer::{ConsistentHash, LocalityLbSetting, Warmup};
use super::virtual_service::PortSelector;

/// Subsets and traffic policy of a host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DestinationRule {
    /// Service name, short or full, or `*.suffix`.
    pub host: String,
    /// For all subsets, by block.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the endpoints.
    pub subsets: Vec<Subset>,
    /// `.`, `*` or namespaces.
    pub export_to: Vec<String>,
    /// Of client workloads.
    pub workload_selector: Option<Value>,
}

/// Endpoints by labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Subset {
    /// Required and unique.
    pub name: String,
    /// Endpoints that have all of these.
    pub labels: BTreeMap<String, String>,
    /// Overrides the rule's, block by block.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How requests reach a host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Choice of the endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
    /// Replace all blocks for one port.
    pub port_level_settings: Vec<PortPolicy>,
    /// Connections of TCP and TLS go through a tunnel of the host's.
    pub tunnel: Option<Value>,
    /// Tells endpoints who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of retries in flight, in the place of `maxRetries`.
    pub retry_budget: Option<RetryBudget>,
}

/// How many retries may be in flight.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Of the requests in flight; 20 by default.
    pub percent: Option<Percent>,
    /// At least so many; 3 by default.
    pub min_retry_concurrency: Option<i64>,
}

/// The policy of one port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PortPolicy {
    /// Required.
    pub port: Option<PortSelector>,
    /// Choice of the endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits.
    pub connection_pool: Option<ConnectionPool>,
    /// Ejection.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the endpoints.
    pub tls: Option<ClientTls>,
}

/// TLS to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientTls {
    /// `DISABLE` by default, `SIMPLE`, `MUTUAL`, `ISTIO_MUTUAL`.
    pub mode: Option<String>,
    /// File of the gateway's certificate, for `MUTUAL`.
    pub client_certificate: Option<String>,
    /// File of its key.
    pub private_key: Option<String>,
    /// File of the authorities; `system` for those of the system, the default.
    pub ca_certificates: Option<String>,
    /// Secret that holds all of them, instead of files.
    pub credential_name: Option<String>,
    /// The endpoint's certificate must have one of these.
    pub subject_alt_names: Vec<String>,
    /// Server name; the request's Host by default.
    pub sni: Option<String>,
    /// Takes any certificate.
    pub insecure_skip_verify: Option<bool>,
    /// File of revoked certificates.
    pub ca_crl: Option<String>,
}

/// PROXY protocol to the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// `V1` by default, `V2`.
    pub version: Option<String>,
}

/// Options of sockets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Probes without an answer; the system's by default.
    pub probes: Option<u32>,
    /// Duration until the first probe; the system's by default.
    pub time: Option<String>,
    /// Duration between probes; the system's by default.
    pub interval: Option<String>,
}

/// Choice of the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `LEAST_REQUEST` by default, `ROUND_ROBIN`, `RANDOM`, `LEAST_CONN`, `PASSTHROUGH`.
    pub simple: Option<String>,
    /// Instead of `simple`.
    pub consistent_hash: Option<ConsistentHash>,
    /// Beats the mesh's.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// Duration: the old form of `warmup`.
    pub warmup_duration_secs: Option<String>,
    /// With `LEAST_REQUEST` and `ROUND_ROBIN`.
    pub warmup: Option<Warmup>,
}

/// Limits of each cluster.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConnectionPool {
    /// Connections.
    pub tcp: Option<TcpPool>,
    /// Requests.
    pub http: Option<HttpPool>,
}

/// Connections. 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TcpPool {
    /// Unlimited by default.
    pub max_connections: i64,
    /// Duration, 10 s by default.
    pub connect_timeout: Option<String>,
    /// The mesh's by default.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Duration, none by default; for listeners of TCP.
    pub max_connection_duration: Option<String>,
    /// Duration, 1 h by default, 0 is none; for listeners of TCP.
    pub idle_timeout: Option<String>,
}

/// Requests. 0 is the default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpPool {
    /// Waiting requests.
    pub http1_max_pending_requests: i64,
    /// Requests in flight, HTTP/1 too.
    pub http2_max_requests: i64,
    /// Then a connection is closed.
    pub max_requests_per_connection: i64,
    /// Retries in flight.
    pub max_retries: i64,
    /// Duration, 1 h by default.
    pub idle_timeout: Option<String>,
    /// `DEFAULT` (the mesh's), `UPGRADE`, `DO_NOT_UPGRADE`.
    pub h2_upgrade_policy: Option<String>,
    /// HTTP/2 for requests that came as HTTP/2.
    pub use_client_protocol: Option<bool>,
    /// On one HTTP/2 connection.
    pub max_concurrent_streams: Option<i64>,
}

/// Ejection of endpoints that fail.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Old name of `consecutiveGatewayErrors`.
    pub consecutive_errors: Option<u32>,
    /// Failures that are not an answer count apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// 5 by default, with the split.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Off by default.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5 by default; 0 is off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Duration, 10 s by default.
    pub interval: Option<String>,
    /// Duration, 30 s by default.
    pub base_ejection_time: Option<String>,
    /// 10 by default.
    pub max_ejection_percent: Option<i64>,
    /// 0 by default.
    pub min_health_percent: Option<i64>,
}
