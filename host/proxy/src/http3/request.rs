//! [`answer`]: one request of HTTP/3, handed on as one of HTTP/2, and its answer back.

mod tunnel;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::error::{Code, StreamError};
use h3::server::{RequestResolver, RequestStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use tokio::time::timeout;

use super::quic::{self, Quic, Stopped};
use crate::listener::ListenerSlot;
use crate::worker::Worker;

type Sending = RequestStream<quic::Sending, Bytes>;
type Receiving = RequestStream<quic::Receiving, Bytes>;

/// How long the end of a request is waited for that should have no body: else it would go on with one of which only its end
/// comes.
const END_PAUSE: Duration = Duration::from_millis(20);
/// Fields of a connection, which HTTP/3 does not have (RFC 9114 section 4.2).
const OF_CONNECTIONS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Why a request's body breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the client has gone")]
    Gone,
}

/// What a client sends after the head.
pub(super) struct ClientBody {
    /// None where there is no body, nor anything else to be read.
    receiving: Option<Receiving>,
    /// What has come of it already.
    early: Option<Frame<Bytes>>,
    /// All of its data has come: trailers are next.
    has_data: bool,
    ended: bool,
    /// What the request has come to, for the client; the body breaks off then.
    fault: Rc<Cell<Option<Code>>>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client has all of an answer.
    Answered,
    /// It was malformed, or its client had no use for it: what floods are made of.
    Abandoned,
}

/// Answers one request, or resets its stream. Ends when the client has all of it.
pub(super) async fn answer(
    worker: Rc<Worker>,
    chain: Rc<ListenerSlot>,
    resolver: RequestResolver<Quic, Bytes>,
    mut stopped: Stopped,
    sender: SendRequest<ClientBody>,
) -> Outcome {
    let limit = worker.edge.limits.head_timeout;
    let begun = match limit.is_zero() {
        true => Ok(begin(resolver).await),
        false => timeout(limit, begin(resolver)).await,
    };
    let (request, mut sending) = match begun {
        Ok(Some(begun)) => begun,
        Ok(None) => return Outcome::Abandoned,
        Err(_) => {
            chain.http().downstream_rq_header_timeout.inc();
            return Outcome::Abandoned;
        }
    };
    let fault = request.body().fault.clone();
    tokio::select! {
        biased;
        // Its client has gone, and so does the request.
        () = &mut stopped => {
            fault.set(Some(Code::H3_REQUEST_CANCELLED));
            sending.stop_stream(Code::H3_REQUEST_CANCELLED);
            return Outcome::Abandoned;
        }
        passed = pass(request, &mut sending, sender) => if let Err(code) = passed {
            sending.stop_stream(code);
            return Outcome::Abandoned;
        }
    }
    drop(sending);
    stopped.await;
    Outcome::Answered
}

/// The request and the way back. None when there is none: h3 has answered what is too long, and what is malformed is reset.
async fn begin(resolver: RequestResolver<Quic, Bytes>) -> Option<(Request<ClientBody>, Sending)> {
    let (head, stream) = resolver.resolve_request().await.ok()?;
    let (mut sending, mut receiving) = stream.split();
    let (mut parts, ()) = head.into_parts();
    if is_malformed(&parts) {
        sending.stop_stream(Code::H3_MESSAGE_ERROR);
        receiving.stop_sending(Code::H3_MESSAGE_ERROR);
        return None;
    }
    parts.version = Version::HTTP_2;
    if parts.extensions.remove::<h3::ext::Protocol>().is_some() {
        parts.extensions.insert(Protocol::from_static("websocket"));
    }
    let receiving = Some(receiving);
    let mut body = ClientBody { receiving, early: None, has_data: true, ended: false, fault: Rc::default() };
    if !may_have_body(&parts) && timeout(END_PAUSE, body.begin()).await.is_ok_and(|begun| begun.is_err()) {
        sending.stop_stream(body.fault.get().unwrap_or(Code::H3_REQUEST_CANCELLED));
        return None;
    }
    Some((Request::from_parts(parts, body), sending))
}

/// What h3 takes, and RFC 9114 does not, of what is seen once the head is parsed.
fn is_malformed(parts: &request::Parts) -> bool {
    let (has_scheme, has_path) = (parts.uri.scheme().is_some(), parts.uri.path_and_query().is_some());
    // It stands for `websocket`, the only one that comes to here.
    let is_websocket = parts.extensions.get::<h3::ext::Protocol>().is_some();
    let is_connect = parts.method == Method::CONNECT;
    let has_target = if is_connect && !is_websocket { !has_scheme && !has_path } else { has_scheme && has_path };
    !has_target || is_websocket && !is_connect || has_connection_fields(&parts.headers)
}

