//! TLS of clients' connections: from the server name that a client asks for to the filter chain that serves it.

mod accept;
#[allow(dead_code, reason = "clusters come to use it with their own changes")]
pub(crate) mod certificate;
mod chains;
mod hello;
mod making;
mod odd_certificate;
pub(crate) mod offer;
mod peer;
mod resolver;
mod server_config;
mod staple;
mod verifier;

pub(crate) use accept::{Handshakes, serve};
pub use certificate::validity;
pub(crate) use chains::{ChainEntry, FilterChains, Transport};
pub(crate) use hello::Hello;
pub(crate) use making::ChainMaking;
pub(crate) use odd_certificate::{OddCertificate, Purpose};
pub(crate) use peer::first_uri;
pub(crate) use server_config::ServerTls;

/// A client's connection whose TLS ends here.
pub(crate) type ClientStream = tokio_rustls::server::TlsStream<Hello>;
