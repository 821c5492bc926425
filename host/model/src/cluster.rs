//! [`Cluster`]: a service subset on a port, its endpoints and its limits.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{HealthCheck, Origin, Transport};

/// Index into [`crate::Model::clusters`].
pub type ClusterId = u32;

/// The [`ClusterId`] of a destination that no service, port or subset fits.
pub const MISSING_CLUSTER: ClusterId = u32::MAX;

/// An upstream service on one port, or one subset of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// `outbound|port|subset|host` as Istio names it; state and metrics are kept by this name over reloads.
    pub name: String,
    /// Nothing defines the host: DNS is asked for it as the route writes it, and when DNS does not know it either, there is
    /// no such cluster.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub undefined: bool,
    /// Where requests go.
    pub endpoints: Vec<Endpoint>,
    /// How many addresses of a name count; without names of no meaning.
    #[serde(default, skip_serializing_if = "Discovery::is_strict")]
    pub discovery: Discovery,
    /// When DNS is asked again after a failure, or after an answer that may not be kept; the gateway's own times by default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dns_refresh_rate_ms: Option<u64>,
    /// `resolution: DYNAMIC_DNS`: requests go to the host that each is for. There are no endpoints then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dynamic: Option<Box<DynamicHosts>>,
    /// How an endpoint is chosen.
    pub lb_policy: LbPolicy,
    /// What a consistent choice goes by; only with [`LbPolicy::RingHash`] and [`LbPolicy::Maglev`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hash_policy: Option<HashPolicy>,
    /// `warmup`: new endpoints begin with a part of their weight.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slow_start: Option<SlowStart>,
    /// In milliseconds; Istio's default is 10 s.
    pub connect_timeout_ms: u64,
    /// `connectionPool.http.idleTimeout`, else that of `tcp`, in milliseconds; default 1 h.
    pub idle_timeout_ms: u64,
    /// `connectionPool.tcp.maxConnectionDuration` in milliseconds: older connections serve no further request. None by default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_connection_duration_ms: Option<u64>,
    /// `connectionPool.http.maxRequestsPerConnection`; 0 means no limit.
    pub max_requests_per_connection: u32,
    /// `connectionPool` limits.
    pub circuit_breakers: CircuitBreakers,
    /// `outlierDetection`, when there is such a block.
    pub outlier_detection: Option<OutlierDetection>,
    /// How endpoints are asked for their health; none are without.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub health_check: Option<Arc<HealthCheck>>,
    /// How connections are made.
    #[serde(default, skip_serializing_if = "Transport::is_plain")]
    pub transport: Transport,
    /// `retryBudget`, in the place of `max_retries`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_budget: Option<RetryBudget>,
    /// The DestinationRule subset, ServiceEntry or Service that it comes from.
    pub origin: Origin,
    /// The traffic policy that is in force, when one is; that of the limits first.
    pub policy_origin: Option<Origin>,
}

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Load-balancing weight, at least 1.
    pub weight: u32,
    /// `region/zone/subzone`, as much of it as is known.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub locality: String,
    /// Endpoints of the lowest number take what they can, those of the next one the rest.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub priority: u32,
    /// What all endpoints of its locality and priority take together, relative to other localities of that priority. None
    /// in a cluster whose localities are not weighed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub locality_weight: Option<u32>,
    /// What it is a part of, for metrics; none when nobody has told.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<Box<Workload>>,
    /// The line that brought it.
    pub origin: Origin,
}

/// What endpoints are a part of, as Istio tells it with each endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Of the WorkloadEntry, of the ServiceEntry and the place in it, or of what has made the Pod; empty when unknown.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub name: String,
    /// Of the same.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub namespace: String,
    /// By labels, else the name.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub canonical_service: String,
    /// By labels, else `latest`.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub canonical_revision: String,
}

impl Endpoint {
    /// True when DNS must be asked for its address.
    pub fn is_named(&self) -> bool {
        matches!(self.address, Address::Dns { .. })
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An IP address and port, a Unix socket, or a name that DNS resolves again and again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// Ready to connect.
    Socket(SocketAddr),
    /// A Unix socket: its path, or `@` and an abstract name.
    Pipe(String),
    /// To be resolved.
    Dns {
        /// Host name as the user wrote it.
        host: String,
        /// Target port.
        port: u16,
    },
}

/// Which hosts requests of a cluster may go to: Envoy's dynamic forward proxy, which DNS is asked by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DynamicHosts {
    /// The ServiceEntry's host in lower case: `*.example.com` for all names below, or one name. Never only `*`.
    pub host: String,
    /// Where they listen, whatever port a request names.
    pub port: u16,
}

impl DynamicHosts {
    /// True for a name that the ServiceEntry is for, whatever its case; never for an address.
    pub fn covers(&self, name: &str) -> bool {
        if name.parse::<std::net::IpAddr>().is_ok() {
            return false;
        }
        let ends = |suffix: &str| {
            let start = name.len().checked_sub(suffix.len()).filter(|start| *start > 0);
            start.and_then(|start| name.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        match self.host.strip_prefix('*') {
            Some(suffix) => suffix.starts_with('.') && suffix.len() > 1 && ends(suffix),
            None => name.eq_ignore_ascii_case(&self.host),
        }
    }
}

/// Envoy's discovery type of a cluster with names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Discovery {
    /// Every address of an answer is an endpoint; Istio's `DNS`.
    #[default]
    StrictDns,
    /// The first address of the newest answer is the only endpoint; Istio's `DNS_ROUND_ROBIN`.
    LogicalDns,
}

impl Discovery {
    /// True for the default.
    pub fn is_strict(&self) -> bool {
        *self == Self::StrictDns
    }
}

/// `trafficPolicy.loadBalancer`: `simple`, or what `consistentHash` comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LbPolicy {
    /// In turn.
    RoundRobin,
    /// The less loaded of two random endpoints; Istio's default.
    #[default]
    LeastRequest,
    /// Any; weights of endpoints do not count, as in Envoy.
    Random,
    /// The next point on a ring of hashes.
    RingHash {
        /// Least number of points; Envoy's default is 1024.
        minimum_ring_size: u64,
    },
    /// A table of hashes that is evener than a ring.
    Maglev {
        /// A prime number; Envoy's default is 65537.
        table_size: u64,
    },
}

