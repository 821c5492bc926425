//! What QUIC serves clients with: the certificate of the filter chain that the server name chooses, and bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use portolan_telemetry::ListenerMetrics;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::{self, FilterChains};

/// Requests of one client at once.
pub(super) const MAX_STREAMS: u32 = 100;
/// Streams of one direction of one client: control, QPACK's two, and some that are greased.
const MAX_ONE_WAY: u32 = 8;
/// What a client may send of one stream before it is read, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
/// And of all its streams.
const WINDOW: u32 = 1024 * 1024;
/// What waits to be acknowledged by one client, in bytes.
const SEND_WINDOW: u64 = 1024 * 1024;
/// A client from which nothing comes is asked after this time, and forgotten without an answer, as over HTTP/2.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(60);
/// Clients whose first packet has come and that are not yet taken in, and what is kept of their packets meanwhile.
const MAX_INCOMING: usize = 1024;
const INCOMING_BYTES: u64 = 16 * 1024;
const ALL_INCOMING_BYTES: u64 = 4 * 1024 * 1024;

/// Why no client can be served over QUIC.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuicError {
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Suite(#[from] NoInitialCipherSuite),
    #[error("a time is out of bounds")]
    Time,
    #[error("{0}")]
    Socket(#[from] std::io::Error),
}

/// Shows clients the certificate of the chain that they ask for; none to others.
struct ByServerName {
    chains: Arc<FilterChains>,
    metrics: Arc<ListenerMetrics>,
}

impl fmt::Debug for ByServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByServerName").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let found = self.chains.find(name.as_deref()).and_then(|index| self.chains.list.get(index)?.quic());
        if found.is_none() {
            self.metrics.no_filter_chain_match.inc();
        }
        found?.certificate(hello)
    }
}

/// Keys of session tickets, which outlive changes of the chains. No chain of QUIC asks for a client's certificate, and
/// rustls takes a ticket for the server name only that it was given for.
pub(super) fn tickets() -> Result<Arc<dyn ProducesTickets>, QuicError> {
    Ok(Ticketer::new()?)
}

/// What new clients are served with. Without 0-RTT: nothing can be replayed. Without migration: the address that access was
/// granted to is that of all requests.
pub(super) fn server_config(
    chains: &Arc<FilterChains>,
    metrics: Arc<ListenerMetrics>,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<quinn::ServerConfig, QuicError> {
    let provider = tls::certificate::provider().clone();
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByServerName { chains: chains.clone(), metrics }));
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.ticketer = tickets.clone();
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config
        .transport_config(Arc::new(transport()?))
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(ALL_INCOMING_BYTES);
    Ok(config)
}

fn transport() -> Result<TransportConfig, QuicError> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_ONE_WAY))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE).map_err(|_| QuicError::Time)?))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None);
    Ok(transport)
}
