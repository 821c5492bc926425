//! [`Http2Connection`]: one HTTP/2 connection to an endpoint, which many requests of a worker share, each with a window of
//! its own: a client that reads slowly stalls its stream and no other.

mod heard;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use http::uri::{Parts, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use self::heard::Heard;
use super::socket::Socket;
use crate::body::RequestBody;
use crate::clock;
use crate::on_worker::OnWorker;

/// Streams on one connection, where neither the rule nor the peer says less.
const MAX_STREAMS: u32 = 100;
/// What h2 says that the peer allows until it has said so: more than SETTINGS can say.
const UNTOLD: usize = usize::MAX - 1;
/// Most that a rule may set: each has its part of the connection's window.
const MOST_STREAMS: u32 = 1024;
/// What an upstream may send on a stream before the client has taken it, in bytes. The connection's window is as large as
/// all streams' together, so that no number of stalled ones can shut it.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Fields of a response or of trailers, decoded: as for HTTP/1.
const MAX_HEAD: u32 = 64 * 1024;
/// While there are requests on it, a connection from which nothing comes is asked after this time, and closed after
/// [`PING_TIMEOUT`]: its peer may have gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that requests share.
pub(crate) struct Http2Connection {
    sender: SendRequest<RequestBody>,
    peer: Rc<Peer>,
    max_streams: u32,
    streams: Cell<u32>,
    requests: Cell<u32>,
    /// No further request goes on it.
    retired: Cell<bool>,
    idle_since_ms: Cell<u64>,
}

/// What the peer's SETTINGS allow.
struct Peer {
    /// Streams at once.
    streams: Cell<usize>,
    /// Extended CONNECT; none before its first SETTINGS.
    websockets: Cell<Option<bool>>,
    told: Notify,
    /// Of the connection's task, which looks what was told once something has come.
    looks: RefCell<Option<Waker>>,
}

/// A request's place on a connection.
pub(crate) struct Http2Stream(Rc<Http2Connection>);

impl Http2Connection {
    /// Starts HTTP/2 on a socket; `held` is kept until the connection has ended. `max_streams` 0 leaves it to the peer.
    pub(crate) async fn start(socket: Socket, max_streams: u32, held: impl Sized + 'static) -> hyper::Result<Rc<Self>> {
        let max_streams = if max_streams == 0 { MAX_STREAMS } else { max_streams.min(MOST_STREAMS) };
        let peer = Rc::new(Peer::new());
        let socket = Heard { socket, peer: peer.clone() };
        let (sender, connection) = Builder::new(OnWorker)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * max_streams)
            .max_header_list_size(MAX_HEAD)
            .initial_max_send_streams(UNTOLD)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(socket))
            .await?;
        let noted = peer.clone();
        spawn_local(async move {
            let mut connection = pin!(connection);
            // How it ended is told by the requests on it.
            let _ = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                noted.look(cx);
                noted.note(connection.current_max_send_streams(), || connection.is_extended_connect_protocol_enabled());
                polled
            })
            .await;
            // One that ends without a word takes none.
            noted.note(0, || false);
            drop(held);
        });
        Ok(Rc::new(Self {
            sender,
            peer,
            max_streams,
            streams: Cell::new(0),
            requests: Cell::new(0),
            retired: Cell::new(false),
            idle_since_ms: Cell::new(clock::coarse_ms()),
        }))
    }

    /// A place for one more request, when there is one.
    pub(crate) fn stream(self: &Rc<Self>, max_requests: u32) -> Option<Http2Stream> {
        let limit = usize::try_from(self.max_streams).unwrap_or(usize::MAX).min(self.peer.streams.get());
        let is_full = self.streams.get() as usize >= limit;
        if is_full || !self.is_usable() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        self.requests.set(self.requests.get().saturating_add(1));
        if max_requests != 0 && self.requests.get() >= max_requests {
            self.retired.set(true);
        }
        Some(Http2Stream(self.clone()))
    }

    /// False once it takes no more requests.
    pub(crate) fn is_usable(&self) -> bool {
        !self.retired.get() && !self.sender.is_closed()
    }

    /// True while requests are on it, or were until shortly.
    pub(crate) fn is_wanted(&self, now_ms: u64, idle_timeout_ms: u64) -> bool {
        let is_idle = self.streams.get() == 0;
        self.is_usable() && !(is_idle && now_ms.saturating_sub(self.idle_since_ms.get()) >= idle_timeout_ms)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }
}

