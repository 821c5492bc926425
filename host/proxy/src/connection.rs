//! One client's connection, plain or within TLS: hyper's server over it, with deadlines for heads and idleness kept by the
//! worker's sweep instead of a timer per request.

mod activity;
mod farewell;
mod guard;
mod http1;
mod http2;
mod watched;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use portolan_telemetry::{Counter, ListenerMetrics, StreamInfo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

pub(crate) use self::activity::Activity;
pub use self::guard::{Fault, Guard};
use self::http2::Streams;
pub(crate) use self::http2::{Ended, StreamClock, StreamReset};
#[cfg(feature = "http3")]
pub(crate) use self::http2::{Link, head_block as hpack};
use self::watched::{Protocol, Watched, sniff};
use crate::body::ResponseBody;
use crate::context::ConnectionInfo;
use crate::edge::{EdgeLimits, SourcePlace};
use crate::listener::ListenerSlot;
use crate::log_entry::LogEntry;
use crate::properties::ConnectionState;
use crate::stream;
use crate::tls::ClientStream;
use crate::worker::Worker;

/// How long a connection that is to end may do nothing: a client that sends request after request gets its next answer,
/// which tells it to close, instead of a closed socket.
const LAST_IDLE: Duration = Duration::from_secs(5);
/// After which time without a request an HTTP/1 connection waits with its socket alone. Precise to the sweep.
const PARK_AFTER: Duration = Duration::from_secs(1);

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The worker's handle on a connection.
pub(crate) struct Handle {
    info: Arc<ConnectionInfo>,
    slot: Rc<ListenerSlot>,
    waker: RefCell<Option<Waker>>,
    /// It is to end, after the next answer at the latest.
    drain: Cell<bool>,
    /// And does not wait for that one.
    hurry: Cell<bool>,
    is_http2: Cell<bool>,
    /// Of HTTP/2; empty over HTTP/1.
    streams: Streams,
    kill: Cell<bool>,
}

impl Handle {
    /// Its listener, or the filter chain of its listener.
    pub(crate) fn slot(&self) -> &Rc<ListenerSlot> {
        &self.slot
    }

    /// Lets the request in flight, or the next one, end and closes then, or when none comes for a while. Over HTTP/2 the
    /// client is told at once.
    pub(crate) fn drain(&self) {
        self.drain.set(true);
        self.wake();
    }

    /// Closes as soon as no request is in flight.
    pub(crate) fn hurry(&self) {
        self.hurry.set(true);
        self.drain();
    }

    /// Tells the client to go where that can be told apart from an answer: over HTTP/2.
    pub(crate) fn say_goodbye(&self) {
        if self.is_http2.get() {
            self.drain();
        }
    }

    /// Ends what has taken too long: a head that does not come, a connection without requests, a request without progress.
    /// Precise to the worker's sweep, half a second.
    pub(crate) fn sweep(&self, now_ms: u64, limits: &EdgeLimits, logs: &[LogEntry]) {
        let passed = |since: u64, limit: Duration| {
            !limit.is_zero() && Duration::from_millis(now_ms.saturating_sub(since)) > limit
        };
        if self.is_http2.get() {
            let times = (self.stream_idle_timeout(limits), request_timeout(&self.slot, limits));
            let (stood, overdue) = self.streams.sweep(now_ms, times);
            self.slot.http().downstream_rq_idle_timeout.inc_by(stood);
            self.slot.http().downstream_rq_timeout.inc_by(overdue);
        }
        let activity = &self.info.activity;
        match activity.waits() {
            Some((since, false)) if self.drain.get() && passed(since, LAST_IDLE) => self.hurry(),
            Some((since, true)) if self.drain.get() && passed(since, LAST_IDLE) => self.end_head(logs),
            Some((since, true)) if passed(since, limits.head_timeout) => self.end_head(logs),
            Some((since, false)) if passed(since, limits.idle_timeout) => {
                self.slot.http().downstream_cx_idle_timeout.inc();
                self.cut();
            }
            Some((since, false)) if passed(since, PARK_AFTER) && !self.is_http2.get() => self.park(),
            None if self.is_http2.get() => {}
            None if passed(activity.last_progress(), self.stream_idle_timeout(limits)) => {
                self.end_stream(&self.slot.http().downstream_rq_idle_timeout);
            }
            None if activity.owes_since().is_some_and(|since| passed(since, request_timeout(&self.slot, limits))) => {
                self.end_stream(&self.slot.http().downstream_rq_timeout);
            }
            _ => {}
        }
    }

