//! [`Listener`]: a socket, and the route table that its requests go by, the [`TcpProxy`] that its connections do, or
//! [`FilterChain`]s, which the server name of a TLS client chooses among.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::secret::SecretId;
use crate::{ClusterId, Network, Origin};

/// Index into [`crate::Model::route_tables`].
pub type RouteTableId = u32;

/// One address that is served. Istio merges all plain HTTP servers of a port and bind address into one, and so all TLS
/// servers, each with a filter chain of its own; a TCP server has its address for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// `ADDRESS_PORT` as Istio names it, e.g. `0.0.0.0_8080`.
    pub name: String,
    /// Address to bind: the server's port after Service or `--port-map` mapping.
    pub address: SocketAddr,
    /// The port number as the Gateway wrote it: what a route's `port` condition and default destination ports mean.
    pub server_port: u16,
    /// Which hosts and routes are served here; [`RouteTableId::MAX`] on a listener of TCP or TLS.
    pub route_table: RouteTableId,
    /// Where connections go as they are; none where HTTP is served.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tcp: Option<TcpProxy>,
    /// What TLS clients are given, by the server name that they ask for; empty where connections are plain.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub filter_chains: Vec<FilterChain>,
    /// Connections begin with a header of the PROXY protocol; none where they do not. Istio's
    /// `gatewayTopology.proxyProtocol` for all listeners, annotation `portolan.dev/proxy-protocol` for those of a Gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proxy_headers: Option<ProxyHeaders>,
    /// What its Gateway's annotations say of limits.
    #[serde(skip_serializing_if = "ListenerLimits::is_default", default)]
    pub limits: ListenerLimits,
    /// The Gateway servers that were merged into this listener, oldest first.
    pub origins: Vec<Origin>,
}

/// Who may, or must, begin a connection with a header of the PROXY protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyHeaders {
    /// A connection without one is closed; else it is served with its own address.
    pub required: bool,
    /// Whose header counts; empty for everybody's. Connections of others are closed where a header is required, and
    /// served with their own address where it is not: a header of theirs is then bytes like any others.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub trusted: Vec<Network>,
}

/// Limits of one listener, over those of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerLimits {
    /// Connections at once; more are closed as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// How long a request may go without a byte either way, in milliseconds; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle_timeout_ms: Option<u64>,
    /// How long a request may take to come in, in milliseconds; 0 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout_ms: Option<u64>,
}

impl ListenerLimits {
    /// True when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What TLS clients of some server names are given: the routes of one server, or a place where bytes go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterChain {
    /// In lower case: names, `*.suffix`, and `*`, which also takes clients that name no server. The exact name wins, then
    /// the longest suffix. No two chains of a listener share one.
    pub server_names: Vec<String>,
    /// How TLS ends here; none where it goes through to the upstream as it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tls: Option<DownstreamTls>,
    /// The hosts and routes of requests; [`RouteTableId::MAX`] where `tcp` is set.
    pub route_table: RouteTableId,
    /// Where the bytes go, as they are or as TLS brought them; none where HTTP is served.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tcp: Option<TcpProxy>,
    /// Clients may come over HTTP/3, too: annotation `portolan.dev/http3` of the Gateway. Default false.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub http3: bool,
    /// The Gateway's server.
    pub origin: Origin,
}

/// TLS settings of a filter chain, Envoy's `DownstreamTlsContext`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DownstreamTls {
    /// Key pairs, of which a client is shown one that it can verify.
    pub certificates: Vec<SecretId>,
    /// Whether clients show a certificate; not by default.
    pub client_certificate: ClientCertificate,
    /// Entry `ca.crt`: who may have signed clients' certificates; `ca.crl`: which of them count no more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ca: Option<SecretId>,
    /// A client's certificate must have one of these; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub subject_alt_names: Vec<String>,
    /// SHA-256 of a client's public key in base64; this list or the next one must hold it, unless both are empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub verify_certificate_spki: Vec<String>,
    /// SHA-256 of a client's certificate in hexadecimal, with or without colons.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub verify_certificate_hash: Vec<String>,
    /// The lowest version; default 1.2.
    pub min_version: TlsVersion,
    /// The highest version; default 1.3.
    pub max_version: TlsVersion,
    /// Suites of TLS 1.2 by OpenSSL's names; empty: all that are known. Those of 1.3 are always on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub cipher_suites: Vec<String>,
    /// Curves of the key exchange by BoringSSL's names; empty: all that are known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ecdh_curves: Vec<String>,
}

/// Whether a client must show a certificate. One that is shown must be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCertificate {
    /// It is not asked: mode SIMPLE.
    #[default]
    None,
    /// It is asked: mode OPTIONAL_MUTUAL.
    Optional,
    /// It must: mode MUTUAL.
    Required,
}

/// A version that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
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
    /// Connections go through a tunnel of the only destination's; none: as they are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tunnel: Option<Tunnel>,
    /// The rule in the user's file.
    pub origin: Origin,
}

/// `trafficPolicy.tunnel`: the endpoint is a proxy, which is asked over HTTP to carry the bytes to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// `HOST:PORT`, an address of IPv6 in brackets.
    pub target: String,
    /// By POST instead of CONNECT, with the bytes in bodies.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub post: bool,
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
