//! WebSockets to clusters of HTTP/2: by extended CONNECT where the endpoint takes it, by HTTP/1 where it does not.

use std::rc::Rc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Attempts;
use crate::lease::Lease;
use crate::pool::{CheckoutError, EndpointPool, Wanted};
use crate::upstream::Form;

/// What servers put behind a client's key (RFC 6455 section 4.2.2).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Attempts<'_> {
    /// The connection for a WebSocket in place of one of HTTP/2: the same when its peer allows extended CONNECT. Whether it
    /// does is known with its first SETTINGS, for which it has `connectTimeout`. Else one of HTTP/1 is tried, which works where
    /// the endpoint speaks both, and fails as such where it does not.
    pub(super) async fn for_websocket(
        &self,
        lease: Lease,
        pool: &Rc<EndpointPool>,
        wanted: Wanted<'_>,
    ) -> Result<Lease, CheckoutError> {
        if timeout(wanted.limits.connect_timeout, lease.takes_websockets()).await.unwrap_or(false) {
            return Ok(lease);
        }
        lease.give_back();
        self.pool.checkout(pool, &Wanted { is_http2: false, ..wanted }).await
    }

    /// Puts the answer to an extended CONNECT in the words of HTTP/1.1, as everything behind here knows it. A server of HTTP/1
    /// behind the endpoint has answered the key already; else it is answered here, as clients insist.
    pub(super) fn switch(&self, response: &mut Response<Incoming>) {
        if self.form != Form::WebSocket || response.status() != StatusCode::OK {
            return;
        }
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        if response.headers().contains_key(header::SEC_WEBSOCKET_ACCEPT) {
            return;
        }
        let key = self.kept.as_ref().and_then(|head| head.field(&header::SEC_WEBSOCKET_KEY));
        if let Some(accept) = key.and_then(|key| HeaderValue::try_from(accept(key.as_bytes())).ok()) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
}

/// What proves that a key was read.
fn accept(key: &[u8]) -> String {
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_the_rfc_has_it() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
