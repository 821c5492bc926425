//! [`UdpListener`]: a socket of UDP, and the [`UdpProxy`] that its datagrams go by.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{Origin, TcpDestination};

/// One address that takes datagrams. It has nothing to do with a [`crate::Listener`] of the same address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UdpListener {
    /// `udp_ADDRESS_PORT`.
    pub name: String,
    /// Address to bind: the server's port after Service or `--port-map` mapping.
    pub address: SocketAddr,
    /// The port number as the Gateway wrote it.
    pub server_port: u16,
    /// Where datagrams go.
    pub proxy: UdpProxy,
    /// Sessions at once; datagrams that would begin more are dropped. Annotation `portolan.dev/max-connections`; without it
    /// the data plane's default.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_sessions: Option<u32>,
    /// The Gateway's server.
    pub origins: Vec<Origin>,
}

/// Where the datagrams of a listener go, Envoy's `udp_proxy`. All of one source are a session, and go to one endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UdpProxy {
    /// What its metrics are called: as those of a [`crate::TcpProxy`].
    pub stat_prefix: String,
    /// At least one; a weight is a share of sessions.
    pub destinations: Vec<TcpDestination>,
    /// A session without a datagram either way for this long ends, in milliseconds; none: never.
    /// `connectionPool.tcp.idleTimeout` of the first destination's rule; default one minute, as in Envoy.
    pub idle_timeout_ms: Option<u64>,
    /// The rule in the user's file.
    pub origin: Origin,
}
