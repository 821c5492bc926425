//! [`connect`]: a connection to an endpoint, ready for what is spoken on it: TCP, PROXY protocol, TLS, all within
//! `connectTimeout`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use portolan_model::TcpKeepalive;
use portolan_telemetry::ClusterMetrics;
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::{self, TlsCause};
use super::proxy_protocol;
use super::socket::Socket;
use super::tls::ClientTls;
use super::transport::{ConnectionKey, UpstreamTransport};
use crate::cluster::ClusterState;

/// What is spoken on a connection: TLS names it by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Application {
    Http1,
    Http2,
    Tcp,
}

/// Why there is no connection. The text is Envoy's `UPSTREAM_TRANSPORT_FAILURE_REASON`.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No connection, or no TLS on it.
    #[error("{0}")]
    Failed(String),
    /// Not within `connectTimeout`.
    #[error("connection timeout")]
    Timeout,
}

/// Connects to an endpoint of a cluster; failures are counted in the cluster's metrics.
pub(crate) async fn connect(
    cluster: &ClusterState,
    address: SocketAddr,
    limit: Duration,
    transport: &UpstreamTransport,
    key: Option<&ConnectionKey>,
    application: Application,
) -> Result<Socket, ConnectError> {
    let metrics = &cluster.metrics;
    let result = match timeout(limit, open(metrics, address, transport, key, application)).await {
        Ok(result) => result.map_err(ConnectError::Failed),
        Err(_) => {
            metrics.upstream_cx_connect_timeout.inc();
            Err(ConnectError::Timeout)
        }
    };
    if result.is_err() {
        metrics.upstream_cx_connect_fail.inc();
    }
    result
}

/// A connection for a health check of this Host: it counts as none of the cluster's, and has no limit of its own.
pub(crate) async fn open_for_check(
    address: SocketAddr,
    transport: &UpstreamTransport,
    host: &str,
    application: Application,
) -> Result<Socket, String> {
    let key = transport.connection_key(Some(host), None);
    open(&Box::default(), address, transport, key.as_ref(), application).await
}

async fn open(
    metrics: &ClusterMetrics,
    address: SocketAddr,
    transport: &UpstreamTransport,
    key: Option<&ConnectionKey>,
    application: Application,
) -> Result<Socket, String> {
    let tls = match &transport.tls {
        None => None,
        Some(Ok(tls)) => Some(tls),
        // Without its certificates nothing may go out.
        Some(Err(_)) => return Err("TLS error: Secret is not supplied by SDS".to_owned()),
    };
    let refused = |error: io::Error| format!("delayed connect error: {}", failure::system_text(&error));
    let mut socket = TcpStream::connect(address).await.map_err(refused)?;
    // A socket that refuses an option still works, only slower.
    let _ = socket.set_nodelay(true);
    if let Some(keepalive) = &transport.settings.tcp_keepalive {
        keep_alive(&socket, keepalive);
    }
    if let Some(version) = transport.settings.proxy_protocol {
        let header = proxy_protocol::header(version, key.and_then(|key| key.proxied));
        socket.write_all(&header).await.map_err(refused)?;
    }
    match tls {
        None => Ok(Socket::Plain(socket)),
        Some(tls) => handshake(metrics, tls, socket, address, key, application).await,
    }
}

async fn handshake(
    metrics: &ClusterMetrics,
    tls: &ClientTls,
    socket: TcpStream,
    address: SocketAddr,
    key: Option<&ConnectionKey>,
    application: Application,
) -> Result<Socket, String> {
    // A Host that is no name cannot be told, nor is any certificate for it; an address is not told, and compared.
    let named = tls.sni.as_ref().or_else(|| key?.server_name.as_ref());
    let name = named.cloned().unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
    match tls.connector(application).connect(name, socket).await {
        Ok(stream) => {
            metrics.ssl_handshake.inc();
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                metrics.ssl_session_reused.inc();
            }
            Ok(Socket::Tls(Box::new(stream)))
        }
        Err(error) => {
            let (text, cause) = failure::handshake(&error);
            match cause {
                TlsCause::Names => metrics.ssl_fail_verify_san.inc(),
                TlsCause::Certificate => metrics.ssl_fail_verify_error.inc(),
                TlsCause::Connection => metrics.ssl_connection_error.inc(),
            }
            Err(text)
        }
    }
}

fn keep_alive(socket: &TcpStream, written: &TcpKeepalive) {
    let seconds = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let mut options = socket2::TcpKeepalive::new();
    if let Some(time) = seconds(written.time_s) {
        options = options.with_time(time);
    }
    if let Some(interval) = seconds(written.interval_s) {
        options = options.with_interval(interval);
    }
    if let Some(probes) = written.probes {
        options = options.with_retries(probes);
    }
    // As above: the connection works without.
    let _ = socket2::SockRef::from(socket).set_tcp_keepalive(&options);
}
