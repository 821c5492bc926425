//! [`Certificates`]: which of a chain's certificates a client is shown: one that it can verify.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The key pairs of one filter chain.
#[derive(Debug)]
pub(super) struct Certificates(Vec<KeyPair>);

/// A key with its certificates.
#[derive(Debug)]
pub(super) struct KeyPair {
    pub(super) bare: Arc<CertifiedKey>,
    /// The same with an OCSP response, and until when that one counts, in seconds of Unix time.
    pub(super) stapled: Option<(Arc<CertifiedKey>, i64)>,
}

impl Certificates {
    /// ECDSA comes before RSA, as in Envoy: whoever can verify it is spared the longer signature.
    pub(super) fn new(mut pairs: Vec<KeyPair>) -> Self {
        pairs.sort_by_key(|pair| pair.bare.key.algorithm() == SignatureAlgorithm::RSA);
        Self(pairs)
    }
}

impl KeyPair {
    /// What is shown now: a response that has run out is left out.
    fn shown(&self) -> Arc<CertifiedKey> {
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let counts = |until: i64| i64::try_from(now()).is_ok_and(|now| now < until);
        self.stapled.as_ref().filter(|(_, until)| counts(*until)).map_or(&self.bare, |(pair, _)| pair).clone()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |pair: &&KeyPair| pair.bare.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).or(self.0.first()).map(KeyPair::shown)
    }
}
