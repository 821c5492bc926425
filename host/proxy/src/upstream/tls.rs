//! [`ClientTls`]: TLS towards one cluster, made ready from its settings and certificates. Sessions are kept for all
//! workers, so that further connections to the same name are cheap.

use std::sync::Arc;

use portolan_model::{Trust, UpstreamTls};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::certificates::{CertificateError, Certificates};
use super::connect::Application;
use super::verify::{BackendVerifier, Chain};
use crate::tls::{first_uri, offer};

/// TLS towards one cluster.
pub(crate) struct ClientTls {
    http1: TlsConnector,
    http2: TlsConnector,
    tcp: TlsConnector,
    /// None where the request's Host gives it.
    pub(super) sni: Option<ServerName<'static>>,
    /// The first URI of our own certificate; empty without.
    pub(super) principal: String,
}

impl ClientTls {
    /// Reads all that the settings name.
    pub(super) fn new(settings: &UpstreamTls, certificates: &mut Certificates) -> Result<Self, CertificateError> {
        let provider = offer::provider(&settings.cipher_suites, &settings.ecdh_curves);
        let chain = chain(settings, certificates, &provider)?;
        let verifier = |verify_host| BackendVerifier {
            chain: chain.clone(),
            subject_alt_names: settings.subject_alt_names.clone(),
            verify_host,
            algorithms: provider.signature_verification_algorithms,
        };
        // A connection of TCP has no Host to compare with.
        let (http, tcp) = (verifier(settings.verify_host), verifier(false));
        let mut http1 = config(settings, certificates, &provider, http)?;
        let tcp = config(settings, certificates, &provider, tcp)?;
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let sni = settings.sni.as_ref().map(|sni| {
            let wrong = |_| CertificateError::Unusable(format!("`{sni}` is no server name"));
            ServerName::try_from(sni.clone()).map_err(wrong)
        });
        let own = settings.identity.as_ref().map(|(chain, _)| certificates.chain(chain)).transpose()?;
        let own = own.iter().flatten().next().and_then(|certificate| first_uri(certificate));
        let connector = |config| TlsConnector::from(Arc::new(config));
        let (http1, http2, tcp) = (connector(http1), connector(http2), connector(tcp));
        Ok(Self { http1, http2, tcp, sni: sni.transpose()?, principal: own.unwrap_or_default() })
    }

    pub(super) fn connector(&self, application: Application) -> &TlsConnector {
        match application {
            Application::Http1 => &self.http1,
            Application::Http2 => &self.http2,
            Application::Tcp => &self.tcp,
        }
    }
}

fn chain(
    settings: &UpstreamTls,
    certificates: &mut Certificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Chain>, CertificateError> {
    let (roots, trusted) = match &settings.trust {
        Trust::Anybody => return Ok(None),
        Trust::System => (certificates.system(), Vec::new()),
        Trust::Authorities(pem) => {
            let trusted = certificates.chain(pem)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(trusted.iter().cloned());
            (Arc::new(roots), trusted)
        }
    };
    if roots.is_empty() {
        return Err(CertificateError::Unusable("the system trusts no authority: set `caCertificates`".to_owned()));
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone());
    if let Some(crl) = &settings.crl {
        builder = builder.with_crls(certificates.revocations(crl)?);
    }
    let webpki = builder.build().map_err(|error| CertificateError::Unusable(error.to_string()))?;
    Ok(Some(Chain { webpki, roots, has_crls: settings.crl.is_some(), trusted }))
}

fn config(
    settings: &UpstreamTls,
    certificates: &mut Certificates,
    provider: &Arc<CryptoProvider>,
    verifier: BackendVerifier,
) -> Result<ClientConfig, CertificateError> {
    let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    match &settings.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            builder.with_client_auth_cert(certificates.chain(chain)?, certificates.key(key)?).map_err(unusable)
        }
    }
}
