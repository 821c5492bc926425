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
        self.connection.activity.progress();
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

    /// The answer when nothing went either way for too long. Over HTTP/2 nobody is woken for it: the connection, of which
    /// every stream is idle, is cut.
    pub(super) fn idle_reply(&self) -> Option<Reply> {
        let is_idle = self.connection.activity.has_expired() && !self.is_http2();
        is_idle.then(|| Reply::stream_idle(self.upload.is_awaited()))
    }

    /// Why the stream has ended before its answer was whole, when nothing else was said.
    pub(super) fn cut_reason(&self) -> (ResponseFlags, &'static str) {
        match self.connection.activity.has_expired() {
            true => (ResponseFlags::SI, "stream_idle_timeout"),
            false => (ResponseFlags::DC, "downstream_remote_disconnect"),
        }
    }
}
