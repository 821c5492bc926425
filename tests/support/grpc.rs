//! A gRPC server that runs in the test: `test.Echo/Say` sends back what it gets, message by message; `Fail` refuses,
//! `Slow` never answers, `Ticks` sends twenty messages in a second, `Big` answers with too much, `Plain` answers with HTTP that is
//! no gRPC. As Envoy's authorization service it lets those in whose question says `good` somewhere, as `ada`, and tells others
//! `who are you?`. As `grpc.health.v1.Health` it says what the test wants of the service `test.Echo`, and knows no other. As a collector of
//! OpenTelemetry it keeps what it is sent.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// A server on a port of its own; its thread ends with the test.
pub(crate) struct GrpcServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    serving: Arc<AtomicU8>,
    exports: Exports,
}

/// What a collector has been sent: metadata `x-team`, and the message.
type Exports = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl GrpcServer {
    pub(crate) fn start() -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the server");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("its address");
        let (connections, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let serving = Arc::new(AtomicU8::new(1));
        let exports = Exports::default();
        let state = (connections.clone(), calls.clone(), serving.clone(), exports.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, state));
        });
        Self { address, connections, calls, serving, exports }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `test.Echo` is SERVING (1), NOT_SERVING (2) or of another status.
    pub(crate) fn set_serving(&self, status: u8) {
        self.serving.store(status, Ordering::SeqCst);
    }

    /// What it has been sent as a collector so far.
    pub(crate) fn exports(&self) -> Vec<(String, Vec<u8>)> {
        self.exports.lock().expect("no collector panicked").clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Calls and streams so far.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

type State = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicU8>, Exports);

async fn accept(listener: std::net::TcpListener, (connections, calls, serving, exports): State) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (calls, serving, exports) = (calls.clone(), serving.clone(), exports.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                calls.fetch_add(1, Ordering::SeqCst);
                answer(request, serving.load(Ordering::SeqCst), exports.clone())
            });
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, serving: u8, exports: Exports) -> Result<Response<Reply>, Infallible> {
    let method = request.uri().path().trim_start_matches("/test.Echo/").to_owned();
    let seen = format!(
        "{} {} {}",
        request.uri().authority().map_or("-", |authority| authority.as_str()),
        request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok()).unwrap_or("-"),
        request.headers().get("x-meta").and_then(|value| value.to_str().ok()).unwrap_or("-"),
    );
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = match method.as_str() {
        "Say" => Reply { echo: Some(request.into_body()), trailers: Some(trailers), ..Reply::default() },
        "Seen" => Reply { data: Some(framed(seen.as_bytes())), trailers: Some(trailers), ..Reply::default() },
        "Big" => {
            Reply { data: Some(framed(&vec![0; 4 * 1024 * 1024 + 1])), trailers: Some(trailers), ..Reply::default() }
        }
        "/envoy.service.auth.v3.Authorization/Check" => {
            let question = whole(request.into_body()).await;
            let is_good = question.windows(4).any(|part| part == b"good");
            let verdict = if is_good { ADMITTED } else { REFUSED };
            Reply { data: Some(framed(verdict)), trailers: Some(trailers), ..Reply::default() }
        }
        "/grpc.health.v1.Health/Check" => match whole(request.into_body()).await.get(5..) {
            Some(b"\x0a\x09test.Echo") => {
                Reply { data: Some(framed(&[8, serving])), trailers: Some(trailers), ..Reply::default() }
            }
            _ => {
                trailers.insert("grpc-status", HeaderValue::from_static("5"));
                Reply { trailers: Some(trailers), ..Reply::default() }
            }
        },
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            let team = request.headers().get("x-team").and_then(|value| value.to_str().ok()).unwrap_or_default();
            let (team, message) = (team.to_owned(), whole(request.into_body()).await);
            exports.lock().expect("no collector panicked").push((team, message[5..].to_vec()));
            Reply { data: Some(framed(b"")), trailers: Some(trailers), ..Reply::default() }
        }
        "Ticks" => Reply { ticks: 20, trailers: Some(trailers), ..Reply::default() },
        "Slow" => std::future::pending().await,
        _ => Reply::default(),
    };
    let mut response = Response::new(body);
    let kind = if method == "Plain" { "text/plain" } else { "application/grpc" };
    response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
    if method == "Fail" {
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("7"));
        response.headers_mut().insert("grpc-message", HeaderValue::from_static("not%20today"));
    }
    Ok(response)
}

/// `CheckResponse`: status 0, and `x-user: ada` for the upstream.
const ADMITTED: &[u8] = b"\x0a\0\x1a\x11\x12\x0f\x0a\x0d\x0a\x06x-user\x12\x03ada";

/// `CheckResponse`: status 16, 401 with a body.
const REFUSED: &[u8] = b"\x0a\x02\x08\x10\x12\x13\x0a\x03\x08\x91\x03\x1a\x0cwho are you?";

async fn whole(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes.extend(frame.expect("a whole question").into_data().unwrap_or_default());
    }
    bytes
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    Bytes::from([&[0], &length[..], message].concat())
}

/// The request's body again, messages in their time, one piece, and then trailers.
#[derive(Default)]
struct Reply {
    echo: Option<Incoming>,
    /// Messages that are still to come, each after a pause.
    ticks: u32,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(echo) = &mut self.echo {
            match Pin::new(echo).poll_frame(cx) {
                Poll::Ready(None) => self.echo = None,
                other => return other,
            }
        }
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
            return Poll::Ready(Some(Ok(Frame::data(framed(b"tick")))));
        }
        if self.ticks > 0 {
            self.ticks -= 1;
            self.pause = Some(Box::pin(tokio::time::sleep(std::time::Duration::from_millis(50))));
            return self.poll_frame(cx);
        }
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.echo.is_none() && self.ticks == 0 && self.pause.is_none() && self.data.is_none() && self.trailers.is_none()
    }
}
