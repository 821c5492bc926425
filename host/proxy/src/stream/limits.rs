//! How long a request may take, how large it may be, and what it gets that is beyond.

use std::time::Duration;

use hyper::body::Incoming;
use portolan_telemetry::ResponseFlags;

use super::Stream;
use crate::clock;
use crate::local_reply::{Refusal, Reply};
use crate::worker::Worker;

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
        let limit = self.slot.limits().request_timeout_ms.map_or(limits.request_timeout, Duration::from_millis);
        let took = Duration::from_millis(clock::coarse_ms().saturating_sub(self.begun_ms));
        (!limit.is_zero() && took > limit).then(|| {
            self.http.downstream_rq_timeout.inc();
            Reply::request_timeout()
        })
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

    /// The answer when nothing went either way for too long.
    pub(super) fn idle_reply(&self) -> Option<Reply> {
        self.has_expired().then(|| Reply::stream_idle(self.upload.is_awaited()))
    }

    /// Why the stream has ended before its answer was whole, when nothing else was said.
    pub(super) fn cut_reason(&self) -> (ResponseFlags, &'static str) {
        match self.has_expired() {
            true => (ResponseFlags::SI, "stream_idle_timeout"),
            false => (ResponseFlags::DC, "downstream_remote_disconnect"),
        }
    }

    pub(super) fn cut_connection(&self) {
        let connections = self.worker.connections.borrow();
        let handle = connections.iter().map(|(_, handle)| handle).find(|handle| handle.serves(&self.connection));
        if let Some(handle) = handle {
            handle.cut();
        }
    }
}
