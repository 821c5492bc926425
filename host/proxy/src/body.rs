//! Bodies as they stream through: of requests towards the upstream, in `response` those towards the client.

mod response;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub(crate) use self::response::{ResponseBody, UpstreamBody};
use crate::body_filter::FilteredBody;
use crate::grpc_web::TextBody;
use crate::head;
use crate::mirror::CopiedBody;
use crate::stream::Stream;

/// Most bytes of a request body that are kept for another try; a longer one is not tried again. Envoy's limit of a
/// connection's buffer.
const MAX_REPLAY: usize = 1024 * 1024;

/// Why a body ended early. The peer that reads it sees its stream cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The sender's side failed.
    #[error("{0}")]
    Peer(#[from] hyper::Error),
    /// The route's timeout ran out.
    #[error("timeout")]
    Timeout,
    /// Another try reads the body now.
    #[error("superseded")]
    Superseded,
    /// HTTP/2: a RST_STREAM with NO_ERROR before the end, which hyper takes for an end.
    #[error("reset before the end")]
    Reset,
    /// The request is longer, or takes longer, than it may.
    #[error("refused")]
    Refused,
    /// A filter failed, or closed the stream.
    #[error("filter")]
    Filter,
}

/// A request's body on its way to the upstream.
pub(crate) enum RequestBody {
    Empty,
    /// Straight through. Boxed, as all others: a request is moved often, and most have no body.
    Streamed(Box<Incoming>, Rc<Stream>),
    /// Kept as far as it has been read, so that it can be sent again.
    Replayed(Box<Reader>),
    /// Through filters that want to see it.
    Filtered(Box<FilteredBody<Incoming>>),
    /// A filter's callout.
    Call(Box<CallBody>),
    /// A copy for a mirror.
    Copied(CopiedBody),
    /// Of gRPC-Web, in its text form.
    Text(Box<TextBody>),
}

/// The body of a filter's callout: there as a whole.
pub(crate) struct CallBody {
    data: Bytes,
    trailers: HeaderMap,
}

impl CallBody {
    pub(crate) fn new(data: Bytes, trailers: HeaderMap) -> Self {
        Self { data, trailers }
    }

    fn poll(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if !self.data.is_empty() {
            return Some(Ok(Frame::data(std::mem::take(&mut self.data))));
        }
        let trailers = std::mem::take(&mut self.trailers);
        (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        // With trailers the body goes out in chunks.
        if self.trailers.is_empty() { SizeHint::with_exact(self.data.len() as u64) } else { SizeHint::default() }
    }
}

/// A body that can be read again from the start.
pub(crate) struct Replay {
    source: Source,
    stream: Rc<Stream>,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// The source has nothing more.
    ended: bool,
    kept: usize,
    overflowed: bool,
    /// How many readers were made. Only the newest reads on: an answered connection may still be sending.
    readers: u32,
}

/// Where a body that can be read again comes from.
enum Source {
    Client(Incoming),
    /// With what filters made of it.
    Filters(Box<FilteredBody<Incoming>>),
}

impl Source {
    fn poll(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Client(incoming) => poll_incoming(incoming, stream, cx),
            Self::Filters(filtered) => filtered.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::Filters(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(incoming) => incoming.size_hint(),
            Self::Filters(_) => SizeHint::default(),
        }
    }
}

/// One try's place in a [`Replay`].
pub(crate) struct Reader {
    replay: Rc<RefCell<Replay>>,
    at: usize,
    number: u32,
}

impl Reader {
    /// A reader at the start; earlier ones see their body cut.
    pub(crate) fn new(replay: Rc<RefCell<Replay>>) -> Self {
        let number = {
            let mut replay = replay.borrow_mut();
            replay.readers += 1;
            replay.readers
        };
        Self { replay, at: 0, number }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut replay = self.replay.borrow_mut();
        if replay.readers != self.number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        replay.poll(cx, &mut self.at)
    }
}

impl Replay {
    pub(crate) fn new(incoming: Incoming, stream: Rc<Stream>) -> Rc<RefCell<Self>> {
        Self::of(Source::Client(incoming), stream)
    }

    /// Of a body that filters want to see.
    pub(crate) fn filtered(filtered: FilteredBody<Incoming>) -> Rc<RefCell<Self>> {
        let stream = filtered.stream().clone();
        Self::of(Source::Filters(Box::new(filtered)), stream)
    }

    fn of(source: Source, stream: Rc<Stream>) -> Rc<RefCell<Self>> {
        let (chunks, trailers) = (Vec::new(), None);
        let replay = Self { source, stream, chunks, trailers, ended: false, kept: 0, overflowed: false, readers: 0 };
        Rc::new(RefCell::new(replay))
    }