fn has_connection_fields(headers: &HeaderMap) -> bool {
    let other_te = |te: &http::HeaderValue| !te.as_bytes().eq_ignore_ascii_case(b"trailers");
    OF_CONNECTIONS.iter().any(|name| headers.contains_key(*name)) || headers.get_all(header::TE).iter().any(other_te)
}

/// Where none is to be expected, it is waited for the stream's end: a request without a body must not become one with an
/// empty one.
fn may_have_body(parts: &request::Parts) -> bool {
    let rarely = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
    !rarely || parts.headers.contains_key(header::CONTENT_LENGTH)
}

/// Hands the request on and its answer back; the error is what the client's stream is reset with.
async fn pass(
    request: Request<ClientBody>,
    sending: &mut Sending,
    mut sender: SendRequest<ClientBody>,
) -> Result<(), Code> {
    let (request, tunnel) = tunnel::split_request(request);
    let fault = request.body().fault.clone();
    let failed = |error: hyper::Error| fault.get().unwrap_or_else(|| code_of(&error));
    let mut response = sender.send_request(request).await.map_err(failed)?;
    if let Some(client) = tunnel.filter(|_| response.status() == StatusCode::OK) {
        let server = hyper::upgrade::on(&mut response);
        return tunnel::carry(client, server, response, sending).await;
    }
    let (parts, mut body) = response.into_parts();
    sending.send_response(Response::from_parts(parts, ())).await.map_err(unsent)?;
    while let Some(frame) = body.frame().await {
        // When it breaks off, what has come is not the whole.
        match frame.map_err(failed)?.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => sending.send_data(data).await.map_err(unsent)?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    sending.send_trailers(trailers).await.map_err(unsent)?;
                }
            }
        }
    }
    drop(body);
    sending.finish().await.map_err(unsent)
}

fn unsent(error: StreamError) -> Code {
    match error {
        StreamError::RemoteTerminate { .. } => Code::H3_REQUEST_CANCELLED,
        _ => Code::H3_INTERNAL_ERROR,
    }
}

/// What the stream of HTTP/2 was reset with, in the words of HTTP/3.
fn code_of(error: &hyper::Error) -> Code {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    match source.and_then(h2::Error::reason) {
        Some(h2::Reason::PROTOCOL_ERROR) => Code::H3_MESSAGE_ERROR,
        Some(h2::Reason::REFUSED_STREAM) => Code::H3_REQUEST_REJECTED,
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Code::H3_EXCESSIVE_LOAD,
        Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR) => Code::H3_REQUEST_CANCELLED,
        _ => Code::H3_INTERNAL_ERROR,
    }
}

impl ClientBody {
    /// One that has ended.
    fn none(fault: Rc<Cell<Option<Code>>>) -> Self {
        Self { receiving: None, early: None, has_data: false, ended: true, fault }
    }

    /// Waits for its first part, or its end.
    async fn begin(&mut self) -> Result<(), BodyError> {
        self.early = std::future::poll_fn(|cx| self.poll(cx)).await?;
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        if self.fault.get().is_some() {
            return Poll::Ready(Err(BodyError::Gone));
        }
        if let Some(early) = self.early.take() {
            return Poll::Ready(Ok(Some(early)));
        }
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let polled = ready!(self.poll_stream(cx));
        match &polled {
            Ok(frame) => self.ended = frame.as_ref().is_none_or(Frame::is_trailers),
            Err(error) => {
                self.ended = true;
                self.fault.set(Some(fault_of(error)));
            }
        }
        Poll::Ready(polled.map_err(BodyError::from))
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, StreamError>> {
        if self.has_data {
            let Some(receiving) = &mut self.receiving else { return Poll::Ready(Ok(None)) };
            if let Some(mut data) = ready!(receiving.poll_recv_data(cx))? {
                return Poll::Ready(Ok(Some(Frame::data(data.copy_to_bytes(data.remaining())))));
            }
            self.has_data = false;
        }
        let Some(receiving) = &mut self.receiving else { return Poll::Ready(Ok(None)) };
        receiving.poll_recv_trailers(cx).map_ok(|trailers| trailers.map(Frame::trailers))
    }
}

/// What a client is told of its body.
fn fault_of(error: &StreamError) -> Code {
    match error {
        StreamError::StreamError { code, .. } => *code,
        // Said by our side of the stream, or else by the client's, which needs to be told nothing.
        StreamError::RemoteTerminate { code, .. } if *code == Code::H3_MESSAGE_ERROR => *code,
        StreamError::HeaderTooBig { .. } => Code::H3_EXCESSIVE_LOAD,
        _ => Code::H3_REQUEST_CANCELLED,
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        self.poll(cx).map(Result::transpose)
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.early.is_none()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        if let Some(receiving) = self.receiving.as_mut().filter(|_| !self.ended) {
            receiving.stop_sending(Code::H3_NO_ERROR);
        }
    }
}
