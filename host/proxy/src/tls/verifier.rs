//! [`ClientVerifier`]: clients' certificates against the CA, and what else a server wants of them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ProtocolVersion, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::certificate::{self, CredentialError};
use super::odd_certificate::{OddCertificate, Purpose};
use portolan_model::{ClientCertificate, DownstreamTls, Secret};

/// The CA's word, and then the lists of the server.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    ca: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
    /// The same as they are.
    trusted: Vec<CertificateDer<'static>>,
    has_crls: bool,
    subject_alt_names: Vec<String>,
    /// SHA-256 of public keys.
    spki: Vec<Vec<u8>>,
    /// SHA-256 of certificates.
    hashes: Vec<Vec<u8>>,
}

impl ClientVerifier {
    pub(super) fn new(tls: &DownstreamTls, ca: &Secret) -> Result<Self, CredentialError> {
        let ca_text = ca.entry("ca.crt").ok_or(CredentialError::NoCa)?;
        let roots = Arc::new(certificate::roots(ca_text)?);
        let crls = certificate::revocation_lists(ca.entry("ca.crl").unwrap_or_default())?;
        let has_crls = !crls.is_empty();
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), certificate::provider().clone());
        if has_crls {
            // As in Envoy: the whole chain is checked, and a list that has run out says nothing any more.
            builder = builder.with_crls(crls).enforce_revocation_expiration();
        }
        if tls.client_certificate != ClientCertificate::Required {
            builder = builder.allow_unauthenticated();
        }
        let malformed = |what: &str| CredentialError::Ca(format!("`{what}` is no SHA-256 digest"));
        let spki = tls
            .verify_certificate_spki
            .iter()
            .map(|text| STANDARD.decode(text).ok().filter(|digest| digest.len() == 32).ok_or_else(|| malformed(text)));
        let hashes = tls.verify_certificate_hash.iter().map(|text| hexadecimal(text).ok_or_else(|| malformed(text)));
        Ok(Self {
            ca: builder.build().map_err(|error| CredentialError::Ca(error.to_string()))?,
            roots,
            trusted: certificate::listed(ca_text)?,
            has_crls,
            subject_alt_names: tls.subject_alt_names.clone(),
            spki: spki.collect::<Result<_, _>>()?,
            hashes: hashes.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a certificate that webpki does not take is good. Not asked where there are revocation lists: whether it was
    /// revoked only webpki can tell.
    fn verify_odd(&self, odd: &OddCertificate<'_>, is_trusted: bool, now: UnixTime) -> Result<(), CertificateError> {
        if self.has_crls {
            return Err(CertificateError::UnknownRevocationStatus);
        }
        let algorithms = &certificate::provider().signature_verification_algorithms;
        odd.verify(is_trusted, &self.roots.roots, now, algorithms)
    }

    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let is_trusted = self.trusted.iter().any(|trusted| trusted.as_ref() == end_entity.as_ref());
        if let Some(old) = OddCertificate::read(end_entity) {
            self.verify_odd(&old, is_trusted, now)?;
            return Ok(ClientCertVerified::assertion());
        }
        let error = match self.ca.verify_client_cert(end_entity, intermediates, now) {
            Err(error) => error,
            good => return good,
        };
        // webpki has read it, and has nothing against it but who it is of.
        let Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)) = error else {
            return Err(error);
        };
        match OddCertificate::fit_for(end_entity, Purpose::Client) {
            Some(odd) if is_trusted || odd.is_authority() => self.verify_odd(&odd, is_trusted, now)?,
            _ => return Err(error),
        }
        Ok(ClientCertVerified::assertion())
    }

    fn check(&self, end_entity: &CertificateDer<'_>) -> Result<(), CertificateError> {
        if self.subject_alt_names.is_empty() && self.spki.is_empty() && self.hashes.is_empty() {
            return Ok(());
        }
        let (_, parsed) = X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let pinned = self.spki.is_empty() && self.hashes.is_empty()
            || self.hashes.iter().any(|hash| **hash == *Sha256::digest(end_entity))
            || self.spki.iter().any(|hash| **hash == *Sha256::digest(parsed.public_key().raw));
        let named = self.subject_alt_names.is_empty() || has_name(&parsed, &self.subject_alt_names);
        if pinned && named { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure) }
    }
}

/// SHA-256 as openssl prints it, with or without colons.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = (digits.len() == 64).then(|| digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>());
    bytes.flatten()
}

fn has_name(certificate: &X509Certificate<'_>, wanted: &[String]) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => wanted.iter().any(|wanted| is_dns_name(name, wanted)),
        GeneralName::URI(name) | GeneralName::RFC822Name(name) => wanted.iter().any(|wanted| wanted == name),
        GeneralName::IPAddress(bytes) => address(bytes).is_some_and(|name| wanted.contains(&name)),
        _ => false,
    })
}

/// A certificate's `*.suffix` stands for one label.
fn is_dns_name(name: &str, wanted: &str) -> bool {
    let covered = || Some((name.strip_prefix("*.")?, wanted.split_once('.')?.1));
    name.eq_ignore_ascii_case(wanted) || covered().is_some_and(|(suffix, rest)| suffix.eq_ignore_ascii_case(rest))
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string())).ok()
}

fn old_signature(
    old: &OddCertificate<'_>,
    version: ProtocolVersion,
    message: &[u8],
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let algorithms = &certificate::provider().signature_verification_algorithms;
    old.verify_handshake(version, message, signed, algorithms)
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.ca.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.ca.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify_chain(end_entity, intermediates, now)?;
        self.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OddCertificate::read(cert) {
            Some(old) => old_signature(&old, ProtocolVersion::TLSv1_2, message, dss),
            None => self.ca.verify_tls12_signature(message, cert, dss),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OddCertificate::read(cert) {
            Some(old) => old_signature(&old, ProtocolVersion::TLSv1_3, message, dss),
            None => self.ca.verify_tls13_signature(message, cert, dss),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ca.supported_verify_schemes()
    }
}
