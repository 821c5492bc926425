//! [`connect`]: a connection to an endpoint, ready for what is spoken on it: TCP, PROXY protocol, TLS, all within
//! `connectTimeout`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use portolan_model::TcpKeepalive;
use portolan_telemetry::{ClusterMetrics, UpstreamAddress};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

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
    address: UpstreamAddress,
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
    address: UpstreamAddress,
    transport: &UpstreamTransport,
    host: &str,
    application: Application,
) -> Result<Socket, String> {
    let key = transport.connection_key(Some(host), None);
    open(&Box::default(), address, transport, key.as_ref(), application).await
}

async fn open(
    metrics: &ClusterMetrics,
    address: UpstreamAddress,
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
    match address {
        UpstreamAddress::Socket(address) => {
            let mut socket = TcpStream::connect(address).await.map_err(|error| refused(&error))?;
            // A socket that refuses an option still works, only slower.
            let _ = socket.set_nodelay(true);
            if let Some(keepalive) = &transport.settings.tcp_keepalive {
                keep_alive(&socket, keepalive);
            }
            introduce(&mut socket, transport, key).await?;
            let Some(tls) = tls else { return Ok(Socket::Plain(socket)) };
            let stream = handshake(metrics, tls, socket, address.ip(), key, application).await?;
            Ok(Socket::Tls(Box::new(stream)))
        }
        // Boxed: rare, and what awaits it is moved with every request.
        UpstreamAddress::Pipe(path) => Box::pin(open_pipe(metrics, path, transport, (tls, key), application)).await,
    }
}

/// A Unix socket; certificates that name nobody are compared with no address.
async fn open_pipe(
    metrics: &ClusterMetrics,
    path: &str,
    transport: &UpstreamTransport,
    (tls, key): (Option<&ClientTls>, Option<&ConnectionKey>),
    application: Application,
) -> Result<Socket, String> {
    // The kernel's form of an abstract name.
    let path = path.strip_prefix('@').map_or_else(|| path.to_owned(), |name| format!("\0{name}"));
    let mut socket = UnixStream::connect(path).await.map_err(|error| refused(&error))?;
    introduce(&mut socket, transport, key).await?;
    let Some(tls) = tls else { return Ok(Socket::Pipe(socket)) };
    let nowhere = Ipv4Addr::UNSPECIFIED.into();
    let stream = handshake(metrics, tls, socket, nowhere, key, application).await?;
    Ok(Socket::PipeTls(Box::new(stream)))
}

fn refused(error: &io::Error) -> String {
    format!("delayed connect error: {}", failure::system_text(error))
}

/// The header of the PROXY protocol, where the cluster begins with one.
async fn introduce(
    socket: &mut (impl AsyncWrite + Unpin),
    transport: &UpstreamTransport,
    key: Option<&ConnectionKey>,
) -> Result<(), String> {
    let Some(version) = transport.settings.proxy_protocol else { return Ok(()) };
    let header = proxy_protocol::header(version, key.and_then(|key| key.proxied));
    socket.write_all(&header).await.map_err(|error| refused(&error))
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    metrics: &ClusterMetrics,
    tls: &ClientTls,
    socket: S,
    address: IpAddr,
    key: Option<&ConnectionKey>,
    application: Application,
) -> Result<TlsStream<S>, String> {
    // A Host that is no name cannot be told, nor is any certificate for it; an address is not told, and compared.
    let named = tls.sni.as_ref().or_else(|| key?.server_name.as_ref());
    let name = named.cloned().unwrap_or_else(|| ServerName::IpAddress(address.into()));
    match tls.connector(application).connect(name, socket).await {
        Ok(stream) => {
            metrics.ssl_handshake.inc();
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                metrics.ssl_session_reused.inc();
            }
            Ok(stream)
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
