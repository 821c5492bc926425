//! What TLS offers, of the suites and curves that the one provider has.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

use super::certificate;

/// Suites of TLS 1.2 by OpenSSL's names.
const CIPHERS: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Curves by BoringSSL's names.
const CURVES: [(&str, &dyn SupportedKxGroup); 4] = [
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
    ("X25519", kx_group::X25519),
    ("P-256", kx_group::SECP256R1),
    ("P-384", kx_group::SECP384R1),
];

/// The one provider with these suites of TLS 1.2 and these curves, in the order in which they are written; empty lists are
/// all that it has. Suites of TLS 1.3 are always on.
pub(crate) fn provider(suites: &[String], curves: &[String]) -> Arc<CryptoProvider> {
    let all = certificate::provider();
    if suites.is_empty() && curves.is_empty() {
        return all.clone();
    }
    let mut provider = (**all).clone();
    if !suites.is_empty() {
        let written = suites.iter().filter_map(|name| CIPHERS.iter().find(|(known, _)| known == name));
        let of_1_3 = all.cipher_suites.iter().copied().filter(|suite| suite.tls13().is_some());
        provider.cipher_suites = of_1_3.chain(written.map(|(_, suite)| *suite)).collect();
    }
    if !curves.is_empty() {
        let written = curves.iter().filter_map(|name| CURVES.iter().find(|(known, _)| known == name));
        provider.kx_groups = written.map(|(_, curve)| *curve).collect();
    }
    Arc::new(provider)
}
