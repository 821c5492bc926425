//! [`OddCertificate`]: certificates of peers that OpenSSL takes, and so Envoy, and webpki does not: those of X.509 version 1, which
//! `openssl x509 -req` makes before its version 3.2 (the steps of Istio's own tutorial do), those that say they are an authority's,
//! which `openssl req -x509` makes, and those that are trusted themselves.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime,
};
use rustls::{CertificateError, DigitallySignedStruct, Error, ProtocolVersion};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

/// Of a DER `SEQUENCE`.
const SEQUENCE: u8 = 0x30;
/// Of a DER `BIT STRING`.
const BIT_STRING: u8 = 0x03;

/// What a peer may use a certificate for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Client,
    Server,
}

/// One of these, taken apart.
pub(crate) struct OddCertificate<'a> {
    parsed: X509Certificate<'a>,
    /// What its issuer has signed, by what, and the signature.
    signed: (&'a [u8], &'a [u8], &'a [u8]),
}

impl<'a> OddCertificate<'a> {
    /// One of version 1; none for others.
    pub(crate) fn read(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let is_old = parsed.version() == X509Version::V1 && parsed.extensions().is_empty();
        is_old.then(|| Self::taken_apart(certificate, parsed)).flatten()
    }

    /// One that may be used so. What else it says webpki has to have understood.
    pub(crate) fn fit_for(certificate: &'a CertificateDer<'_>, purpose: Purpose) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let fits = parsed.extended_key_usage().ok()?.is_none_or(|usage| match purpose {
            _ if usage.value.any => true,
            Purpose::Client => usage.value.client_auth,
            Purpose::Server => usage.value.server_auth,
        });
        fits.then(|| Self::taken_apart(certificate, parsed)).flatten()
    }

    /// True when it says that it is an authority's.
    pub(crate) fn is_authority(&self) -> bool {
        self.parsed.basic_constraints().is_ok_and(|found| found.is_some_and(|found| found.value.ca))
    }

    fn taken_apart(certificate: &'a [u8], parsed: X509Certificate<'a>) -> Option<Self> {
        let (whole, _) = element(certificate, SEQUENCE)?;
        let (_, rest) = element(whole, SEQUENCE)?;
        let tbs = &whole[..whole.len() - rest.len()];
        let (algorithm, rest) = element(rest, SEQUENCE)?;
        let signature = bits(rest)?;
        Some(Self { parsed, signed: (tbs, algorithm, signature) })
    }

    /// Whether it is trusted itself, or an anchor has issued it: there is no authority between.
    pub(crate) fn verify(
        &self,
        is_trusted: bool,
        anchors: &[TrustAnchor<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), CertificateError> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = self.parsed.validity();
        if now < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet);
        }
        if now > validity.not_after.timestamp() {
            return Err(CertificateError::Expired);
        }
        if is_trusted {
            return Ok(());
        }
        let issuer = element(self.parsed.issuer().as_raw(), SEQUENCE).ok_or(CertificateError::BadEncoding)?.0;
        let mut error = CertificateError::UnknownIssuer;
        for anchor in anchors.iter().filter(|anchor| anchor.subject.as_ref() == issuer) {
            // What names it may have nobody can tell.
            if anchor.name_constraints.is_some() {
                error = CertificateError::NotValidForName;
            } else if self.is_signed_by(anchor, algorithms) {
                return Ok(());
            } else {
                error = CertificateError::BadSignature;
            }
        }
        Err(error)
    }

    fn is_signed_by(&self, anchor: &TrustAnchor<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let (signed, algorithm, signature) = self.signed;
        let Some((key_algorithm, key)) = public_key(&anchor.subject_public_key_info) else { return false };
        algorithms.all.iter().any(|verifier| {
            verifier.signature_alg_id().as_ref() == algorithm
                && verifier.public_key_alg_id().as_ref() == key_algorithm
                && verifier.verify_signature(key, signed, signature).is_ok()
        })
    }

    /// Whether its holder has signed a part of the handshake.
    pub(crate) fn verify_handshake(
        &self,
        version: ProtocolVersion,
        message: &[u8],
        signed: &DigitallySignedStruct,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let raw = self.parsed.public_key().raw;
        if version == ProtocolVersion::TLSv1_3 {
            let key = SubjectPublicKeyInfoDer::from(raw);
            return verify_tls13_signature_with_raw_key(message, &key, signed, algorithms);
        }
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        let key = element(raw, SEQUENCE).and_then(|(inner, _)| public_key(inner));
        let known = algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let (Some((algorithm, key)), Some((_, verifiers))) = (key, known) else { return Err(bad) };
        let is_good = |verifier: &&dyn SignatureVerificationAlgorithm| {
            verifier.public_key_alg_id().as_ref() == algorithm
                && verifier.verify_signature(key, message, signed.signature()).is_ok()
        };
        if verifiers.iter().any(is_good) { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad) }
    }
}

/// The algorithm and the bits of a `SubjectPublicKeyInfo`'s value.
fn public_key(info: &[u8]) -> Option<(&[u8], &[u8])> {
    let (algorithm, rest) = element(info, SEQUENCE)?;
    Some((algorithm, bits(rest)?))
}

/// The bytes of a bit string that has whole ones.
fn bits(der: &[u8]) -> Option<&[u8]> {
    element(der, BIT_STRING)?.0.strip_prefix(&[0])
}

/// The value of the element that these bytes begin with, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
        // Nothing that is longer than 64 KiB is a certificate of this kind.
        _ => return None,
    };
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;
    use crate::tls::certificate::provider;

    type Issuer = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Issuer {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// An authority's, with this use.
    fn issued(issuer: &Issuer, usage: Option<ExtendedKeyUsagePurpose>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.extend(usage);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    fn verify(certificate: &CertificateDer<'_>, by: &Issuer, seconds: u64) -> Result<(), CertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add(by.der().clone()).unwrap();
        let odd = OddCertificate::fit_for(certificate, Purpose::Client).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        odd.verify(false, &roots.roots, now, &provider().signature_verification_algorithms)
    }

    #[test]
    fn an_anchor_must_have_signed_it_and_its_time_must_not_be_over() {
        // One of the same name.
        let (signer, other) = (authority(), authority());
        let certificate = issued(&signer, None);
        assert_eq!(verify(&certificate, &signer, 1_800_000_000), Ok(()));
        assert_eq!(verify(&certificate, &other, 1_800_000_000), Err(CertificateError::BadSignature));
        assert_eq!(verify(&certificate, &signer, 1), Err(CertificateError::NotValidYet));
        assert_eq!(verify(&certificate, &signer, 100_000_000_000), Err(CertificateError::Expired));
    }

    #[test]
    fn it_must_be_for_the_use_if_it_says_for_which() {
        use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
        let signer = authority();
        for (usage, client, server) in [
            (None, true, true),
            (Some(Any), true, true),
            (Some(ClientAuth), true, false),
            (Some(ServerAuth), false, true),
        ] {
            let certificate = issued(&signer, usage);
            let fits = |purpose| OddCertificate::fit_for(&certificate, purpose).is_some();
            assert_eq!((fits(Purpose::Client), fits(Purpose::Server)), (client, server));
        }
        assert!(OddCertificate::read(&issued(&signer, None)).is_none(), "not of version 1");
    }
}
