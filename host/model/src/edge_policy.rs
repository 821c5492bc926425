//! [`EdgePolicy`]: what of a request's head is believed, and what is refused, where it comes in from outside.

use serde::{Deserialize, Serialize};

/// Of all listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EdgePolicy {
    /// Proxies in front of the gateway whose `x-forwarded-for` and `x-forwarded-proto` count: Envoy's
    /// `xff_num_trusted_hops`, Istio's `gatewayTopology.numTrustedProxies`. Default 0: nobody's.
    pub num_trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`. Istio's `gatewayTopology.forwardClientCertDetails`.
    pub forward_client_cert: ForwardClientCert,
    /// What becomes of header names with `_`, which some backends read as `-`. Envoy's
    /// `headers_with_underscores_action`.
    pub underscores: Underscores,
}

impl EdgePolicy {
    /// True for the default, which model dumps leave out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Envoy's `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCert {
    /// The client's own is removed, and that of its certificate, where it has shown one, is set. The default.
    #[default]
    SanitizeSet,
    /// There is none.
    Sanitize,
    /// The client's own, if it has shown a certificate.
    ForwardOnly,
    /// The client's own and that of its certificate, if it has shown one.
    AppendForward,
    /// The client's own, whoever it is.
    AlwaysForwardOnly,
}

/// Envoy's `headers_with_underscores_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Underscores {
    /// The request gets 400: the default, that of Istio's EDGE profile.
    #[default]
    Reject,
    /// The header is left out.
    Drop,
    /// Such names are as good as others.
    Allow,
}
