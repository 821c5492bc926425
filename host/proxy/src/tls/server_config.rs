//! [`ServerTls`]: what rustls serves a filter chain with.

use std::sync::Arc;

use portolan_model::{ClientCertificate, DownstreamTls, Secret, SecretId, TlsVersion};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificate::{self, CredentialError};
use super::offer;
use super::peer;
use super::resolver::{Certificates, KeyPair};
use super::staple::{Staple, StapleError};
use super::verifier::ClientVerifier;
use crate::properties::Certificate;
#[cfg(feature = "http3")]
use crate::properties::TlsInfo;

/// How TLS ends at a filter chain.
pub(crate) struct ServerTls {
    config: Arc<ServerConfig>,
    /// QUIC can have it: TLS 1.3, and no certificate of the client, which could not be asked for by the server name.
    pub(super) fits_quic: bool,
    /// For clients that offer protocols, and none of ours.
    without_alpn: Arc<ServerConfig>,
    /// What filters may know of our certificate, the first one.
    pub(super) local: Certificate,
    /// When the first of its certificates ends, in seconds of Unix time, with its Secret's name.
    pub(crate) expiries: Vec<(String, i64)>,
    /// Why an OCSP response is not stapled, by its Secret's name.
    pub(crate) staple_faults: Vec<(String, String)>,
    /// Who may come in: tickets count only among chains that agree on that.
    admission: Admission,
    tickets: Arc<dyn ProducesTickets>,
}

/// What a ticket stands for: a client that passed this.
#[derive(PartialEq)]
struct Admission {
    tls: (ClientCertificate, Vec<String>, Vec<String>, Vec<String>),
    ca: Option<Vec<(String, Vec<u8>)>>,
}

/// Why a chain cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    /// The files have said so already.
    #[error("a credential is missing")]
    Missing,
    /// What is there cannot be used.
    #[error("{1}")]
    Credential(SecretId, CredentialError),
    /// No version, or what else rustls does not take.
    #[error("{0}")]
    Settings(#[from] rustls::Error),
}

/// Makes a chain's TLS ready. `last` is what served it before, whose tickets stay good when the same clients may come in.
pub(crate) fn build(
    tls: &DownstreamTls,
    secrets: &[Secret],
    alpn: &[&str],
    last: Option<&ServerTls>,
) -> Result<Arc<ServerTls>, ChainError> {
    let secret = |id: SecretId| secrets.get(id as usize).filter(|secret| !secret.entries.is_empty());
    let mut pairs = Vec::new();
    let (mut expiries, mut staple_faults) = (Vec::new(), Vec::new());
    for id in &tls.certificates {
        let secret = secret(*id).ok_or(ChainError::Missing)?;
        let pair = pair(secret).map_err(|error| ChainError::Credential(*id, error))?;
        let end = pair.cert.iter().filter_map(certificate::not_after).min();
        expiries.extend(end.map(|end| (secret.name.clone(), end)));
        let (pair, fault) = stapled(pair, secret);
        staple_faults.extend(fault.map(|fault| (secret.name.clone(), fault.to_string())));
        pairs.push(pair);
    }
    let first = pairs.first().ok_or(ChainError::Missing)?;
    let local = first.bare.cert.first().map(|certificate| peer::described(certificate)).unwrap_or_default();
    let ca = match (tls.client_certificate, tls.ca) {
        (ClientCertificate::None, _) => None,
        (_, id) => {
            let id = id.ok_or(ChainError::Missing)?;
            Some((id, secret(id).ok_or(ChainError::Missing)?))
        }
    };
    let admission = Admission::new(tls, ca.map(|(_, secret)| secret));
    let verifier = match ca {
        None => WebPkiClientVerifier::no_client_auth(),
        Some((id, secret)) => {
            Arc::new(ClientVerifier::new(tls, secret).map_err(|error| ChainError::Credential(id, error))?)
        }
    };
    let kept = last.filter(|last| last.admission == admission).map(|last| last.tickets.clone());
    let tickets = kept.map_or_else(Ticketer::new, Ok)?;
    let builder = ServerConfig::builder_with_provider(offer::provider(&tls.cipher_suites, &tls.ecdh_curves))
        .with_protocol_versions(&versions(tls))?;
    let certificates = Arc::new(Certificates::new(pairs));
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.ticketer = tickets.clone();
    // Tickets are enough, and know no lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let mut without_alpn = config.clone();
    without_alpn.alpn_protocols.clear();
    let (config, without_alpn) = (Arc::new(config), Arc::new(without_alpn));
    let fits_quic = tls.client_certificate == ClientCertificate::None
        && (tls.min_version..=tls.max_version).contains(&TlsVersion::V1_3);
    Ok(Arc::new(ServerTls { fits_quic, config, without_alpn, local, expiries, staple_faults, admission, tickets }))
}

