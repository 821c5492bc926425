//! [`HeaderPlan`]: which headers are the gateway's own, ready for requests.

use http::HeaderValue;
use portolan_model::{OwnHeaders, ServerHeader};

/// Made with each snapshot.
pub(crate) struct HeaderPlan {
    /// Takes the place of the upstream's; none leaves it.
    pub(crate) server: Option<HeaderValue>,
    pub(crate) request_id: bool,
    pub(crate) attempt_count: bool,
    /// Envoy's own of how a request went; those of its retries and of clients' addresses are not among them.
    pub(crate) debug: bool,
}

impl HeaderPlan {
    /// A name that no header can have counts as none written.
    pub(crate) fn of(written: &OwnHeaders) -> Self {
        let own = || HeaderValue::from_static("portolan");
        let server = match &written.server {
            ServerHeader::Own => Some(own()),
            ServerHeader::Overwrite(name) => Some(HeaderValue::from_str(name).unwrap_or_else(|_| own())),
            ServerHeader::PassThrough => None,
        };
        let OwnHeaders { request_id, attempt_count, debug, .. } = *written;
        Self { server, request_id, attempt_count, debug }
    }
}
