//! WebSocket: after a 101 that was asked for, bytes go both ways until both sides have ended. A client of HTTP/2 asks for it
//! by extended CONNECT (RFC 8441) and gets a 200. So do they after a success that CONNECT has asked for.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use portolan_telemetry::ResponseFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::task::spawn_local;
use tokio::time::sleep;

use crate::attempt::Opened;
use crate::body::ResponseBody;
use crate::clock;
use crate::connection::stream_idle_timeout;
use crate::head;
use crate::lease::Lease;
use crate::local_reply::{Failure, Reply};
use crate::router::{Forwarding, Upstream};
use crate::stream::{Guard, Stream};

/// Hands a 101, or a success of CONNECT, to the client and starts the tunnel; a 101 that nobody asked for is a protocol
/// error.
pub(crate) async fn answer(
    job: &Forwarding<'_>,
    response: &mut Response<Incoming>,
    lease: Lease,
    upstream: Upstream,
    guard: Guard,
) -> Response<ResponseBody> {
    let stream = job.stream;
    let is_connect = stream.is_connect();
    let asked = stream.take_upgrade().filter(|_| response.status().is_success() == is_connect);
    let Some(client) = asked else {
        let cause = "101 without a request for an upgrade".to_owned();
        return stream.reply(Reply::failed(Failure::Protocol, Some(cause)), guard).await;
    };
    stream.connection.activity.become_tunnel();
    let server = hyper::upgrade::on(&mut *response);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = response.status();
    parts.headers = std::mem::take(response.headers_mut());
    // There is no body whose framing could be ambiguous.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRANSFER_ENCODING);
    let _ = head::strip(&mut parts.headers, false);
    // As in Envoy not how long it took: the request has not ended.
    stream.change_response(job.route, job.destination, &mut parts, false);
    if is_connect {
        // The success stays what it is, but for what carries HTTP/3 within the process: it knows one.
        if stream.connection.state.is_http3() {
            parts.status = StatusCode::OK;
        }
    } else if stream.is_http2() {
        // RFC 8441 section 5: any success will do, and the key's answer is for nobody.
        parts.status = StatusCode::OK;
        parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
    } else {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let server = async { server.await.map(TokioIo::new) };
    let is_http1 = response.version() != Version::HTTP_2;
    spawn_local(tunnel(stream.clone(), client, (server, is_http1), (lease, upstream), guard));
    // The tunnel's guard ends the stream; this one only completes the head.
    let answer = stream.finish_head(parts, ResponseBody::head_only());
    if !is_connect {
        // Envoy tells of a WebSocket in the words of HTTP/1, whatever it came over.
        stream.note_switched();
    }
    answer
}

/// Answers a CONNECT whose tunnel ends here, and starts it.
pub(crate) fn connected(job: &Forwarding<'_>, opened: Opened, guard: Guard) -> Response<ResponseBody> {
    let stream = job.stream;
    let Opened { socket, open, mut upstream } = opened;
    upstream.answered(StatusCode::OK.as_u16());
    stream.flag(ResponseFlags::NONE, "via_upstream");
    if let Some(client) = stream.take_upgrade() {
        stream.connection.activity.become_tunnel();
        let server = std::future::ready(Ok(socket));
        spawn_local(tunnel(stream.clone(), client, (server, false), (open, upstream), guard));
    }
    let (mut parts, ()) = Response::new(()).into_parts();
    stream.change_response(job.route, job.destination, &mut parts, false);
    stream.finish_head(parts, ResponseBody::head_only())
}

/// Carries the bytes. An upstream of HTTP/1 ends its connection with the tunnel.
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Rc<Stream>,
    client: OnUpgrade,
    (server, is_http1): (impl Future<Output = hyper::Result<S>>, bool),
    held: impl Sized,
    guard: Guard,
) {
    let _open = stream.worker.open_tunnel();
    // Limits count the connection and the request until the tunnel ends.
    let _held = held;
    let first = Cell::new(None);
    let carried = async {
        let (client, mut server): (Upgraded, S) = tokio::try_join!(client, server).ok()?;
        let mut client = Noted { io: TokioIo::new(client), stream: &stream, guard: &guard, first: &first };
        let carried = copy_bidirectional(&mut client, &mut server).await;
        Some(if carried.is_err() { Side::Upstream } else { Side::Both })
    };
    tokio::select! {
        carried = carried => {
            if let Some(last) = carried {
                tell_end(&stream, &guard, first.get().unwrap_or(last), is_http1);
            }
        }
        () = idle(&stream) => {
            stream.http.downstream_rq_idle_timeout.inc();
            stream.flag(ResponseFlags::SI, "stream_idle_timeout");
        }
        () = stream.worker.cut() => {}
    }
}

/// Who ends a tunnel, or breaks it.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Upstream,
    /// In good order.
    Both,
}

/// What the log says of a tunnel's end, as Envoy has it: where a connection is all there is, whoever ends it first has gone.
fn tell_end(stream: &Stream, guard: &Guard, first: Side, is_http1: bool) {
    match first {
        Side::Client => guard.left(),
        Side::Upstream if is_http1 => {
            stream.flag(ResponseFlags::UC, "upstream_reset_after_response_started{connection_termination}");
        }
        _ => {}
    }
}

/// The client's side: counts what goes either way, and notes who ends first.
struct Noted<'a> {
    io: TokioIo<Upgraded>,
    stream: &'a Stream,
    guard: &'a Guard,
    first: &'a Cell<Option<Side>>,
}

impl Noted<'_> {
    fn ended(&self, side: Side) {
        self.first.set(self.first.get().or(Some(side)));
    }
}

impl AsyncRead for Noted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        match buf.filled().len() - before {
            // Of HTTP/2 its side alone may be at its end.
            0 if read.is_err() || !self.stream.is_http2() || self.stream.is_taken_back() => self.ended(Side::Client),
            0 => self.ended(Side::Both),
            bytes => self.stream.received(bytes),
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Noted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        match &written {
            Ok(bytes) => self.guard.sent(*bytes),
            Err(_) => self.ended(Side::Client),
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// The upstream has ended.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ended(Side::Upstream);
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Resolves when no byte has gone either way on the client's side for as long as one may be idle.
async fn idle(stream: &Stream) {
    let limit = stream_idle_timeout(&stream.slot, &stream.worker.edge.limits);
    if limit.is_zero() {
        return std::future::pending().await;
    }
    loop {
        let passed = Duration::from_millis(clock::coarse_ms().saturating_sub(stream.last_progress()));
        let Some(left) = limit.checked_sub(passed).filter(|left| !left.is_zero()) else { return };
        sleep(left).await;
    }
}