impl ServerTls {
    /// What a client is served with. One that offers protocols and none of ours is let in without an agreement on any, as
    /// Envoy does: rustls alone would refuse it.
    pub(super) fn config(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let ours = |name: &[u8]| self.config.alpn_protocols.iter().any(|known| known == name);
        let agrees = hello.alpn().is_none_or(|mut offered| offered.any(ours));
        if agrees { &self.config } else { &self.without_alpn }
    }

    /// The certificate for a client of HTTP/3.
    #[cfg(feature = "http3")]
    pub(crate) fn certificate(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.config.cert_resolver.resolve(hello)
    }

    /// What is known of a connection that QUIC has shaken hands for.
    #[cfg(feature = "http3")]
    pub(crate) fn quic_info(&self, server_name: Option<&str>) -> TlsInfo {
        TlsInfo {
            requested_server_name: server_name.unwrap_or_default().to_owned(),
            version: "TLSv1.3".to_owned(),
            local: self.local.clone(),
            ..TlsInfo::default()
        }
    }

    /// True when it asks of clients what these settings ask. Else it must not serve in their place: who is to be kept out by
    /// them would come in.
    pub(super) fn admits_as(&self, tls: &DownstreamTls) -> bool {
        self.admission.tls == Admission::new(tls, None).tls
    }
}

impl Admission {
    fn new(tls: &DownstreamTls, ca: Option<&Secret>) -> Self {
        let lists = (
            tls.client_certificate,
            tls.subject_alt_names.clone(),
            tls.verify_certificate_spki.clone(),
            tls.verify_certificate_hash.clone(),
        );
        Self { tls: lists, ca: ca.map(|secret| secret.entries.clone()) }
    }
}

fn pair(secret: &Secret) -> Result<CertifiedKey, CredentialError> {
    let certificate = secret.entry("tls.crt").ok_or(CredentialError::NoCertificate)?;
    let key = secret.entry("tls.key").unwrap_or_default();
    certificate::key_pair(certificate, key)
}

/// With its Secret's OCSP response, or why not.
fn stapled(pair: CertifiedKey, secret: &Secret) -> (KeyPair, Option<StapleError>) {
    let response = secret.entry("tls.ocsp-staple");
    let read = response.zip(pair.cert.first()).map(|(response, own)| Staple::read(response, own));
    let (staple, fault) = read.map_or((None, None), |read| (read.as_ref().ok().map(|s| s.until), read.err()));
    let with = |until| {
        let ocsp = response.map(<[u8]>::to_vec);
        (Arc::new(CertifiedKey { ocsp, ..pair.clone() }), until)
    };
    (KeyPair { stapled: staple.map(with), bare: Arc::new(pair) }, fault)
}

fn versions(tls: &DownstreamTls) -> Vec<&'static SupportedProtocolVersion> {
    let all = [(TlsVersion::V1_3, &rustls::version::TLS13), (TlsVersion::V1_2, &rustls::version::TLS12)];
    let wanted = all.into_iter().filter(|(version, _)| (tls.min_version..=tls.max_version).contains(version));
    wanted.map(|(_, version)| version).collect()
}
