//! [`HealthCheck`]: how endpoints of a cluster are asked for their health; Envoy's `core.v3.HealthCheck`.

use serde::{Deserialize, Serialize};

use crate::Origin;

/// Times are in milliseconds. Two that are equal but for their origin are one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: HealthProbe,
    /// The Host, authority and, where the cluster's TLS does not say, server name of a check.
    pub host: String,
    /// Asked instead of the endpoint's own port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// A check that has taken so long has failed.
    pub timeout_ms: u64,
    /// Pauses between checks.
    pub intervals: CheckIntervals,
    /// Failures of the network in a row until an endpoint is unhealthy. An answer that says so makes it unhealthy at once.
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is healthy again; the first check of all decides alone.
    pub healthy_threshold: u32,
    /// The connection is kept for the next check.
    pub reuse_connection: bool,
    /// Each failure is logged, not only the one that changes something.
    pub always_log_failures: bool,
    /// The annotation.
    pub origin: Origin,
}

/// Pauses between the checks of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckIntervals {
    /// After a success.
    pub interval_ms: u64,
    /// After a failure.
    pub unhealthy_ms: u64,
    /// After a failure of which some more make the endpoint unhealthy.
    pub unhealthy_edge_ms: u64,
    /// After a success of which some more make it healthy.
    pub healthy_edge_ms: u64,
    /// While the cluster has never had a connection: after a success, and otherwise. None: as with traffic.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_traffic_ms: Option<(u64, u64)>,
    /// At random up to this before the first check.
    pub initial_jitter_ms: u64,
    /// At random up to this is added to each pause.
    pub jitter_ms: u64,
    /// At random up to so many percent of the pause are added.
    pub jitter_percent: u32,
}

/// What is asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthProbe {
    /// `http_health_check`.
    Http(HttpProbe),
    /// `grpc_health_check`: `grpc.health.v1.Health/Check` of this service; empty for the server as a whole.
    Grpc {
        /// `service_name`.
        service: String,
    },
    /// `tcp_health_check`: a connection, and when there is something to receive, that in its order.
    Tcp {
        /// Sent first.
        send: Vec<u8>,
        /// Parts of what comes back.
        receive: Vec<Vec<u8>>,
    },
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// GET by default.
    pub method: String,
    /// With the query, if there is one.
    pub path: String,
    /// Whether it is asked over HTTP/2; none for what the cluster speaks.
    pub http2: Option<bool>,
    /// From, and below which: 200 by default.
    pub expected: Vec<(u16, u16)>,
    /// Statuses that count up to `unhealthy_threshold` instead of deciding at once; none by default.
    pub retriable: Vec<(u16, u16)>,
}

impl HealthProbe {
    /// Envoy's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "HTTP",
            Self::Grpc { .. } => "GRPC",
            Self::Tcp { .. } => "TCP",
        }
    }
}
