//! Principals of connections towards endpoints, by number: what their certificates say in a URI, as SPIFFE's names do.

use std::sync::{Arc, LazyLock};

use portolan_telemetry::StandardPrincipals;

use crate::numbered::Numbered;
use crate::upstream::{Socket, UpstreamTransport};

static KNOWN: LazyLock<Numbered<StandardPrincipals, StandardPrincipals>> = LazyLock::new(Numbered::default);

/// The number of both sides' principals; 0 without TLS, and where neither certificate has one.
pub(crate) fn number(socket: &Socket, transport: &UpstreamTransport) -> u32 {
    let Some(session) = socket.session() else { return 0 };
    let certificate = session.peer_certificates().and_then(<[_]>::first);
    let destination = certificate.and_then(|certificate| crate::tls::first_uri(certificate)).unwrap_or_default();
    let principals = StandardPrincipals { source: transport.principal().to_owned(), destination };
    if principals == StandardPrincipals::default() { 0 } else { KNOWN.number(&principals, Clone::clone) }
}

/// The principals of a number.
pub(crate) fn of(number: u32) -> Option<Arc<StandardPrincipals>> {
    KNOWN.of(number)
}