    /// True while everything that was read is still there.
    pub(crate) fn is_whole(&self) -> bool {
        !self.overflowed
    }

    fn poll(&mut self, cx: &mut Context<'_>, at: &mut usize) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(chunk) = self.chunks.get(*at) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if self.ended {
            let trailers = self.trailers.clone().filter(|_| *at == self.chunks.len());
            *at += 1;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(self.source.poll(&self.stream, cx));
        match &frame {
            Some(Ok(frame)) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => self.keep(data, at),
                (None, Some(trailers)) => self.end(Some(trailers.clone()), at),
                (None, None) => {}
            },
            Some(Err(_)) => {}
            None => self.end(None, at),
        }
        copy(&self.stream, frame.as_ref(), self.source.is_end_stream());
        Poll::Ready(frame)
    }

    fn keep(&mut self, data: &Bytes, at: &mut usize) {
        self.kept += data.len();
        self.overflowed |= self.kept > MAX_REPLAY;
        if self.overflowed {
            // It cannot be sent again: whoever reads now has passed what was kept.
            self.chunks = Vec::new();
        } else {
            self.chunks.push(data.clone());
            *at += 1;
        }
    }

    /// The reader that comes to the end has its trailers, or there are none.
    fn end(&mut self, trailers: Option<HeaderMap>, at: &mut usize) {
        self.trailers = trailers;
        self.ended = true;
        *at = self.chunks.len() + 1;
    }
}

/// One frame of the client's body, counted.
pub(crate) fn poll_incoming(
    incoming: &mut Incoming,
    stream: &Stream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let Poll::Ready(frame) = Pin::new(&mut *incoming).poll_frame(cx) else {
        stream.upload().waits();
        stream.owes_body(true);
        return Poll::Pending;
    };
    if stream.upload().is_awaited() {
        stream.owes_body(false);
    }
    stream.upload().came();
    if let Some(Ok(frame)) = &frame
        && let Some(reply) = stream.refuse_part(frame.data_ref().map_or(0, Bytes::len))
    {
        stream.answer_body_with(reply);
        return Poll::Ready(Some(Err(BodyError::Refused)));
    }
    let frame = frame.map(|frame| frame.map(clean));
    match &frame {
        Some(Ok(frame)) => stream.received(frame.data_ref().map_or(0, Bytes::len)),
        // Remembered: what the upstream then reports is the client's fault.
        Some(Err(error)) => stream.request_broke(is_malformed(stream, error)),
        None if stream.is_http2() && !incoming.is_end_stream() => {
            stream.request_broke(false);
            return Poll::Ready(Some(Err(BodyError::Reset)));
        }
        None => {}
    }
    Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
}

/// True when the client's body is not as it must be, unlike one that breaks off.
fn is_malformed(stream: &Stream, error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    if let Some(error) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
        return error.is_library();
    }
    let kind = source.and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    stream.connection.activity.has_broken_off()
        || matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

impl RequestBody {
    /// Without what turns it for the upstream.
    pub(crate) fn without_turning(self) -> Self {
        match self {
            Self::Text(body) => body.into_inner(),
            other => other,
        }
    }
}

/// Takes out of trailers what only a head may say.
fn clean(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        head::clean_trailers(trailers);
    }
    frame
}

/// Passes what has been read on to mirrors.
fn copy(stream: &Stream, frame: Option<&Result<Frame<Bytes>, BodyError>>, last: bool) {
    if !stream.copies.is_empty() {
        stream.copies.pass(frame, last);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(incoming, stream) => {
                let frame = ready!(poll_incoming(incoming, stream, cx));
                copy(stream, frame.as_ref(), incoming.is_end_stream());
                Poll::Ready(frame)
            }
            Self::Replayed(reader) => reader.poll(cx),
            Self::Filtered(filtered) => {
                let frame = ready!(filtered.poll(cx));
                copy(filtered.stream(), frame.as_ref(), false);
                Poll::Ready(frame)
            }
            Self::Call(body) => Poll::Ready(body.poll()),
            Self::Copied(body) => body.poll(cx),
            Self::Text(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(incoming, _) => incoming.is_end_stream(),
            Self::Replayed(reader) => {
                let replay = reader.replay.borrow();
                reader.at >= replay.chunks.len() && replay.source.is_end_stream() && replay.trailers.is_none()
            }
            Self::Filtered(_) | Self::Text(_) => false,
            Self::Call(body) => body.is_end_stream(),
            Self::Copied(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(incoming, _) => incoming.size_hint(),
            Self::Replayed(reader) if reader.replay.borrow().kept == 0 => reader.replay.borrow().source.size_hint(),
            Self::Replayed(_) | Self::Filtered(_) | Self::Copied(_) | Self::Text(_) => SizeHint::default(),
            Self::Call(body) => body.size_hint(),
        }
    }
}
