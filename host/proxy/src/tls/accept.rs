//! From an accepted socket to a filter chain: the client's hello, the chain of its server name, the handshake. Runs beside
//! the accept loop, for a bounded time and with a bounded number of clients at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rustls::server::Acceptor;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::{ClientStream, Hello, ServerTls, Transport, peer};
use crate::connection::{self, Accepted, OpenSocket};
use crate::context::ConnectionInfo;
use crate::listener::ListenerSlot;
use crate::tcp;
use crate::worker::Worker;

/// Handshakes under way on one worker. At the bound the oldest is ended: it has had most time, and whoever fills the
/// places with silence gets rid of himself first.
const MAX_HANDSHAKES: usize = 4096;
/// `unrecognized_name` of RFC 6066.
const UNRECOGNIZED_NAME: u8 = 112;
/// `internal_error`: we have no certificate.
const INTERNAL_ERROR: u8 = 80;

/// The handshakes under way on a worker, oldest first.
#[derive(Default)]
pub(crate) struct Handshakes {
    by_id: RefCell<BTreeMap<u64, Rc<Notify>>>,
    last: Cell<u64>,
}

/// The place of one handshake, or of a client whose PROXY header is awaited.
pub(crate) struct Place {
    worker: Rc<Worker>,
    id: u64,
    ended: Rc<Notify>,
}

/// A client whose chain is known.
enum Client {
    Tls(Box<ClientStream>),
    /// Its socket, and what it has sent so far.
    Bytes(TcpStream, Bytes),
}

impl Handshakes {
    pub(crate) fn len(&self) -> usize {
        self.by_id.borrow().len()
    }

    /// Ends all of them.
    pub(crate) fn cut(&self) {
        self.by_id.borrow().values().for_each(|ended| ended.notify_one());
    }

    /// A place for one more, from which the oldest makes way at the bound.
    pub(crate) fn begin(worker: &Rc<Worker>, slot: &ListenerSlot) -> Place {
        let id = worker.handshakes.last.get() + 1;
        worker.handshakes.last.set(id);
        let (ended, overflows) = worker.handshakes.admit(id);
        if overflows {
            slot.metrics().downstream_cx_overflow.inc();
        }
        Place { worker: worker.clone(), id, ended }
    }

    /// What ends the handshake, and whether the oldest one had to make room for it.
    fn admit(&self, id: u64) -> (Rc<Notify>, bool) {
        let mut places = self.by_id.borrow_mut();
        let oldest = if places.len() >= MAX_HANDSHAKES { places.pop_first() } else { None };
        if let Some((_, oldest)) = &oldest {
            oldest.notify_one();
        }
        let ended = Rc::new(Notify::new());
        places.insert(id, ended.clone());
        (ended, oldest.is_some())
    }
}

impl Place {
    /// Resolves when the place is needed for another.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.handshakes.by_id.borrow_mut().remove(&self.id);
        self.worker.connection_closed.notify_waiters();
    }
}

/// Serves an accepted socket of a listener with filter chains in a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, accepted: Accepted) {
    let Accepted { socket, early, info, open } = accepted;
    let place = Handshakes::begin(worker, slot);
    let (worker, slot) = (worker.clone(), slot.clone());
    let limit = worker.edge.limits.handshake_timeout;
    spawn_local(async move {
        let hello = Hello::new(socket, early, slot.has_passthrough());
        let shaken = tokio::select! {
            biased;
            () = place.ended() => return,
            shaken = tokio::time::timeout(limit, shake(&worker, &slot, hello, &info)) => shaken,
        };
        match shaken {
            Ok(Some((chain, client))) => hand_over(&worker, &chain, client, info, open),
            Ok(None) => {}
            Err(_) => slot.metrics().downstream_cx_transport_socket_connect_timeout.inc(),
        }
        drop(place);
    });
}

fn hand_over(
    worker: &Rc<Worker>,
    chain: &Rc<ListenerSlot>,
    client: Client,
    info: Arc<ConnectionInfo>,
    open: OpenSocket,
) {
    match (chain.tcp(), client) {
        (Some(tcp), Client::Tls(stream)) => {
            tcp::serve_client(worker, (chain.view(worker), tcp), tcp::Client::of_tls(*stream), info, open);
        }
        (Some(tcp), Client::Bytes(socket, early)) => {
            tcp::serve_client(worker, (chain.view(worker), tcp), tcp::Client::of_socket(socket, early), info, open);
        }
        (None, Client::Tls(stream)) => connection::serve_tls(worker, chain, *stream, info, open),
        // The chain has become another in between: nobody can say anything to this client.
        (None, Client::Bytes(..)) => {}
    }
}

