//! One accepted socket: hyper's HTTP/1 server over it, with deadlines for heads and idleness kept by the worker's sweep
//! instead of a timer per request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::clock;
use crate::context::ConnectionInfo;
use crate::listener::ListenerSlot;
use crate::properties::ConnectionState;
use crate::stream;
use crate::worker::Worker;

/// A head that was begun must be whole within this time, as must the first one of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default for a connection without requests.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
/// About Envoy's limit of 60 KiB. Its limit of 100 fields is hyper's own default; setting it costs a loop per head.
const MAX_HEAD: usize = 64 * 1024;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What the sweep knows of a connection, shared with its socket and its streams.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Coarse stamp since when a head is awaited or under way; 0 while a request is served.
    waiting_since: AtomicU64,
    /// 1 when bytes of the awaited head have come.
    head_begun: AtomicU64,
    /// 1 when the awaited head's first line has a `#` in its target, to which Istio's gateways answer 400: a parsed URI
    /// has none. A line that comes in pieces, or together with the request before, is not seen and loses its fragment.
    fragment: AtomicU64,
}

/// The worker's handle on a connection.
#[derive(Debug)]
pub(crate) struct Handle {
    info: Arc<ConnectionInfo>,
    listener: SocketAddr,
    waker: RefCell<Option<Waker>>,
    drain: Cell<bool>,
    kill: Cell<bool>,
}

impl Handle {
    /// The address of its listener.
    pub(crate) fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// Lets the request in flight end and closes then; at once when there is none. A head under way is still read and
    /// answered: that answer tells the client to close.
    pub(crate) fn drain(&self) {
        let activity = &self.info.activity;
        if activity.waiting_since.load(Relaxed) != 0 && activity.head_begun.load(Relaxed) != 0 {
            return;
        }
        self.drain.set(true);
        self.wake();
    }

