//! [`Listener`]: a socket, and the route table that its requests go by, or the [`TcpProxy`] that its connections do.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, Origin};

/// Index into [`crate::Model::route_tables`].
pub type RouteTableId = u32;

/// One address that is served. Istio merges all plain HTTP servers of a port and bind address into one; a TCP server has
/// its address for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `ADDRESS_PORT` as Istio names it, e.g. `0.0.0.0_8080`.
    pub name: String,
    /// Address to bind: the server's port after Service or `--port-map` mapping.
    pub address: SocketAddr,
    /// The port number as the Gateway wrote it: what a route's `port` condition and default destination ports mean.
    pub server_port: u16,
    /// Which hosts and routes are served here; [`RouteTableId::MAX`] on a listener of TCP.
    pub route_table: RouteTableId,
    /// Where connections go as they are; none where HTTP is served.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tcp: Option<TcpProxy>,
    /// The Gateway servers that were merged into this listener, oldest first.
    pub origins: Vec<Origin>,
}

/// Where the connections of a TCP listener go, Envoy's `tcp_proxy`: the first `tcp` rule that fits the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpProxy {
    /// What its metrics are called, as in Istio: the cluster of the only destination, else `name.namespace` of the
    /// VirtualService.
    pub stat_prefix: String,
    /// At least one. With one, its weight is ignored; entries of weight 0 have been left out.
    pub destinations: Vec<TcpDestination>,
    /// A connection on which no byte goes either way for this long is closed, in milliseconds; none: never.
    /// `connectionPool.tcp.idleTimeout` of the first destination's rule; default 1 h.
    pub idle_timeout_ms: Option<u64>,
    /// No connection lives longer, in milliseconds. `connectionPool.tcp.maxConnectionDuration`; default none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_connection_duration_ms: Option<u64>,
    /// The rule in the user's file.
    pub origin: Origin,
}

/// One weighted cluster of a [`TcpProxy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpDestination {
    /// Index into [`crate::Model::clusters`], or [`crate::MISSING_CLUSTER`]: such a destination keeps its share, and its
    /// connections are closed with flag NC.
    pub cluster: ClusterId,
    /// `outbound|port|subset|host`, also when missing.
    pub cluster_name: String,
    /// Share relative to the sum of the weights.
    pub weight: u32,
    /// The destination in the user's file.
    pub origin: Origin,
}
