//! Bodies that filters want to see: each chunk goes through their callbacks; a pausing filter makes it wait.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use portolan_wasm::FilterAction;

use crate::body::{BodyError, UpstreamBody, poll_incoming};
use crate::filter_chain::Direction;
use crate::local_reply::Reply;
use crate::stream::Stream;

/// Most bytes that wait for a pausing filter: Envoy's default buffer limit. Beyond it the body is cut.
const MAX_BUFFERED: usize = 1024 * 1024;

/// A request's body with the filters that see it.
pub(crate) struct FilteredRequest {
    incoming: Incoming,
    filter: BodyFilter,
}

/// A response's body with the filters that see it.
pub(crate) struct FilteredResponse {
    upstream: UpstreamBody,
    filter: BodyFilter,
}

/// One direction of one stream: what came, and what may go on.
struct BodyFilter {
    stream: Rc<Stream>,
    direction: Direction,
    ready: VecDeque<Frame<Bytes>>,
    ended: bool,
}

impl FilteredRequest {
    pub(crate) fn new(incoming: Incoming, stream: Rc<Stream>) -> Self {
        Self { incoming, filter: BodyFilter::new(stream, Direction::Request) }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(frame) = self.filter.next() {
                return Poll::Ready(frame.map(Ok));
            }
            let frame = ready!(poll_incoming(&mut self.incoming, &self.filter.stream, cx)).transpose()?;
            let last = frame.is_none() || self.incoming.is_end_stream();
            self.filter.feed(frame, last)?;
        }
    }
}

impl FilteredResponse {
    pub(crate) fn new(upstream: UpstreamBody, stream: Rc<Stream>) -> Self {
        Self { upstream, filter: BodyFilter::new(stream, Direction::Response) }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(frame) = self.filter.next() {
                return Poll::Ready(frame.map(Ok));
            }
            let frame = ready!(self.upstream.poll(cx)).transpose()?;
            let last = frame.is_none() || self.upstream.is_end_stream();
            self.filter.feed(frame, last)?;
        }
    }
}

impl BodyFilter {
    fn new(stream: Rc<Stream>, direction: Direction) -> Self {
        Self { stream, direction, ready: VecDeque::new(), ended: false }
    }

    /// The next frame that may go on; `Some(None)` at the end.
    fn next(&mut self) -> Option<Option<Frame<Bytes>>> {
        match self.ready.pop_front() {
            Some(frame) => Some(Some(frame)),
            None if self.ended => Some(None),
            None => None,
        }
    }

    fn feed(&mut self, frame: Option<Frame<Bytes>>, last: bool) -> Result<(), BodyError> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.data(data, last),
            Some(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => self.trailers(trailers),
                Err(_) => Ok(()),
            },
            None if self.ended => Ok(()),
            None => self.data(Bytes::new(), true),
        }
    }

    fn data(&mut self, data: Bytes, last: bool) -> Result<(), BodyError> {
        self.ended |= last;
        let held = self.stream.push_body(self.direction, data);
        let refused = match self.stream.on_body(self.direction, last) {
            Ok(FilterAction::Continue) => {
                self.flush();
                return Ok(());
            }
            Ok(FilterAction::Pause) if !last && held <= MAX_BUFFERED => return Ok(()),
            Ok(FilterAction::Pause) if last => Reply::paused_too_long(),
            Ok(FilterAction::Pause) => Reply::body_too_large(),
            Ok(FilterAction::Reply) => match self.stream.with_state(|state| state.local_reply.take()) {
                Some(reply) => reply.into(),
                None => return Err(BodyError::Filter),
            },
            Err(reply) => *reply,
        };
        // The client gets it when the response has not begun; else the body is only cut.
        self.stream.answer_body_with(refused);
        Err(BodyError::Filter)
    }

    fn trailers(&mut self, trailers: HeaderMap) -> Result<(), BodyError> {
        self.ended = true;
        let trailers = self.stream.on_trailers(self.direction, trailers).map_err(|reply| {
            self.stream.answer_body_with(*reply);
            BodyError::Filter
        })?;
        self.flush();
        self.ready.push_back(Frame::trailers(trailers));
        Ok(())
    }

    fn flush(&mut self) {
        let data = self.stream.take_body(self.direction);
        if !data.is_empty() {
            self.ready.push_back(Frame::data(data));
        }
    }
}