    /// Closes when a deadline has passed. True when it did.
    pub(crate) fn sweep(&self, now_ms: u64) -> bool {
        let since = self.info.activity.waiting_since.load(Relaxed);
        if since == 0 {
            return false;
        }
        let begun = self.info.activity.head_begun.load(Relaxed) != 0;
        let limit = if begun { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
        let late = Duration::from_millis(now_ms.saturating_sub(since)) > limit;
        if late {
            self.cut();
        }
        late
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
}

/// Serves an accepted socket in a task of its own.
pub(crate) fn serve(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: TcpStream, peer: SocketAddr) {
    // A socket that refuses the option still works, only slower.
    let _ = socket.set_nodelay(true);
    let Some(info) = info(slot, &socket, peer) else { return };
    info.activity.await_head(true);
    let handle = Rc::new(Handle {
        info: info.clone(),
        waker: RefCell::default(),
        listener: slot.address,
        drain: Cell::new(false),
        kill: Cell::new(false),
    });
    spawn_local(run(Open::new(worker, slot, &handle), socket, info, handle));
}

/// What is known of an accepted socket.
pub(crate) fn info(slot: &ListenerSlot, socket: &TcpStream, peer: SocketAddr) -> Option<Arc<ConnectionInfo>> {
    let peer_value = HeaderValue::from_str(&peer.ip().to_canonical().to_string()).ok()?;
    let local = socket.local_addr().unwrap_or(slot.address);
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let state = ConnectionState::default();
    Some(Arc::new(ConnectionInfo { peer, local, peer_value, id, activity: Activity::default(), state }))
}

async fn run(open: Open, socket: TcpStream, info: Arc<ConnectionInfo>, handle: Rc<Handle>) {
    let io = TokioIo::new(Watched { socket, info: info.clone() });
    let service = service_fn(|request| {
        info.activity.serve_request();
        let answer = stream::handle(open.worker.clone(), open.slot.clone(), info.clone(), request);
        async {
            // A fault of ours in one request costs that request.
            let answer = AssertUnwindSafe(answer).catch_unwind().await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| stream::fault(&open.worker)))
        }
    });
    let connection = http1::Builder::new().max_buf_size(MAX_HEAD).serve_connection(io, service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let mut draining = false;
    let result = std::future::poll_fn(|cx| {
        if handle.kill.get() {
            return Poll::Ready(Ok(()));
        }
        if handle.drain.get() && !std::mem::replace(&mut draining, true) {
            connection.as_mut().graceful_shutdown();
        }
        remember(&handle.waker, cx);
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = result
        && (error.is_parse() || error.is_parse_too_large())
    {
        open.slot.http().downstream_cx_protocol_error.inc();
    }
}

fn remember(slot: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    let mut waker = slot.borrow_mut();
    if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}

/// Counts a connection as open and keeps its handle known.
struct Open {
    worker: Rc<Worker>,
    slot: Rc<ListenerSlot>,
    key: usize,
}

impl Open {
    fn new(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, handle: &Rc<Handle>) -> Self {
        let key = worker.connections.borrow_mut().insert(handle.clone());
        slot.metrics().downstream_cx_total.inc();
        slot.metrics().downstream_cx_active.inc();
        slot.http().downstream_cx_total.inc();
        slot.http().downstream_cx_http1_total.inc();
        slot.http().downstream_cx_active.inc();
        Self { worker: worker.clone(), slot: slot.clone(), key }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(self.key);
        self.worker.connection_closed.notify_waiters();
        self.slot.metrics().downstream_cx_active.dec();
        self.slot.metrics().downstream_cx_destroy.inc();
        self.slot.http().downstream_cx_active.dec();
        self.slot.http().downstream_cx_destroy.inc();
    }
}

impl Activity {
    /// A head is awaited. The first one of a connection counts as begun: whoever connects has something to say.
    pub(crate) fn await_head(&self, begun: bool) {
        self.head_begun.store(u64::from(begun), Relaxed);
        self.waiting_since.store(clock::coarse_ms().max(1), Relaxed);
    }

    fn serve_request(&self) {
        self.waiting_since.store(0, Relaxed);
    }

    /// True when the request that was just read had a fragment. Asked once: it forgets.
    pub(crate) fn had_fragment(&self) -> bool {
        self.fragment.swap(0, Relaxed) != 0
    }

    fn bytes_came(&self, bytes: &[u8]) {
        if self.waiting_since.load(Relaxed) != 0 && has_fragment(bytes) {
            self.fragment.store(1, Relaxed);
        }
        if self.waiting_since.load(Relaxed) != 0 && self.head_begun.load(Relaxed) == 0 {
            self.await_head(true);
        }
    }
}

/// True when bytes begin with a whole request line that has a `#`. What is left of a body that nobody wanted hardly does.
fn has_fragment(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return false };
    let mut words = bytes[..end].split(|byte| *byte == b' ');
    let method = words.next().is_some_and(|word| !word.is_empty() && word.iter().all(u8::is_ascii_uppercase));
    let target = words.next().is_some_and(|word| word.contains(&b'#'));
    method && target && words.next().is_some_and(|word| word.starts_with(b"HTTP/1"))
}

/// The client's socket; tells the activity when bytes come.
struct Watched {
    socket: TcpStream,
    info: Arc<ConnectionInfo>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() != before {
            self.info.activity.bytes_came(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::has_fragment;

    #[test]
    fn a_fragment_is_seen_in_whole_request_lines_only() {
        for line in ["GET /a#b HTTP/1.1\r\n", "GET /a?b#c HTTP/1.0\n", "PUT http://h/#c HTTP/1.1\r\nhost: h\r\n"] {
            assert!(has_fragment(line.as_bytes()), "{line}");
        }
        for line in
            ["GET /a HTTP/1.1\r\nx: #\r\n", "GET /a#b HTTP/1.1", "{\"a\": \"#\"}\n", "a #b HTTP/1\r\n", "\r\n", ""]
        {
            assert!(!has_fragment(line.as_bytes()), "{line}");
        }
    }
}
