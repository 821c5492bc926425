//! [`Guard`]: ends a stream when the last part of its answer is dropped, sent or not.

use std::io;
use std::rc::Rc;

use http::HeaderMap;
use portolan_telemetry::ResponseFlags;

use super::Stream;
use crate::body::BodyError;

/// Travels with the answer.
pub(crate) struct Guard(Rc<Stream>);

impl Guard {
    pub(super) fn new(stream: Rc<Stream>) -> Self {
        Self(stream)
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.0.connection.activity.progress();
        self.0.record.sent.set(self.0.record.sent.get() + bytes as u64);
    }

    /// The answer has been handed over whole.
    pub(crate) fn complete(&self) {
        self.0.record.complete.set(true);
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
            BodyError::Peer(error) if is_malformed(error) => {
                (ResponseFlags::UPE, "upstream_reset_after_response_started{protocol_error}")
            }
            BodyError::Peer(_) => (ResponseFlags::UC, "upstream_reset_after_response_started{connection_termination}"),
            BodyError::Reset => (ResponseFlags::UR, "upstream_reset_after_response_started{remote_reset}"),
            BodyError::Filter | BodyError::Superseded | BodyError::Refused => {
                (ResponseFlags::LR, "filter_reset_after_response_started")
            }
        };
        self.0.flag(flag, details);
    }

    /// The bytes that an upgraded connection carried.
    pub(crate) fn tunnelled(&self, received: u64, sent: u64) {
        self.0.record.received.set(received);
        self.0.record.sent.set(sent);
        self.complete();
    }
}

/// True when a body ends early by its own fault: bad chunks.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.finish();
    }
}
