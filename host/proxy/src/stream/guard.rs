//! [`Guard`]: ends a stream when the last part of its answer is dropped, sent or not.

use std::io;
use std::rc::Rc;

use http::HeaderMap;
use portolan_telemetry::ResponseFlags;

use super::Stream;
use crate::body::BodyError;
use crate::upstream::{StreamFailure, stream_failure};

/// Travels with the answer.
pub(crate) struct Guard(Rc<Stream>);

impl Guard {
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Self(stream)
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.0.progress();
        self.0.record.sent.set(self.0.record.sent.get() + bytes as u64);
    }

    /// The answer has been handed over whole.
    pub(crate) fn complete(&self) {
        self.0.record.complete.set(true);
    }

    /// The client has gone from the tunnel that it has asked for.
    pub(crate) fn left(&self) {
        self.0.record.complete.set(false);
    }

    /// The answer has trailers.
    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        self.0.note_grpc_status(trailers);
        self.complete();
    }

    /// The answer ends too early.
    pub(crate) fn cut(&self, error: &BodyError) {
        let (flag, details) = match error {
            BodyError::Timeout => (ResponseFlags::UT, "response_timeout"),
            BodyError::Peer(error) => cut_by_peer(error),
            BodyError::Reset => (ResponseFlags::UR, "upstream_reset_after_response_started{remote_reset}"),
            BodyError::Filter | BodyError::Superseded | BodyError::Refused => {
                (ResponseFlags::LR, "filter_reset_after_response_started")
            }
        };
        self.0.flag(flag, details);
    }
}

/// Why the upstream's body breaks off. Of HTTP/1, by a bad chunk as by the connection's end, Envoy calls it a protocol error.
fn cut_by_peer(error: &hyper::Error) -> (ResponseFlags, &'static str) {
    let is_of_http1 = || std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
    match stream_failure(error) {
        Some(StreamFailure::Reset) => (ResponseFlags::UR, "upstream_reset_after_response_started{remote_reset}"),
        Some(StreamFailure::Refused) => {
            (ResponseFlags::UR, "upstream_reset_after_response_started{remote_refused_stream_reset}")
        }
        None if !is_of_http1() => (ResponseFlags::UC, "upstream_reset_after_response_started{connection_termination}"),
        _ => (ResponseFlags::UPE, "upstream_reset_after_response_started{protocol_error}"),
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.finish();
    }
}