    /// The client is told once, and cut with the next sweep if it takes no answer.
    fn end_head(&self, logs: &[LogEntry]) {
        if self.info.activity.end_head() {
            self.slot.http().downstream_rq_header_timeout.inc();
            log_late_head(&self.info, logs);
            self.wake();
        } else {
            self.cut();
        }
    }

    /// Whoever waits for an upstream answers that it took too long; if nobody does, the next sweep cuts.
    fn end_stream(&self, counter: &Counter) {
        if self.info.activity.expire() {
            counter.inc();
            self.wake();
        } else {
            self.cut();
        }
    }

    fn stream_idle_timeout(&self, limits: &EdgeLimits) -> Duration {
        stream_idle_timeout(&self.slot, limits)
    }

    fn park(&self) {
        if self.info.activity.park() {
            self.wake();
        }
    }

    /// True when requests of this connection are served by it.
    pub(crate) fn serves(&self, info: &Arc<ConnectionInfo>) -> bool {
        Arc::ptr_eq(&self.info, info)
    }

    /// Closes at once.
    pub(crate) fn cut(&self) {
        self.kill.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Runs a connection of hyper's to its end, which `wind_down` brings nearer once it drains. None when it was cut.
    async fn run<C: Future>(&self, mut connection: Pin<&mut C>, wind_down: impl Fn(Pin<&mut C>)) -> Option<C::Output> {
        let mut draining = false;
        self.unless_killed(|cx| {
            if self.info.activity.may_park() {
                wind_down(connection.as_mut());
            }
            if self.drain.get() && !draining {
                // What has come is read first: a request that the system has taken in is answered.
                if let Poll::Ready(output) = connection.as_mut().poll(cx) {
                    return Poll::Ready(output);
                }
                if self.waits_for_more() {
                    return Poll::Pending;
                }
                draining = true;
                wind_down(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await
    }

    /// True when a request is still taken in before the connection winds down: over HTTP/1 that ends an idle one at once.
    fn waits_for_more(&self) -> bool {
        let waits = self.info.activity.waits();
        !self.is_http2.get() && waits.is_some_and(|(_, begun)| begun || !self.hurry.get())
    }

    /// Polls until there is something, or the connection is to end: none.
    async fn unless_killed<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(|cx| {
            if self.kill.get() {
                return Poll::Ready(None);
            }
            remember(&self.waker, cx);
            poll(cx).map(Some)
        })
        .await
    }
}

/// There is no request yet, so no stream writes the line.
fn log_late_head(connection: &ConnectionInfo, logs: &[LogEntry]) {
    let info = StreamInfo {
        start: SystemTime::now(),
        protocol: Some(Version::HTTP_11),
        response_code: StatusCode::REQUEST_TIMEOUT.as_u16(),
        bytes_sent: farewell::LATE_LENGTH,
        details: "request_header_timeout".into(),
        downstream_local: Some(connection.local),
        downstream_remote: Some(connection.peer),
        downstream_direct: Some(connection.direct),
        requested_server_name: connection.state.server_name().cloned(),
        ..StreamInfo::default()
    };
    logs.iter().for_each(|log| log.record_connection(&info));
}

/// How long a stream may go without progress on this listener; zero for ever.
pub(crate) fn stream_idle_timeout(slot: &ListenerSlot, limits: &EdgeLimits) -> Duration {
    slot.limits().stream_idle_timeout_ms.map_or(limits.stream_idle_timeout, Duration::from_millis)
}

/// How long a request with its body may take to come in on this listener; zero for ever.
pub(crate) fn request_timeout(slot: &ListenerSlot, limits: &EdgeLimits) -> Duration {
    slot.limits().request_timeout_ms.map_or(limits.request_timeout, Duration::from_millis)
}

/// A socket that may be served, and what is known of it.
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    /// What has been read of it already.
    pub(crate) early: Bytes,
    pub(crate) info: Arc<ConnectionInfo>,
    pub(crate) open: OpenSocket,
}

/// Serves an accepted socket in a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, accepted: Accepted) {
    let Accepted { mut socket, early, info, open } = accepted;
    let (open, handle) = self::open(worker, slot, &info, open);
    spawn_local(async move {
        let sniffed = {
            let mut sniffed = pin!(sniff(&mut socket, early));
            handle.unless_killed(|cx| sniffed.as_mut().poll(cx)).await
        };
        if let Some((protocol, early)) = sniffed {
            run(open, socket, (protocol, early), info, handle).await;
        }
    });
}

/// Serves a client whose TLS handshake is done. It speaks what was agreed on there, HTTP/1 if nothing was.
pub(crate) fn serve_tls(
    worker: &Rc<Worker>,
    chain: &Rc<ListenerSlot>,
    stream: ClientStream,
    info: Arc<ConnectionInfo>,
    socket: OpenSocket,
) {
    let (open, handle) = open(worker, chain, &info, socket);
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    spawn_local(run(open, stream, (protocol, Bytes::new()), info, handle));
}

/// Serves a client of HTTP/3, whose requests come over HTTP/2 within the process. What is under way ends before
/// `io` is closed from the other side.
#[cfg(feature = "http3")]
pub(crate) fn serve_http3(
    worker: &Rc<Worker>,
    chain: &Rc<ListenerSlot>,
    io: tokio::io::DuplexStream,
    info: Arc<ConnectionInfo>,
    socket: OpenSocket,
    link: Rc<Link>,
) {
    let (open, handle) = open(worker, chain, &info, socket);
    handle.is_http2.set(true);
    open.slot.http().downstream_cx_http3_total.inc();
    let io = Watched::new(io, Bytes::new(), Protocol::Http2, info.clone());
    spawn_local(http2::serve(open, io, info, handle, Some(link)));
}

fn open(
    worker: &Rc<Worker>,
    slot: &Rc<ListenerSlot>,
    info: &Arc<ConnectionInfo>,
    socket: OpenSocket,
) -> (Open, Rc<Handle>) {
    info.activity.await_head(true);
    let handle = Rc::new(Handle {
        info: info.clone(),
        waker: RefCell::default(),
        slot: slot.clone(),
        drain: Cell::new(worker.is_closing() || slot.is_retired()),
        hurry: Cell::new(false),
        is_http2: Cell::new(false),
        streams: Streams::default(),
        kill: Cell::new(false),
    });
    (Open::new(worker, slot, &handle, socket), handle)
}

/// What is known of an accepted socket: who has opened it, and for which client and called at which address, where a header
/// of the PROXY protocol has told.
pub(crate) fn info(
    slot: &ListenerSlot,
    socket: &TcpStream,
    direct: SocketAddr,
    told: Option<(SocketAddr, SocketAddr)>,
) -> Option<Arc<ConnectionInfo>> {
    let (peer, local) = told.unwrap_or_else(|| (direct, socket.local_addr().unwrap_or(slot.address)));
    info_of(peer, direct, local)
}

/// What is known of a connection between these addresses.
pub(crate) fn info_of(peer: SocketAddr, direct: SocketAddr, local: SocketAddr) -> Option<Arc<ConnectionInfo>> {
    // Who comes over IPv4 is named so, also by a socket or a proxy of IPv6.
    let [peer, direct, local] =
        [peer, direct, local].map(|known| SocketAddr::new(known.ip().to_canonical(), known.port()));
    let peer_value = HeaderValue::from_str(&peer.ip().to_string()).ok()?;
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let state = ConnectionState::default();
    Some(Arc::new(ConnectionInfo { peer, direct, local, peer_value, id, activity: Activity::default(), state }))
}

async fn run<S>(open: Open, socket: S, known: (Protocol, Bytes), info: Arc<ConnectionInfo>, handle: Rc<Handle>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (protocol, early) = known;
    let io = Watched::new(socket, early, protocol, info.clone());
    handle.is_http2.set(protocol == Protocol::Http2);
    match protocol {
        Protocol::Http1 => http1::serve(open, io, info, handle).await,
        Protocol::Http2 => {
            open.slot.http().downstream_cx_http2_total.inc();
            http2::serve(open, io, info, handle, None).await;
        }
    }
}

/// Answers one request, which over HTTP/2 has a clock of its own. A fault of ours in one request costs that request.
///
/// No `async` block: it would keep what it awaits twice, and hyper moves the whole with every request.
fn answer(
    open: &Open,
    info: &Arc<ConnectionInfo>,
    request: Request<Incoming>,
    clock: Option<Rc<StreamClock>>,
) -> impl Future<Output = Response<ResponseBody>> + use<> {
    info.activity.serve_request();
    let worker = open.worker.clone();
    let answer = stream::handle(worker.clone(), open.slot.clone(), info.clone(), request, clock);
    AssertUnwindSafe(answer).catch_unwind().map(move |answer| answer.unwrap_or_else(|_| stream::fault(&worker)))
}

fn remember(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = slot.borrow_mut();
    if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}

/// Counts a socket of a listener as open, and holds its places under the limits.
pub(crate) struct OpenSocket {
    metrics: Arc<ListenerMetrics>,
    place: Option<SourcePlace>,
}

impl OpenSocket {
    /// None where the listener has as many as it may, or memory is short: that is counted.
    pub(crate) fn admit(worker: &Worker, slot: &ListenerSlot) -> Option<Self> {
        let metrics = slot.metrics();
        if worker.edge.overload.refuses_connections() {
            metrics.downstream_cx_overload_reject.inc();
            return None;
        }
        let limit = slot.limits().max_connections.or(worker.edge.limits.max_connections);
        if !metrics.downstream_cx_active.inc_below(limit.map_or(i64::MAX, i64::from)) {
            metrics.downstream_cx_overflow.inc();
            return None;
        }
        metrics.downstream_cx_total.inc();
        Some(Self { metrics, place: None })
    }

    /// Takes a place among the connections of this client. False where it has as many as it may: that is counted.
    pub(crate) fn take_source_place(&mut self, worker: &Worker, client: IpAddr) -> bool {
        match worker.edge.admit_source(client) {
            Ok(place) => {
                self.place = place;
                true
            }
            Err(_) => {
                self.metrics.downstream_cx_source_overflow.inc();
                false
            }
        }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.metrics.downstream_cx_active.dec();
        self.metrics.downstream_cx_destroy.inc();
    }
}

/// Counts a connection of HTTP as open and keeps its handle known.
struct Open {
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    key: usize,
    _socket: OpenSocket,
}

impl Open {
    fn new(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, handle: &Rc<Handle>, socket: OpenSocket) -> Self {
        let key = worker.connections.borrow_mut().insert(handle.clone());
        slot.http().downstream_cx_total.inc();
        slot.http().downstream_cx_active.inc();
        Self { worker: worker.clone(), slot: slot.clone(), key, _socket: socket }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(self.key);
        self.worker.connection_closed.notify_waiters();
        self.slot.http().downstream_cx_active.dec();
        self.slot.http().downstream_cx_destroy.inc();
    }
}
