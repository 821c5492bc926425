//! [`serve`]: one client of HTTP/3, from its handshake to GOAWAY.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::quic::{self, Intake, Quic};
use super::request::{self, ClientBody, Outcome};
use super::settings::MAX_STREAMS;
use crate::connection::{self, Link, OpenSocket};
use crate::context::ConnectionInfo;
use crate::listener::ListenerSlot;
use crate::on_worker::OnWorker;
use crate::tls::Handshakes;
use crate::worker::Worker;

/// What is on its way between HTTP/3 and HTTP/2, in bytes: one direction of one client.
const PIPE: usize = 64 * 1024;
/// What waits to be sent to the client of one stream.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Names and values of a head together, as over HTTP/2; the answer to a longer one is 431.
const MAX_HEADER_LIST: u32 = 60 * 1024;
/// How long a client that was told to go, and has had its last answer, may take to close the connection.
const FAREWELL: Duration = Duration::from_secs(1);
/// Requests of one client that come to nothing in [`FLOOD_TIME`]; more, when they are more than half of all, end the
/// connection, as over HTTP/2.
const MAX_ABANDONED: u32 = 200;
const FLOOD_TIME: Duration = Duration::from_secs(10);
/// How long a client is taken requests of, at least, that has been told to go.
const ANNOUNCED: Duration = Duration::from_millis(100);

/// Serves a client until it goes, or is told to and has had its answers.
pub(super) async fn serve(
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    incoming: Incoming,
    mut open: OpenSocket,
    goes: watch::Receiver<bool>,
) {
    let Some(connection) = shake(&worker, &slot, incoming).await else { return };
    // Only now its address is known to be its own.
    if !open.take_source_place(&worker, connection.remote_address().ip()) {
        close(&connection, Code::H3_EXCESSIVE_LOAD);
        return;
    }
    let Some((chain, info)) = told(&slot, &connection) else {
        close(&connection, Code::H3_NO_ERROR);
        return;
    };
    let link = Rc::<Link>::default();
    let (near, far) = tokio::io::duplex(PIPE);
    connection::serve_http3(&worker, &chain, far, info, open, link.clone());
    let client = Client { worker, chain, link, goes };
    client.run(&connection, near).await;
}

/// None when it has failed, which is counted, or taken too long.
async fn shake(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, incoming: Incoming) -> Option<Connection> {
    let place = Handshakes::begin(worker, slot);
    let limit = worker.edge.limits.handshake_timeout;
    let connecting = incoming.accept().ok()?;
    let shaken = tokio::select! {
        biased;
        () = place.ended() => return None,
        shaken = timeout(limit, connecting) => shaken,
    };
    let metrics = slot.metrics();
    match shaken {
        Ok(Ok(connection)) => {
            metrics.ssl_handshake.inc();
            metrics.ssl_no_certificate.inc();
            Some(connection)
        }
        Ok(Err(_)) => {
            metrics.ssl_connection_error.inc();
            None
        }
        Err(_) => {
            metrics.downstream_cx_transport_socket_connect_timeout.inc();
            None
        }
    }
}

/// The chain that serves it, and what is known of it. None when the chain has gone, or serves HTTP/3 no more.
fn told(slot: &ListenerSlot, connection: &Connection) -> Option<(Rc<ListenerSlot>, Arc<ConnectionInfo>)> {
    let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    let name = data.server_name.map(|name| name.to_ascii_lowercase());
    let (chain, tls) = slot.quic_chain(name.as_deref())?;
    let peer = connection.remote_address();
    let local = SocketAddr::new(connection.local_ip().unwrap_or(slot.address.ip()), slot.address.port());
    let info = connection::info_of(peer, peer, local)?;
    info.state.set_tls(tls.quic_info(name.as_deref()));
    info.state.set_http3();
    Some((chain, info))
}

/// Of a connection that is closed already nothing is changed.
fn close(connection: &Connection, code: Code) {
    connection.close(quic::code(code), b"");
}

/// What a client is served with.
struct Client {
    worker: Rc<Worker>,
    chain: Rc<ListenerSlot>,
    link: Rc<Link>,
    goes: watch::Receiver<bool>,
}