/// None when the client has been turned away, or has gone.
async fn shake(
    worker: &Worker,
    slot: &ListenerSlot,
    hello: Hello,
    info: &ConnectionInfo,
) -> Option<(Rc<ListenerSlot>, Client)> {
    let metrics = slot.metrics();
    let start = match LazyConfigAcceptor::new(Acceptor::default(), hello).await {
        Ok(start) => start,
        Err(_) => {
            metrics.ssl_connection_error.inc();
            return None;
        }
    };
    if let Some(config) = worker.view().snapshot.challenges.config(&start.client_hello()) {
        return prove(start, config).await;
    }
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let Some((chain, transport)) = slot.chain(name.as_deref()) else {
        metrics.no_filter_chain_match.inc();
        metrics.ssl_connection_error.inc();
        return turn_away(start, UNRECOGNIZED_NAME).await;
    };
    match transport {
        Transport::Down => {
            metrics.ssl_connection_error.inc();
            turn_away(start, INTERNAL_ERROR).await
        }
        Transport::Passthrough => {
            let (socket, early) = start.io.into_parts();
            info.state.set_server_name(name.as_deref());
            Some((chain, Client::Bytes(socket, early)))
        }
        Transport::Tls(tls) => match terminate(start, &tls).await {
            Ok(stream) => {
                told(&chain, &stream, &tls, name.as_deref(), info);
                Some((chain, Client::Tls(Box::new(stream))))
            }
            Err(error) => {
                count(&chain, &error);
                None
            }
        },
    }
}

/// Shows the certificate that an authority asks for, and nothing else.
async fn prove<T>(mut start: StartHandshake<Hello>, config: Arc<ServerConfig>) -> Option<T> {
    start.io.forget();
    if let Ok(mut stream) = start.into_stream(config).await {
        let _ = stream.shutdown().await;
    }
    None
}

async fn terminate(mut start: StartHandshake<Hello>, tls: &ServerTls) -> io::Result<ClientStream> {
    start.io.forget();
    let config = tls.config(&start.client_hello()).clone();
    start.into_stream(config).await
}

fn told(chain: &ListenerSlot, stream: &ClientStream, tls: &ServerTls, name: Option<&str>, info: &ConnectionInfo) {
    let (_, session) = stream.get_ref();
    let metrics = chain.metrics();
    metrics.ssl_handshake.inc();
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        metrics.ssl_session_reused.inc();
    }
    if session.peer_certificates().is_none() {
        metrics.ssl_no_certificate.inc();
    }
    info.state.set_tls(peer::tls_info(session, name, &tls.local));
}

/// Envoy counts a certificate that was refused, or not shown, apart from what else goes wrong.
fn count(chain: &ListenerSlot, error: &io::Error) {
    let metrics = chain.metrics();
    metrics.ssl_connection_error.inc();
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoCertificatesPresented) => metrics.ssl_fail_verify_no_cert.inc(),
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure)) => {
            metrics.ssl_fail_verify_san.inc();
        }
        Some(rustls::Error::InvalidCertificate(_)) => metrics.ssl_fail_verify_error.inc(),
        _ => {}
    }
}

/// A fatal alert in the clear, and nothing else: no certificate is shown.
async fn turn_away<T>(mut start: StartHandshake<Hello>, alert: u8) -> Option<T> {
    // A client that is gone needs no alert.
    let _ = start.io.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
    let _ = start.io.shutdown().await;
    None
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn at_the_bound_the_oldest_handshake_makes_room_and_no_other() {
        let handshakes = Handshakes::default();
        let bound = MAX_HANDSHAKES as u64;
        let places: Vec<_> = (0..bound).map(|id| handshakes.admit(id)).collect();
        assert!(places.iter().all(|(_, overflows)| !overflows) && handshakes.len() == MAX_HANDSHAKES);
        assert!(handshakes.admit(bound).1);
        let ended = |at: usize| places[at].0.notified().now_or_never().is_some();
        assert!(ended(0) && !ended(1) && handshakes.len() == MAX_HANDSHAKES);
    }
}
