//! [`Secure`]: a listener of HTTPS on a port of its own whose certificate changes, and who asks there.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use reqwest::tls::TlsInfo;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::sleep;

use super::changes::HOST;
use super::streams::Tally;
use super::target::Hurry;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(2);
/// For one answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// An authority, what it has signed, and clients that trust it.
pub(super) struct Secure {
    authority: CertifiedIssuer<'static, KeyPair>,
    address: SocketAddr,
    /// Keeps its connection.
    client: reqwest::Client,
}

impl Secure {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let address = free_address()?;
        let client = client(authority.der(), address)?;
        Ok(Self { authority, address, client })
    }

    /// The Gateway, without its Secret.
    pub(super) fn gateway(&self) -> String {
        super::changes::gateway(
            "tls",
            self.address,
            "name: https, protocol: HTTPS",
            ", tls: {mode: SIMPLE, credentialName: portolan-verify-reload}",
        )
    }

    /// A new certificate: its bytes, and the Secret that holds it.
    pub(super) fn issue(&self) -> anyhow::Result<(Vec<u8>, String)> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &self.authority)?;
        let mut text =
            "apiVersion: v1\nkind: Secret\nmetadata: {name: portolan-verify-reload, namespace: istio-system}\n\
                        stringData:\n"
                .to_owned();
        for (entry, value) in [("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())] {
            text.push_str(&format!("  {entry}: |\n"));
            value.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        Ok((certificate.der().to_vec(), text))
    }

    /// True when a client that comes now is shown this certificate.
    pub(super) async fn shows(&self, certificate: &[u8]) -> anyhow::Result<bool> {
        let fresh = client(self.authority.der(), self.address)?;
        let Ok(answer) = fresh.get(self.url()).send().await else { return Ok(false) };
        let shown = answer.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate);
        Ok(shown == Some(certificate))
    }

    /// Requests, one after the other on a connection that is kept, until there is hurry. Nothing is routed there: 404.
    pub(super) async fn keep_asking(&self, hurry: &Hurry, note: impl Fn(&dyn Fn(&mut Tally))) {
        while !hurry.get() {
            let asked = async { self.client.get(self.url()).send().await?.bytes().await };
            match asked.await {
                Ok(_) => note(&|tally| tally.answered += 1),
                Err(error) => note(&|tally| tally.lose(told(&error))),
            }
            sleep(PAUSE).await;
        }
    }

    fn url(&self) -> String {
        format!("https://{HOST}:{}/", self.address.port())
    }
}

/// With its causes: the first one says nothing but that it failed.
fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// A port of this machine that nobody listens on.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?)
}

fn client(authority: &CertificateDer<'static>, address: SocketAddr) -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).tls_info(true).no_proxy();
    Ok(client.resolve(HOST, address).timeout(ANSWER_TIME).build()?)
}
