//! [`FilteredBody`]: a body that filters want to see, as hyper asks for it: what has come goes through the filters, what
//! they let go is handed on; while one pauses it waits, under a deadline.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::body::{BodyError, UpstreamBody, poll_incoming};
use crate::filter_chain::Direction;
use crate::hold::pause_ends;
use crate::local_reply::{Failure, Reply};
use crate::stream::Stream;

/// Where a body comes from.
pub(crate) trait Inflow {
    fn poll_frame(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;

    fn is_end_stream(&self) -> bool;
}

impl Inflow for Incoming {
    fn poll_frame(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        poll_incoming(self, stream, cx)
    }

    fn is_end_stream(&self) -> bool {
        Body::is_end_stream(self)
    }
}

impl Inflow for UpstreamBody {
    fn poll_frame(&mut self, _: &Stream, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        Self::is_end_stream(self)
    }
}

/// A body that is there as a whole: a local reply's.
pub(crate) struct Whole(pub(crate) Bytes);

impl Inflow for Whole {
    fn poll_frame(&mut self, _: &Stream, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let data = std::mem::take(&mut self.0);
        Poll::Ready((!data.is_empty()).then(|| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// A body with the filters that see it.
pub(crate) struct FilteredBody<I> {
    inflow: I,
    stream: Rc<Stream>,
    direction: Direction,
    /// The end has come in.
    ended: bool,
    deadline: Option<Instant>,
}

impl<I: Inflow> FilteredBody<I> {
    /// `deadline`: when the route's timeout runs out.
    pub(crate) fn new(inflow: I, stream: Rc<Stream>, direction: Direction, deadline: Option<Instant>) -> Self {
        Self { inflow, stream, direction, ended: false, deadline }
    }

    pub(crate) fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.poll_filters(cx)) {
            Ok(frame) => Poll::Ready(frame.map(Ok)),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn poll_filters(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, BodyError>> {
        loop {
            self.stream.go_on(self.direction).map_err(|reply| self.refuse(*reply))?;
            if let Some(frame) = self.stream.with_flow(self.direction, |flow| flow.next()) {
                return Poll::Ready(Ok(frame));
            }
            if self.poll_pause(cx)? {
                continue;
            }
            if self.ended {
                return Poll::Pending;
            }
            let frame = ready!(self.inflow.poll_frame(&self.stream, cx)).transpose()?;
            self.take_in(frame)?;
        }
    }

    /// True when a pause has lasted too long and what was held goes on.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Result<bool, BodyError> {
        let pausing = self.stream.with_flow(self.direction, |flow| {
            flow.register(cx);
            let pausing = flow.is_pausing();
            if !pausing {
                flow.end_pause();
            }
            pausing
        });
        if !pausing {
            return Ok(false);
        }
        if let Some(reply) = self.stream.take_interruption() {
            return Err(self.refuse(reply));
        }
        let until = pause_ends(self.stream.pause_limit(self.direction), self.deadline);
        if self.stream.with_flow(self.direction, |flow| flow.poll_deadline(cx, || until)).is_pending() {
            return Ok(false);
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // The upstream call may hear of it before its own clock says so.
            self.stream.answer_body_with(Reply::failed(Failure::Timeout, None));
            return Err(BodyError::Timeout);
        }
        self.stream.end_pauses(self.direction).map_err(|reply| self.refuse(*reply))?;
        Ok(true)
    }

    fn take_in(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), BodyError> {
        self.ended |= is_last(frame.as_ref(), &self.inflow);
        take_in(&self.stream, self.direction, frame, self.ended).map_err(|reply| self.refuse(*reply))
    }

    /// The client gets the answer when the response has not begun; else the body is only cut.
    fn refuse(&self, reply: Reply) -> BodyError {
        self.stream.answer_body_with(reply);
        BodyError::Filter
    }
}

/// True when nothing follows this frame. Nothing follows trailers, whatever the sender says.
pub(crate) fn is_last(frame: Option<&Frame<Bytes>>, inflow: &(impl Inflow + ?Sized)) -> bool {
    frame.is_none_or(Frame::is_trailers) || inflow.is_end_stream()
}

/// A frame, or the end, into the filters. `last` when nothing follows it.
pub(crate) fn take_in(
    stream: &Rc<Stream>,
    direction: Direction,
    frame: Option<Frame<Bytes>>,
    last: bool,
) -> Result<(), Box<Reply>> {
    match frame.map(Frame::into_data) {
        Some(Ok(data)) => stream.feed(direction, data, last),
        Some(Err(frame)) => match frame.into_trailers() {
            Ok(trailers) => stream.feed_trailers(direction, trailers),
            Err(_) => Ok(()),
        },
        None => stream.feed(direction, Bytes::new(), true),
    }
}
