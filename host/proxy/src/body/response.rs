//! [`ResponseBody`]: an answer's body on its way to the client, whoever makes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{BodyError, clean};
use crate::body_filter::{FilteredBody, Whole};
use crate::deadline::Deadline;
use crate::grpc_web::Encoder;
use crate::lease::Lease;
use crate::router::Upstream;
use crate::stream::Guard;

/// A response's body on its way to the client. Dropping it ends the stream: that is when it is logged and counted.
pub(crate) struct ResponseBody {
    kind: Kind,
    /// None when something else ends the stream: a tunnel.
    guard: Option<Guard>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Upstream(Box<UpstreamBody>),
    Filtered(Box<FilteredBody<UpstreamBody>>),
    Replied(Box<FilteredBody<Whole>>),
    /// Broken off; the one who polls is told so the next time.
    Cut(Box<BodyError>),
}

/// The answer's body as it comes from the upstream.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Counts the request as active until the body has ended.
    upstream: Upstream,
    deadline: Option<Deadline>,
    /// For a client of gRPC-Web.
    encoder: Option<Box<Encoder>>,
}

impl ResponseBody {
    pub(crate) fn full(bytes: Bytes, guard: Guard) -> Self {
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) };
        Self { kind, guard: Some(guard) }
    }

    /// The empty body of a 101.
    pub(crate) fn head_only() -> Self {
        Self { kind: Kind::Empty, guard: None }
    }

    /// hyper drops what it has not written when a body fails, the head among it. It writes all when a body has nothing to
    /// give yet, so the failure waits for the next look.
    fn cut_later(&mut self, error: BodyError, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.kind = Kind::Cut(Box::new(error));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take_cut(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Cut(error) => Some(Err(*error)),
            _ => None,
        }
    }

    /// True when the answer is complete with its head: nobody polls a body that has nothing to give, nor any answer's to HEAD.
    /// What an upstream of HTTP/2 sends after a status that has no body is left out.
    pub(crate) fn ends_with_head(&mut self, status: StatusCode, is_head: bool) -> bool {
        if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            self.kind = Kind::Empty;
        }
        is_head || self.is_end_stream()
    }

    pub(crate) fn upstream(body: Box<UpstreamBody>, guard: Guard) -> Self {
        Self { kind: Kind::Upstream(body), guard: Some(guard) }
    }

    pub(crate) fn filtered(body: FilteredBody<UpstreamBody>, guard: Guard) -> Self {
        Self { kind: Kind::Filtered(Box::new(body)), guard: Some(guard) }
    }

    /// A local reply's body that filters see.
    pub(crate) fn replied(body: FilteredBody<Whole>, guard: Guard) -> Self {
        Self { kind: Kind::Replied(Box::new(body)), guard: Some(guard) }
    }
}

impl UpstreamBody {
    /// Boxed: a response is moved through hyper's layers several times on its way out.
    pub(crate) fn new(incoming: Incoming, lease: Lease, upstream: Upstream, deadline: Option<Deadline>) -> Box<Self> {
        let mut body = Box::new(Self { incoming, lease: Some(lease), upstream, deadline, encoder: None });
        body.release_at_end();
        body
    }

    /// What the client gets is in the form of gRPC-Web.
    pub(crate) fn encode_by(&mut self, encoder: Encoder) {
        self.encoder = Some(Box::new(encoder));
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    /// The connection goes back as soon as the answer is complete, without waiting for the client to take it.
    fn release(&mut self) {
        self.upstream.complete();
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.poll(cx).is_ready()
        {
            self.lease = None;
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx)).map(|frame| frame.map(clean));
        let is_http2 = self.lease.as_ref().is_some_and(Lease::is_http2);
        if frame.is_none() && is_http2 && !self.incoming.is_end_stream() {
            self.lease = None;
            return Poll::Ready(Some(Err(BodyError::Reset)));
        }
        match &frame {
            None => self.release(),
            // Nothing follows trailers, and nobody asks whether.
            Some(Ok(frame)) if frame.is_trailers() => self.release(),
            Some(Ok(_)) => self.release_at_end(),
            Some(Err(_)) => self.lease = None,
        }
        let frame = frame.map(|frame| frame.map_err(BodyError::Peer));
        let Some(encoder) = &mut self.encoder else { return Poll::Ready(frame) };
        Poll::Ready(frame.map(|frame| frame.map(|frame| encoder.encode(frame))))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let me = self.get_mut();
        let frame = match &mut me.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                me.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Upstream(body) => ready!(body.poll(cx)),
            Kind::Filtered(body) => ready!(body.poll(cx)),
            Kind::Replied(body) => ready!(body.poll(cx)),
            Kind::Cut(_) => me.take_cut(),
        };
        let frame = match frame {
            Some(Err(error)) if !matches!(me.kind, Kind::Empty) => return me.cut_later(error, cx),
            frame => frame,
        };
        let Some(guard) = &me.guard else { return Poll::Ready(frame) };
        match &frame {
            Some(Ok(frame)) => {
                guard.sent(frame.data_ref().map_or(0, Bytes::len));
                if let Some(trailers) = frame.trailers_ref() {
                    guard.trailers(trailers);
                }
            }
            Some(Err(error)) => guard.cut(error),
            None => guard.complete(),
        }
        if me.is_end_stream() && !matches!(frame, Some(Err(_))) {
            guard.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) | Kind::Filtered(_) | Kind::Replied(_) | Kind::Cut(_) => false,
            Kind::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(body) if body.encoder.is_some() => SizeHint::default(),
            Kind::Upstream(body) => body.incoming.size_hint(),
            Kind::Filtered(_) | Kind::Replied(_) | Kind::Cut(_) => SizeHint::default(),
        }
    }
}
