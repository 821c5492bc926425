//! [`OwnHeaders`]: which headers the gateway itself adds to requests and responses.

use serde::{Deserialize, Serialize};

/// Of all listeners. Istio's `defaultConfig.proxyHeaders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnHeaders {
    /// What responses say of who answers.
    pub server: ServerHeader,
    /// Each request gets an `x-request-id` of its own; else it keeps the client's, and gets none. True by default.
    pub request_id: bool,
    /// Upstreams are told which try a request is: Envoy's `include_request_attempt_count`. True by default.
    pub attempt_count: bool,
    /// `x-envoy-upstream-service-time`, `x-envoy-original-path` and their kin: off is Envoy's `suppress_envoy_headers`. True
    /// by default.
    pub debug: bool,
}

impl OwnHeaders {
    /// True for the default, which model dumps leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for OwnHeaders {
    fn default() -> Self {
        Self { server: ServerHeader::default(), request_id: true, attempt_count: true, debug: true }
    }
}

/// Envoy's `server_header_transformation` with its `server_name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerHeader {
    /// The gateway's own name takes the place of the upstream's. The default.
    #[default]
    Own,
    /// This name does.
    Overwrite(String),
    /// The upstream's stays, and the gateway's own answers have none.
    PassThrough,
}
