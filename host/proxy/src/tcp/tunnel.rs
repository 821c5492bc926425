//! `trafficPolicy.tunnel`: the endpoint is a proxy that is asked over HTTP/1.1 or HTTP/2 to carry a connection to somebody else, as
//! Envoy's `tunneling_config` has it. By CONNECT the bytes follow its answer as they are, by POST they are two bodies.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use portolan_model::Tunnel;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::connect;
use crate::on_worker::OnWorker;
use crate::pool::MAX_ANSWER_HEAD;
use crate::upstream::{Application, Socket, UpstreamTransport};

/// Most bytes of a client that wait for the request's body to take them.
const WAITING: usize = 64 * 1024;
/// Most bytes of one part of it.
const PIECE: usize = 8 * 1024;

/// The way through an open tunnel.
pub(super) type Io = Pin<Box<dyn ReadWrite>>;

pub(super) trait ReadWrite: AsyncRead + AsyncWrite {}

impl<T: AsyncRead + AsyncWrite> ReadWrite for T {}

/// Why there is no tunnel. The text is Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// The proxy has answered with something else than a success.
    #[error("tunnel_response:{}", .0.as_u16())]
    Answer(StatusCode),
    /// It has not answered within `connectTimeout`.
    #[error("connect timeout")]
    Timeout,
    /// It does not speak HTTP, or has gone.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    /// The target is no host.
    #[error("{0}")]
    Request(#[from] http::Error),
}

/// What is spoken with the proxy: what the cluster speaks with endpoints.
pub(super) fn application(transport: &UpstreamTransport) -> Application {
    if transport.is_http2(Version::HTTP_11) { Application::Http2 } else { Application::Http1 }
}

/// Opens a tunnel over a connection of its own.
pub(super) async fn open(
    socket: Socket,
    tunnel: &Tunnel,
    transport: &UpstreamTransport,
    limit: Duration,
) -> Result<Io, TunnelError> {
    let is_http2 = application(transport) == Application::Http2;
    let (body, bytes) = if tunnel.post { UpBody::new() } else { (UpBody::default(), None) };
    let request = request(tunnel, is_http2, transport.scheme(), body)?;
    let opened = async {
        if is_http2 { open_http2(socket, request, bytes).await } else { open_http1(socket, request, bytes).await }
    };
    timeout(limit, pin!(opened)).await.unwrap_or(Err(TunnelError::Timeout))
}

fn request(tunnel: &Tunnel, is_http2: bool, scheme: &str, body: UpBody) -> Result<Request<UpBody>, http::Error> {
    let target = tunnel.target.as_str();
    let uri = match (tunnel.post, is_http2) {
        (false, _) => Uri::builder().authority(target).build()?,
        (true, true) => Uri::builder().scheme(scheme).authority(target).path_and_query("/").build()?,
        (true, false) => Uri::from_static("/"),
    };
    let request = Request::builder().method(if tunnel.post { Method::POST } else { Method::CONNECT }).uri(uri);
    let request = if is_http2 { request.version(Version::HTTP_2) } else { request.header(header::HOST, target) };
    request.body(body)
}

async fn open_http1(socket: Socket, request: Request<UpBody>, bytes: Option<DuplexStream>) -> Result<Io, TunnelError> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(TokioIo::new(socket)).await?;
    spawn_local(async move {
        // How it ended is told by what goes through it.
        let _ = connection.with_upgrades().await;
    });
    let response = sender.send_request(request).await?;
    opened(response, false, bytes, sender).await
}

async fn open_http2(socket: Socket, request: Request<UpBody>, bytes: Option<DuplexStream>) -> Result<Io, TunnelError> {
    let builder = http2::Builder::new(OnWorker).timer(TokioTimer::new()).handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = builder?;
    spawn_local(async move {
        let _ = connection.await;
    });
    let response = sender.send_request(request).await?;
    opened(response, true, bytes, sender).await
}

/// The way through, when the answer opens it.
async fn opened<S: Unpin + 'static>(
    response: Response<Incoming>,
    is_http2: bool,
    bytes: Option<DuplexStream>,
    sender: S,
) -> Result<Io, TunnelError> {
    if !connect::opens(response.status(), is_http2) {
        return Err(TunnelError::Answer(response.status()));
    }
    match bytes {
        None => Ok(Box::pin(TokioIo::new(hyper::upgrade::on(response).await?))),
        Some(bytes) => Ok(Box::pin(Bodies::new(response.into_body(), bytes, sender))),
    }
}

/// What the client sends, as the body of a POST; nothing for CONNECT.
#[derive(Default)]
struct UpBody(Option<DuplexStream>);

impl UpBody {
    /// With the end that is written to.
    fn new() -> (Self, Option<DuplexStream>) {
        let (from, to) = duplex(WAITING);
        (Self(Some(from)), Some(to))
    }
}

impl Body for UpBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(bytes) = &mut self.0 else { return Poll::Ready(None) };
        let mut piece = [0; PIECE];
        let mut buffer = ReadBuf::new(&mut piece);
        let read = ready!(Pin::new(bytes).poll_read(cx, &mut buffer));
        if read.is_err() || buffer.filled().is_empty() {
            self.0 = None;
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(buffer.filled())))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// The two bodies of a POST.
struct Bodies<S> {
    answer: Incoming,
    /// Of the answer, not read yet.
    piece: Bytes,
    request: DuplexStream,
    /// The connection lives as long as it may be asked for more.
    _sender: S,
}

impl<S> Bodies<S> {
    fn new(answer: Incoming, request: DuplexStream, sender: S) -> Self {
        Self { answer, piece: Bytes::new(), request, _sender: sender }
    }
}

impl<S: Unpin> AsyncRead for Bodies<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.answer).poll_frame(cx)) {
                // Trailers are for nobody.
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.piece.len().min(buf.remaining());
        buf.put_slice(&self.piece[..length]);
        self.piece.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: Unpin> AsyncWrite for Bodies<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.request).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.request).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.request).poll_shutdown(cx)
    }
}