impl Client {
    /// Serves it until the connection is closed.
    async fn run(mut self, connection: &Connection, near: tokio::io::DuplexStream) {
        let Ok((sender, inner)) = within(near).await else { return close(connection, Code::H3_INTERNAL_ERROR) };
        let mut inner = pin!(inner);
        let intake = Intake::default();
        let mut builder = h3::server::builder();
        builder.max_field_section_size(MAX_HEADER_LIST.into()).enable_extended_connect(true).send_grease(false);
        let built = tokio::select! {
            built = builder.build::<_, Bytes>(Quic::new(connection.clone(), intake.clone())) => built,
            _ = &mut inner => return close(connection, self.code()),
        };
        let Ok(mut outer) = built else { return close(connection, Code::H3_NO_ERROR) };
        let mut requests = JoinSet::new();
        let mut farewell: Option<Farewell> = None;
        let mut flood = Flood::default();
        let code = loop {
            tokio::select! {
                // It was idle for too long, or cut, or has flooded us.
                _ = &mut inner => break self.code(),
                () = self.told_to_go(), if farewell.is_none() => {
                    // What is on its way is still taken in.
                    let further = if intake.is_unused() { 1 } else { MAX_STREAMS };
                    farewell = Some(Farewell::announced(further, connection));
                    if !goaway(&mut outer, &intake, further).await {
                        break Code::H3_NO_ERROR;
                    }
                }
                () = Farewell::due(farewell), if farewell.is_some_and(|farewell| !farewell.is_last) => {
                    farewell = Some(Farewell::last());
                    if !goaway(&mut outer, &intake, 1).await {
                        break Code::H3_NO_ERROR;
                    }
                }
                accepted = outer.accept() => match accepted {
                    Ok(Some(resolver)) => {
                        flood.opened();
                        let (worker, chain) = (self.worker.clone(), self.chain.clone());
                        let request = request::answer(worker, chain, resolver, intake.stopped(), sender.clone());
                        requests.spawn_local(request);
                    }
                    Ok(None) | Err(_) => break Code::H3_NO_ERROR,
                },
                Some(ended) = requests.join_next(), if !requests.is_empty() => {
                    if ended.is_ok_and(|outcome| outcome == Outcome::Abandoned) && flood.is_too_much() {
                        self.chain.http().downstream_rq_too_many_premature_resets.inc();
                        break Code::H3_EXCESSIVE_LOAD;
                    }
                    farewell = farewell.map(|farewell| if farewell.is_last { Farewell::last() } else { farewell });
                }
                () = Farewell::due(farewell), if requests.is_empty() && farewell.is_some_and(|f| f.is_last) => {
                    break Code::H3_NO_ERROR;
                }
            }
        };
        // Before h3 says that all is well, as it is dropped.
        close(connection, code);
    }

    /// What the client is told when the connection of HTTP/2 has ended.
    fn code(&self) -> Code {
        if self.link.is_flooded.get() { Code::H3_EXCESSIVE_LOAD } else { Code::H3_NO_ERROR }
    }

    async fn told_to_go(&mut self) {
        tokio::select! {
            () = self.link.goaway.notified() => {}
            _ = self.goes.wait_for(|goes| *goes) => {}
        }
    }
}

/// Requests of a client of late, and those of them that came to nothing.
#[derive(Default)]
struct Flood {
    since: Option<Instant>,
    opened: u32,
    abandoned: u32,
}

impl Flood {
    fn opened(&mut self) {
        let now = Instant::now();
        if self.since.is_none_or(|since| now - since > FLOOD_TIME) {
            *self = Self { since: Some(now), ..Self::default() };
        }
        self.opened += 1;
    }

    /// One more has come to nothing.
    fn is_too_much(&mut self) -> bool {
        self.abandoned += 1;
        self.abandoned > MAX_ABANDONED && self.abandoned > self.opened / 2
    }
}

/// A client that was told to go.
#[derive(Clone, Copy)]
struct Farewell {
    /// When the next step is due.
    due: Instant,
    /// Nothing more is taken in.
    is_last: bool,
}

impl Farewell {
    /// Told with so many further requests taken in, for as long as those take that the client sends before it knows.
    fn announced(further: u32, connection: &Connection) -> Self {
        match further {
            1 => Self::last(),
            _ => Self { due: Instant::now() + (connection.rtt() * 2).clamp(ANNOUNCED, FAREWELL), is_last: false },
        }
    }

    fn last() -> Self {
        Self { due: Instant::now() + FAREWELL, is_last: true }
    }

    async fn due(farewell: Option<Self>) {
        sleep_until(farewell.map_or_else(Instant::now, |farewell| farewell.due)).await;
    }
}

/// Sends GOAWAY, which takes in so many requests from the last one on; false when the client does not take it.
async fn goaway(outer: &mut h3::server::Connection<Quic, Bytes>, intake: &Intake, further: u32) -> bool {
    intake.close(further.into());
    matches!(timeout(FAREWELL, outer.shutdown(further as usize)).await, Ok(Ok(())))
}

type Inner = http2::Connection<TokioIo<tokio::io::DuplexStream>, ClientBody, OnWorker>;

/// The HTTP/2 connection within the process. Its window is as large as all streams' together: a stream that a client does not
/// read stalls no other.
async fn within(near: tokio::io::DuplexStream) -> hyper::Result<(SendRequest<ClientBody>, Inner)> {
    http2::Builder::new(OnWorker)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST * 2)
        .handshake(TokioIo::new(near))
        .await
}