impl LbPolicy {
    /// Envoy's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "ROUND_ROBIN",
            Self::LeastRequest => "LEAST_REQUEST",
            Self::Random => "RANDOM",
            Self::RingHash { .. } => "RING_HASH",
            Self::Maglev { .. } => "MAGLEV",
        }
    }

    /// True when requests of one hash go to one endpoint.
    pub fn is_consistent(self) -> bool {
        matches!(self, Self::RingHash { .. } | Self::Maglev { .. })
    }
}

/// The part of a request that a consistent choice goes by. A request without it goes anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashPolicy {
    /// `httpHeaderName`: all values of this header, in lower case.
    Header(String),
    /// `httpCookie`.
    Cookie(HashCookie),
    /// `useSourceIp`: the address of the client.
    SourceIp,
    /// `httpQueryParameterName`: the first value, as it is written.
    QueryParameter(String),
}

/// `httpCookie` of a consistent hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashCookie {
    /// Its name.
    pub name: String,
    /// `Path` of a cookie that the gateway makes; empty for none.
    pub path: String,
    /// Seconds that a made cookie lives; 0 is as long as the client's session. None: none is ever made.
    pub ttl_s: Option<u64>,
    /// Further attributes of a made cookie: name and value, which may be empty.
    pub attributes: Vec<(String, String)>,
}

/// `loadBalancer.warmup`, Envoy's slow start: the weight of an endpoint grows from `min_weight_percent` to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowStart {
    /// How long it takes, in milliseconds.
    pub window_ms: u64,
    /// 1 is in a straight line, the default; more grows faster at first.
    pub aggression: f64,
    /// Where it starts; default 10.
    pub min_weight_percent: f64,
}

/// Limits of a cluster over all workers. Istio's 0 (and absent) means practically unlimited: `u32::MAX` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CircuitBreakers {
    /// `tcp.maxConnections`: further requests wait for a connection.
    pub max_connections: u32,
    /// `http.http1MaxPendingRequests`: requests that wait; one more is refused.
    pub max_pending_requests: u32,
    /// `http.http2MaxRequests`: requests in flight, HTTP/1 too; one more is refused.
    pub max_requests: u32,
    /// `http.maxRetries`: retries in flight; one more is not retried.
    pub max_retries: u32,
}

impl Default for CircuitBreakers {
    fn default() -> Self {
        Self {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
        }
    }
}

/// How many retries may be in flight: a share of the requests in flight, and at least a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryBudget {
    /// In millionths; default 20 %.
    pub share: u32,
    /// Default 3.
    pub min_retry_concurrency: u32,
}

impl RetryBudget {
    /// The limit of retries while so many requests are in flight, all tries of each counted once.
    pub fn limit(&self, requests: u32) -> u32 {
        let share = u64::from(requests) * u64::from(self.share) / 1_000_000;
        u32::try_from(share).unwrap_or(u32::MAX).max(self.min_retry_concurrency)
    }
}

/// Istio's OutlierDetection with its defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Consecutive 5xx (connect failures and timeouts count) until ejection; 0 is off; 5 as soon as the block exists.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503, 504 until ejection; 0 is off, the default.
    pub consecutive_gateway_errors: u32,
    /// `splitExternalLocalOriginErrors`: consecutive failures that are not an answer (no connection, reset, timeout) until
    /// ejection; they are no 5xx then. None without the split: they count as 5xx.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub consecutive_local_origin_failures: Option<u32>,
    /// How often returns are considered, in milliseconds; default 10 s.
    pub interval_ms: u64,
    /// First ejection time in milliseconds, multiplied by the number of ejections, at most 300 s; default 30 s.
    pub base_ejection_time_ms: u64,
    /// At most this share of the endpoints is ejected, the next one included; default 10.
    pub max_ejection_percent: u32,
    /// Below this share of healthy endpoints all are used; default 0: never.
    pub min_health_percent: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_cluster_covers_names_below_its_own_and_no_address() {
        let below = DynamicHosts { host: "*.example.com".to_owned(), port: 80 };
        for name in ["a.example.com", "A.Example.COM", "a.b.example.com"] {
            assert!(below.covers(name), "{name}");
        }
        for name in ["example.com", ".example.com.", "aexample.com", "a.example.com.", "169.254.169.254", "", "ä"] {
            assert!(!below.covers(name), "{name}");
        }
        assert!(!DynamicHosts { host: "*.254".to_owned(), port: 80 }.covers("169.254.169.254"));
        assert!(DynamicHosts { host: "a.test".to_owned(), port: 80 }.covers("A.test"));
        assert!(!DynamicHosts { host: "*".to_owned(), port: 80 }.covers("a.test"));
        assert!(!DynamicHosts { host: "*.".to_owned(), port: 80 }.covers("a."));
    }
}
