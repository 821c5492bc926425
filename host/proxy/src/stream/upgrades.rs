//! Streams that ask for something else than an answer: a WebSocket, or by CONNECT a tunnel.

use http::{Method, StatusCode, request};
use hyper::upgrade::OnUpgrade;
use portolan_model::ConnectMode;

use super::Stream;
use crate::connect;

impl Stream {
    /// Keeps the client's side of the upgrade that it asked for.
    pub(crate) fn keep_upgrade(&self, request: &mut request::Parts) {
        self.upgrade.set(request.extensions.remove());
    }

    /// The client's side of the upgrade that it asked for.
    pub(crate) fn take_upgrade(&self) -> Option<OnUpgrade> {
        self.upgrade.take()
    }

    /// The protocol was switched, in whatever words the client is told.
    pub(crate) fn note_switched(&self) {
        self.record.status.set(StatusCode::SWITCHING_PROTOCOLS.as_u16());
    }

    /// True when the client asks for a tunnel in so many words.
    pub(crate) fn is_connect(&self) -> bool {
        self.with_state(|state| state.request.method == Method::CONNECT)
    }

    /// True when no body follows this answer of an upstream, but what was asked for.
    pub(crate) fn is_switched_by(&self, status: StatusCode, is_http2: bool) -> bool {
        if !self.is_connect() {
            return status == StatusCode::SWITCHING_PROTOCOLS;
        }
        // A 101 is none.
        connect::opens(status, is_http2) || status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// True when its bytes go to an endpoint over TCP.
    pub(crate) fn is_terminated(&self) -> bool {
        self.is_connect() && connect::mode(&self.view, &self.slot) == Some(ConnectMode::Terminate)
    }
}
