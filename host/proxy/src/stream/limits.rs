//! How long a request may take, how large it may be, and what it gets that is beyond.

use std::time::Duration;

use hyper::body::Incoming;
use portolan_telemetry::ResponseFlags;

use super::Stream;
use crate::clock;
use crate::connection::{Ended, Fault, request_timeout};
use crate::filter_chain::Direction;
use crate::local_reply::{Failure, Refusal, Reply};
use crate::worker::Worker;

/// How the client's body has ended before its end.
#[derive(Clone, Copy)]
pub(super) enum Broken {
    /// It is none.
    Malformed,
    /// The client has gone, or has taken its request back.
    Off,
}

/// Whether memory is too short for another request.
pub(super) fn overload(worker: &Worker) -> Option<Refusal> {
    worker.edge.overload.sheds_requests().then_some(Refusal::Overload)
}

impl Stream {
    /// So many bytes of the request's body have come.
    pub(crate) fn received(&self, bytes: usize) {
        self.progress();
        self.record.received.set(self.record.received.get() + bytes as u64);
    }

    pub(super) fn count_refusal(&self, refusal: Refusal) {
        if refusal == Refusal::Overload {
            self.http.downstream_rq_overload_close.inc();
        }
    }

    /// A body that says itself that it is longer than it may be.
    pub(super) fn is_too_large(&self, body: &Incoming) -> Option<Refusal> {
        let limit = self.worker.edge.limits.max_request_bytes?;
        let is_too_large = http_body::Body::size_hint(body).lower() > limit;
        is_too_large.then(|| {
            self.http.downstream_rq_too_large.inc();
            Refusal::TooLarge
        })
    }

    /// What to answer when a part of the request's body is longer, or later, than the request may be.
    pub(crate) fn refuse_part(&self, bytes: usize) -> Option<Reply> {
        let limits = &self.worker.edge.limits;
        if limits.max_request_bytes.is_some_and(|limit| self.record.received.get() + bytes as u64 > limit) {
            self.http.downstream_rq_too_large.inc();
            return Some(Refusal::TooLarge.into());
        }
        self.is_overdue().then(|| {
            self.http.downstream_rq_timeout.inc();
            Reply::request_timeout()
        })
    }

    /// The request has taken longer than it may to come in.
    fn is_overdue(&self) -> bool {
        let limit = request_timeout(&self.slot, &self.worker.edge.limits);
        let took = Duration::from_millis(clock::coarse_ms().saturating_sub(self.begun_ms));
        !limit.is_zero() && took > limit
    }

    /// A part of its body is awaited, or has come.
    pub(crate) fn owes_body(&self, owes: bool) {
        let since = if owes { self.begun_ms.max(1) } else { 0 };
        match &self.clock {
            Some(clock) => clock.owes(since),
            None => self.connection.activity.owes(since),
        }
    }

    /// Something went one way or the other.
    pub(crate) fn progress(&self) {
        match &self.clock {
            Some(clock) => clock.progress(),
            None => self.connection.activity.progress(),
        }
    }

    /// Coarse stamp of the last progress.
    pub(crate) fn last_progress(&self) -> u64 {
        self.clock.as_ref().map_or_else(|| self.connection.activity.last_progress(), |clock| clock.last_progress())
    }

    fn has_expired(&self) -> bool {
        self.clock.as_ref().map_or_else(|| self.connection.activity.has_expired(), |clock| clock.has_expired())
    }

    /// The answer when nothing went either way for too long, or when the body has not come in for too long.
    pub(super) fn idle_reply(&self) -> Option<Reply> {
        let waits_for_client = self.upload.is_awaited();
        self.has_expired().then(|| match waits_for_client && self.is_overdue() {
            true => Reply::request_timeout(),
            false => Reply::stream_idle(waits_for_client),
        })
    }

    /// Why the stream has ended before its answer was whole, when nothing else was said.
    pub(super) fn cut_reason(&self) -> (ResponseFlags, &'static str) {
        let ended = self.clock.as_ref().map_or(Ended::No, |clock| clock.ended());
        match ended {
            // What carries HTTP/3 within the process says it of connections that are gone, too.
            Ended::ByClient if !self.connection.state.is_http3() => (ResponseFlags::DR, "http2.remote_reset"),
            Ended::ForFault => (ResponseFlags::DPE, "http2.violation.of.messaging.rule"),
            _ if self.has_expired() => (ResponseFlags::SI, "stream_idle_timeout"),
            _ => (ResponseFlags::DC, "downstream_remote_disconnect"),
        }
    }

    /// The client has reset its stream of HTTP/2.
    pub(crate) fn is_taken_back(&self) -> bool {
        self.clock.as_ref().is_some_and(|clock| clock.ended() == Ended::ByClient)
    }

    /// The client's body was malformed, or broke off.
    pub(crate) fn request_broke(&self, is_malformed: bool) {
        self.record.broken.set(Some(if is_malformed { Broken::Malformed } else { Broken::Off }));
    }

    /// What becomes of the request then: what the upstream reports is the client's fault. Who has gone gets no answer.
    pub(crate) fn broken_request(&self) -> Option<Reply> {
        Some(match self.record.broken.get()? {
            Broken::Malformed if self.is_http2() => {
                Reply::unanswered(ResponseFlags::DPE, "http2.violation.of.messaging.rule")
            }
            Broken::Malformed => Refusal::Malformed(Fault::Chunk).into(),
            Broken::Off => {
                let (flags, details) = self.cut_reason();
                Reply::unanswered(flags, details)
            }
        })
    }

    /// A body broke off while a filter held its head.
    pub(crate) fn broken_body(&self, direction: Direction) -> Reply {
        let broken = (direction == Direction::Request).then(|| self.broken_request()).flatten();
        broken.unwrap_or_else(|| Reply::failed(Failure::Reset, None))
    }

    pub(super) fn cut_connection(&self) {
        let connections = self.worker.connections.borrow();
        let handle = connections.iter().map(|(_, handle)| handle).find(|handle| handle.serves(&self.connection));
        if let Some(handle) = handle {
            handle.cut();
        }
    }
}
