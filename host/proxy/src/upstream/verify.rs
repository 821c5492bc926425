//! [`BackendVerifier`]: whether an endpoint's certificate is good: its chain, then its names, as Envoy checks them.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, ProtocolVersion, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::{OddCertificate, Purpose};

/// Checks certificates of one cluster's endpoints.
#[derive(Debug)]
pub(super) struct BackendVerifier {
    /// None takes any certificate.
    pub(super) chain: Option<Chain>,
    /// One of these must be in it; empty asks for none.
    pub(super) subject_alt_names: Vec<String>,
    /// It must be for the server's name.
    pub(super) verify_host: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

/// Who must have signed.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) webpki: Arc<WebPkiServerVerifier>,
    pub(super) roots: Arc<RootCertStore>,
    /// Revocation lists are asked, which are for certificates of version 3.
    pub(super) has_crls: bool,
    /// Certificates that are trusted themselves, whatever they say they may be used for.
    pub(super) trusted: Vec<CertificateDer<'static>>,
}

/// Why a certificate is refused, in Envoy's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// None of `subjectAltNames` is in it.
    #[error("verify cert failed: SAN matcher, certificate SANs are [{0}]")]
    Names(String),
    /// It is not for this host.
    #[error("verify cert failed: verify SAN list, expected SANs: [{0}], certificate SANs: [{1}]")]
    Host(String, String),
    /// Signed by itself, and not trusted.
    #[error("verify cert failed: X509_verify_cert: certificate verification error at depth 0: self signed certificate")]
    SelfSigned,
}

fn refused(why: Refused) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

impl Chain {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let is_trusted = || self.trusted.iter().any(|trusted| trusted.as_ref() == end_entity.as_ref());
        if let Some(old) = OddCertificate::read(end_entity) {
            return match () {
                () if self.has_crls => Err(CertificateError::UnknownRevocationStatus.into()),
                () => Ok(old.verify(is_trusted(), &self.roots.roots, now, algorithms)?),
            };
        }
        // Names come last there: a wrong one means that all else is good.
        let error = match self.webpki.verify_server_cert(end_entity, intermediates, server_name, &[], now) {
            Ok(_) => return Ok(()),
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => return Ok(()),
            Err(error) => error,
        };
        let authority = || {
            let odd = OddCertificate::fit_for(end_entity, Purpose::Server)?;
            (odd.is_authority() && !self.has_crls).then_some(odd)
        };
        match &error {
            // OpenSSL takes a certificate that is trusted itself, though it be that of an authority.
            Error::InvalidCertificate(CertificateError::Other(_) | CertificateError::UnknownIssuer)
                if is_trusted() && !self.has_crls =>
            {
                is_in_time(end_entity, now)
            }
            Error::InvalidCertificate(CertificateError::Other(_)) if let Some(authority) = authority() => {
                Ok(authority.verify(false, &self.roots.roots, now, algorithms)?)
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) if is_self_signed(end_entity) => {
                Err(refused(Refused::SelfSigned))
            }
            _ => Err(error),
        }
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    X509Certificate::from_der(certificate.as_ref()).map(|(_, parsed)| parsed).map_err(bad)
}

fn is_in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let parsed = parsed(certificate)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    match () {
        () if now < validity.not_before.timestamp() => Err(Error::InvalidCertificate(CertificateError::NotValidYet)),
        () if now > validity.not_after.timestamp() => Err(Error::InvalidCertificate(CertificateError::Expired)),
        () => Ok(()),
    }
}

fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    parsed(certificate).is_ok_and(|parsed| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

impl BackendVerifier {
    fn verify_names(&self, end_entity: &CertificateDer<'_>, server_name: &ServerName<'_>) -> Result<(), Error> {
        if self.subject_alt_names.is_empty() && !self.verify_host {
            return Ok(());
        }
        let parsed = parsed(end_entity)?;
        let extension = parsed.subject_alternative_name().ok().flatten();
        let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let has = |wanted: &str| names.iter().any(|name| fits(name, wanted));
        if !self.subject_alt_names.is_empty() && !self.subject_alt_names.iter().any(|wanted| has(wanted)) {
            return Err(refused(Refused::Names(listed(names))));
        }
        let host = server_name.to_str();
        if self.verify_host && !has(&host) {
            return Err(refused(Refused::Host(host.into_owned(), listed(names))));
        }
        Ok(())
    }
}

/// Whole names, but for a wildcard of the certificate, which stands for one label.
fn fits(name: &GeneralName<'_>, wanted: &str) -> bool {
    match name {
        GeneralName::DNSName(name) => match name.strip_prefix("*.") {
            Some(suffix) => wanted
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(suffix)),
            None => name.eq_ignore_ascii_case(wanted),
        },
        GeneralName::URI(uri) => *uri == wanted,
        GeneralName::RFC822Name(address) => *address == wanted,
        GeneralName::IPAddress(_) => ip(name).is_some_and(|ip| wanted.parse() == Ok(ip)),
        _ => false,
    }
}

fn ip(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(bytes) = name else { return None };
    <[u8; 4]>::try_from(*bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok()
}

fn listed(names: &[GeneralName<'_>]) -> String {
    let shown = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(_) => ip(name).map(|ip| ip.to_string()),
        _ => None,
    });
    shown.collect::<Vec<_>>().join(", ")
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify(end_entity, intermediates, server_name, now, &self.algorithms)?;
            self.verify_names(end_entity, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OddCertificate::read(certificate) {
            Some(old) => old.verify_handshake(ProtocolVersion::TLSv1_2, message, signed, &self.algorithms),
            None => verify_tls12_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match OddCertificate::read(certificate) {
            Some(old) => old.verify_handshake(ProtocolVersion::TLSv1_3, message, signed, &self.algorithms),
            None => verify_tls13_signature(message, certificate, signed, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_of_the_certificate_stands_for_one_label_and_other_names_are_whole() {
        assert!(fits(&GeneralName::DNSName("*.a.test"), "x.A.test"));
        assert!(!fits(&GeneralName::DNSName("*.a.test"), "x.y.a.test"));
        assert!(!fits(&GeneralName::DNSName("*.a.test"), "a.test"));
        assert!(!fits(&GeneralName::DNSName("*.a.test"), ".a.test"));
        assert!(fits(&GeneralName::DNSName("a.test"), "A.test"));
        assert!(fits(&GeneralName::URI("spiffe://a/b"), "spiffe://a/b"));
        assert!(!fits(&GeneralName::URI("spiffe://a/b"), "spiffe://a/b/c"));
        assert!(fits(&GeneralName::IPAddress(&[127, 0, 0, 1]), "127.0.0.1"));
        assert!(!fits(&GeneralName::DNSName("127.0.0.2"), "127.0.0.1"));
    }
}
