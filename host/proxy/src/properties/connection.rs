//! `connection.*`, and what filters keep with a client's connection.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::{HeaderValue, Version};

use super::{number, text};
use crate::context::ConnectionInfo;

/// Most properties that filters may keep with a connection; more are forgotten.
const MAX_KEPT: usize = 64;

/// What a connection has beside its addresses.
#[derive(Debug, Default)]
pub(crate) struct ConnectionState {
    /// What its TLS handshake has told; none on a plain one.
    tls: OnceLock<Box<TlsInfo>>,
    /// The server name that the client asked for, also where its TLS goes through.
    server_name: OnceLock<Arc<str>>,
    /// Properties that filters have declared for the connection's life.
    kept: Mutex<Vec<Kept>>,
    /// Its client speaks HTTP/3, which comes to the streams as HTTP/2.
    http3: AtomicBool,
}

/// A property's path and value.
type Kept = (Box<[u8]>, Box<[u8]>);

/// What filters may know of a TLS connection. Empty text is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsInfo {
    pub(crate) requested_server_name: String,
    /// `TLSv1.3`
    pub(crate) version: String,
    pub(crate) local: Certificate,
    /// Empty but for mutual TLS.
    pub(crate) peer: Certificate,
    /// Hexadecimal digits.
    pub(crate) sha256_peer_certificate_digest: String,
    /// `x-forwarded-client-cert` of the connection's requests; none without a client's certificate.
    pub(crate) forwarded: Option<HeaderValue>,
}

/// One side's certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    /// The first of each.
    pub(crate) dns_san: String,
    pub(crate) uri_san: String,
}

/// Appends a property of a client's connection.
pub(super) fn write(connection: &ConnectionInfo, name: &[u8], out: &mut Vec<u8>) -> bool {
    let tls = connection.state.tls();
    match name {
        b"id" => number(connection.id, out),
        b"mtls" => {
            out.push(u8::from(tls.is_some_and(|tls| !tls.sha256_peer_certificate_digest.is_empty())));
            true
        }
        // Empty, not absent, without TLS, as in Envoy.
        b"requested_server_name" => text(connection.state.server_name().map_or("", |name| name), out),
        _ => tls.is_some_and(|tls| of_tls(tls, name, out)),
    }
}

/// Appends what a TLS connection has, of either side of the gateway.
pub(super) fn of_tls(tls: &TlsInfo, name: &[u8], out: &mut Vec<u8>) -> bool {
    let value = match name {
        b"tls_version" => &tls.version,
        b"subject_local_certificate" => &tls.local.subject,
        b"subject_peer_certificate" => &tls.peer.subject,
        b"dns_san_local_certificate" => &tls.local.dns_san,
        b"dns_san_peer_certificate" => &tls.peer.dns_san,
        b"uri_san_local_certificate" => &tls.local.uri_san,
        b"uri_san_peer_certificate" => &tls.peer.uri_san,
        b"sha256_peer_certificate_digest" => &tls.sha256_peer_certificate_digest,
        _ => return false,
    };
    !value.is_empty() && text(value, out)
}

impl ConnectionState {
    /// Remembers what the handshake has told, before the first request.
    pub(crate) fn set_tls(&self, tls: TlsInfo) {
        self.set_server_name(Some(tls.requested_server_name.as_str()).filter(|name| !name.is_empty()));
        let _ = self.tls.set(Box::new(tls));
    }

    pub(crate) fn set_server_name(&self, name: Option<&str>) {
        if let Some(name) = name {
            let _ = self.server_name.set(name.into());
        }
    }

    /// What its TLS handshake has told; none on a plain one.
    pub(crate) fn tls(&self) -> Option<&TlsInfo> {
        self.tls.get().map(|tls| &**tls)
    }

    pub(crate) fn server_name(&self) -> Option<&Arc<str>> {
        self.server_name.get()
    }

    /// Its client speaks HTTP/3.
    #[cfg(feature = "http3")]
    pub(crate) fn set_http3(&self) {
        self.http3.store(true, Relaxed);
    }

    pub(crate) fn is_http3(&self) -> bool {
        self.http3.load(Relaxed)
    }

    /// What the client speaks, where its requests have this version.
    pub(crate) fn protocol(&self, version: Version) -> Version {
        if version == Version::HTTP_2 && self.is_http3() { Version::HTTP_3 } else { version }
    }

    /// `:scheme` of its requests, whatever they say.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.get().is_some() { "https" } else { "http" }
    }

    /// Keeps a property for the connection's later streams.
    pub(crate) fn keep(&self, path: &[u8], value: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = kept.iter_mut().find(|(known, _)| **known == *path) {
            *old = value.into();
        } else if kept.len() < MAX_KEPT {
            kept.push((path.into(), value.into()));
        }
    }

    /// What is kept under a path, or under Envoy's names for it.
    pub(super) fn property(&self, path: &[u8], out: &mut Vec<u8>) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return false;
        }
        let short = path.strip_prefix(b"filter_state\0").unwrap_or(path);
        let names = [Some(path), short.strip_prefix(b"wasm.")];
        let found = kept.iter().find(|(known, _)| names.contains(&Some(known)));
        found.map(|(_, value)| out.extend_from_slice(value)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_with_a_connection_has_envoy_s_names_and_a_bound() {
        let state = ConnectionState::default();
        state.keep(b"user", b"ann");
        state.keep(b"user", b"bob");
        for name in [&b"user"[..], b"wasm.user", b"filter_state\0wasm.user"] {
            let mut out = Vec::new();
            assert!(state.property(name, &mut out));
            assert_eq!(out, b"bob");
        }
        (0..=255).for_each(|number| state.keep(&[number], b""));
        assert!(state.property(&[62], &mut Vec::new()) && !state.property(&[63], &mut Vec::new()));
    }

    #[test]
    fn properties_of_tls_are_absent_until_they_have_a_value() {
        let mut tls = TlsInfo { version: "TLSv1.3".to_owned(), ..TlsInfo::default() };
        assert!(of_tls(&tls, b"tls_version", &mut Vec::new()));
        assert!(!of_tls(&tls, b"uri_san_peer_certificate", &mut Vec::new()));
        tls.peer.uri_san = "spiffe://a".to_owned();
        assert!(of_tls(&tls, b"uri_san_peer_certificate", &mut Vec::new()));
        assert!(!of_tls(&tls, b"unheard_of", &mut Vec::new()));
    }
}
