//! PEM of Secrets and files made ready for rustls: key pairs, trust anchors, revocation lists. No error shows a key.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Why a credential cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("its certificate is not PEM: {0}")]
    CertificatePem(String),
    #[error("it holds no certificate")]
    NoCertificate,
    #[error("its key is not PEM of a private key: {0}")]
    KeyPem(String),
    #[error("its key cannot be used: {0}")]
    Key(String),
    #[error("its key does not belong to its certificate")]
    Mismatch,
    #[error("its CA is not PEM: {0}")]
    CaPem(String),
    #[error("it holds no CA certificate")]
    NoCa,
    #[error("its CA cannot be used: {0}")]
    Ca(String),
    #[error("its revocation list cannot be read: {0}")]
    Crl(String),
}

/// aws-lc, the one provider of cryptography.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

/// A chain, its own certificate first, and the key of that one; PKCS #8, PKCS #1 and SEC 1 are taken.
///
/// # Errors
/// When one of them is missing or malformed, or when they do not belong together.
pub(crate) fn key_pair(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, CredentialError> {
    let pair = unchecked_pair(certificate, key)?;
    // A key that cannot tell its public half is taken at its word, as rustls does.
    let Some(own) = pair.key.public_key() else { return Ok(pair) };
    // Not by rustls, which reads no certificate of version 1.
    let (_, parsed) = X509Certificate::from_der(&pair.cert[0])
        .map_err(|_| CredentialError::CertificatePem("it is malformed".to_owned()))?;
    if own.as_ref() == parsed.public_key().raw { Ok(pair) } else { Err(CredentialError::Mismatch) }
}

/// The same, whether the two belong together or not.
///
/// # Errors
/// When one of them is missing or malformed.
pub(crate) fn unchecked_pair(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, CredentialError> {
    let chain = certificates(certificate).map_err(|error| CredentialError::CertificatePem(described(&error)))?;
    if chain.is_empty() {
        return Err(CredentialError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CredentialError::KeyPem(described(&error)))?;
    let key = provider().key_provider.load_private_key(key).map_err(|error| CredentialError::Key(error.to_string()))?;
    Ok(CertifiedKey::new(chain, key))
}

/// Trust anchors: every certificate of the text.
///
/// # Errors
/// When there is none, or one of them is malformed.
pub(crate) fn roots(ca: &[u8]) -> Result<RootCertStore, CredentialError> {
    let mut roots = RootCertStore::empty();
    for certificate in listed(ca)? {
        roots.add(certificate).map_err(|error| CredentialError::Ca(error.to_string()))?;
    }
    if roots.is_empty() { Err(CredentialError::NoCa) } else { Ok(roots) }
}

/// Every certificate of the text.
///
/// # Errors
/// When one of them is malformed.
pub(crate) fn listed(ca: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    certificates(ca).map_err(|error| CredentialError::CaPem(described(&error)))
}

/// Revocation lists; none when the text is empty.
///
/// # Errors
/// When one of them is malformed.
pub(crate) fn revocation_lists(crl: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, CredentialError> {
    let lists = CertificateRevocationListDer::pem_slice_iter(crl).collect::<Result<Vec<_>, _>>();
    lists.map_err(|error| CredentialError::Crl(described(&error)))
}

/// When the first certificate of a PEM begins and ends, in seconds of Unix time; none when there is none.
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let first = CertificateDer::from_pem_slice(certificate).ok()?;
    let (_, parsed) = X509Certificate::from_der(&first).ok()?;
    Some((parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()))
}

/// When a certificate ends, in seconds of Unix time.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}

/// The reader's own words may quote what it read.
fn described(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "nothing of the kind is in it".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a section has no end".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly".to_owned(),
        pem::Error::Base64Decode(_) => "it is not base64".to_owned(),
        _ => "it is malformed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_taken_and_two_halves_of_different_pairs_are_not() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let made = key_pair(certificate.as_bytes(), key.as_bytes()).unwrap();
        assert!(not_after(&made.cert[0]).is_some_and(|end| end > 0));
        assert_eq!(key_pair(certificate.as_bytes(), other.as_bytes()).unwrap_err(), CredentialError::Mismatch);
    }

    #[test]
    fn what_is_missing_or_malformed_is_told_without_showing_it() {
        let (certificate, key) = pair();
        assert_eq!(key_pair(b"", key.as_bytes()).unwrap_err(), CredentialError::NoCertificate);
        let error = key_pair(certificate.as_bytes(), b"hunter2").unwrap_err();
        assert!(matches!(error, CredentialError::KeyPem(_)) && !error.to_string().contains("hunter2"), "{error}");
        let cut = key.replace("-----END", "hunter2-----");
        let error = key_pair(certificate.as_bytes(), cut.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(roots(b"").unwrap_err(), CredentialError::NoCa);
        assert_eq!(roots(certificate.as_bytes()).unwrap().len(), 1);
        assert!(revocation_lists(b"").unwrap().is_empty());
    }
}
