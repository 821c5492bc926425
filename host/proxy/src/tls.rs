//! TLS: certificates and keys as rustls wants them.

#[allow(dead_code, reason = "listeners and clusters come to use it with their own changes")]
pub(crate) mod certificate;