impl Peer {
    fn new() -> Self {
        Self {
            streams: Cell::new(MAX_STREAMS as usize),
            websockets: Cell::new(None),
            told: Notify::new(),
            looks: RefCell::default(),
        }
    }

    /// Something has come. It is read to its end before the task runs.
    fn heard(&self) {
        if self.websockets.get().is_none()
            && let Some(waker) = self.looks.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn look(&self, cx: &Context<'_>) {
        if self.websockets.get().is_none() {
            self.looks.replace(Some(cx.waker().clone()));
        }
    }

    fn note(&self, streams: usize, websockets: impl FnOnce() -> bool) {
        if streams == UNTOLD {
            return;
        }
        self.streams.set(streams);
        if self.websockets.get().is_none() {
            self.websockets.set(Some(websockets()));
            self.told.notify_waiters();
        }
    }
}

impl Http2Stream {
    pub(crate) fn sender(&self) -> SendRequest<RequestBody> {
        self.0.sender.clone()
    }

    /// Whether the peer takes extended CONNECT, once it has said so or has ended.
    pub(crate) async fn takes_websockets(&self) -> bool {
        loop {
            let told = self.0.peer.told.notified();
            match self.0.peer.websockets.get() {
                Some(takes) => return takes,
                None => told.await,
            }
        }
    }

    /// Requests on the connection before this one.
    pub(crate) fn requests_before(&self) -> u32 {
        self.0.requests.get().saturating_sub(1)
    }

    /// The connection is of no use any more: the next request takes another.
    pub(crate) fn retire(&self) {
        self.0.retired.set(true);
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since_ms.set(clock::coarse_ms());
    }
}

/// Turns a head of HTTP/1.1 into one of HTTP/2: Host becomes the authority, fields of the connection go. A head that has been
/// turned already stays as it is.
pub(crate) fn as_http2(parts: &mut request::Parts, scheme: &'static str) {
    const OF_CONNECTION: [HeaderName; 4] =
        [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")];
    for name in OF_CONNECTION {
        parts.headers.remove(name);
    }
    parts.version = Version::HTTP_2;
    if is_grpc(&parts.headers) {
        // What gRPC asks of every client; the client's own has ended with its connection.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // Of a CONNECT that is all there is.
    if parts.uri.authority().is_some() {
        if parts.method == Method::CONNECT {
            parts.headers.remove(header::HOST);
        }
        return;
    }
    let authority = parts.headers.get(header::HOST).and_then(|host| host.as_bytes().try_into().ok());
    let mut uri = Parts::default();
    uri.scheme = Some(if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = authority;
    let path = parts.uri.path_and_query().cloned();
    uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(uri) {
        parts.uri = uri;
        parts.headers.remove(header::HOST);
    }
}

/// Turns a request for a WebSocket in the words of HTTP/1.1 into an extended CONNECT. As in Envoy its key goes along: a proxy
/// of HTTP/2 may have a server of HTTP/1 behind it.
pub(crate) fn as_websocket(parts: &mut request::Parts, scheme: &'static str) {
    as_http2(parts, scheme);
    parts.method = Method::CONNECT;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.extensions.insert(Protocol::from_static("websocket"));
}

/// A client of HTTP/1.1 is sent only the trailers that the head has named: gRPC's are.
pub(crate) fn announce_trailers(headers: &mut HeaderMap) {
    const OF_GRPC: HeaderValue = HeaderValue::from_static("grpc-status, grpc-message, grpc-status-details-bin");
    // With the status in the head there are none.
    if is_grpc(headers) && !headers.contains_key("grpc-status") {
        headers.entry(header::TRAILER).or_insert(OF_GRPC);
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn host_becomes_the_authority_and_fields_of_the_connection_go() {
        let request =
            http::Request::get("/a?b").header("host", "h.test:80").header("connection", "x").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        for _ in 0..2 {
            as_http2(&mut parts, "http");
            assert_eq!((parts.uri.to_string().as_str(), parts.headers.len()), ("http://h.test:80/a?b", 0));
        }
        let request = http::Request::post("/").header("host", "h").header("content-type", "application/grpc+proto");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        as_http2(&mut parts, "https");
        assert_eq!((parts.uri.scheme_str(), &parts.headers["te"]), (Some("https"), &"trailers".parse().unwrap()));
    }
}
