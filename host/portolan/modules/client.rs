//! [`Client`]: HTTP for fetching modules, with everything bounded and link-local targets refused.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, Response, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::error::FetchError;

/// So large may a module be, and so large an image's layer; more is refused.
pub(super) const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// From the first byte sent to the head of the answer, and between two parts of a body.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// The same where the largest module is sent before the answer comes: 7 Mbit/s.
const UPLOAD_TIME: Duration = Duration::from_secs(300);

/// For name, connection and TLS.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// More are taken for a circle.
const MAX_REDIRECTS: usize = 5;

/// How modules are fetched, from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientOptions {
    /// PEM files of certificate authorities to trust besides the system's (`--module-ca`).
    pub(crate) ca: Vec<PathBuf>,
    /// Registries that are asked over plain HTTP, as `HOST` or `HOST:PORT` (`--insecure-registry`).
    pub(crate) insecure: Vec<String>,
}

/// Asks web servers and registries.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    insecure: Vec<String>,
    /// From the first byte sent to the head of the answer, and between two parts of a body.
    patience: Duration,
}

impl Client {
    pub(super) fn new(options: &ClientOptions) -> Result<Self, FetchError> {
        Self::with_patience(options, ANSWER_TIME)
    }

    /// One that sends as much as it fetches: the head of an answer comes after the whole module was sent.
    pub(super) fn for_uploads(options: &ClientOptions) -> Result<Self, FetchError> {
        Self::with_patience(options, UPLOAD_TIME)
    }

    fn with_patience(options: &ClientOptions, patience: Duration) -> Result<Self, FetchError> {
        Ok(Self { http: web_client(&options.ca, patience)?, insecure: options.insecure.clone(), patience })
    }

    /// Whether a registry is asked over plain HTTP.
    pub(super) fn is_insecure(&self, registry: &str) -> bool {
        let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
        self.insecure.iter().any(|known| known == registry || known == host)
    }

    /// The answer to a GET, whatever its status.
    pub(super) async fn get(&self, url: Url, headers: HeaderMap) -> Result<Response, FetchError> {
        self.send(Method::GET, url, headers, Bytes::new()).await
    }

    /// The answer, whatever its status.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, FetchError> {
        refuse_link_local(&url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let request = self.http.request(method, url).headers(headers).body(body);
        let asked = tokio::time::timeout(self.patience, request.send()).await;
        let answer = asked.map_err(|_| FetchError::Timeout(self.patience))?;
        answer.map_err(|error| match error.is_timeout() {
            true => FetchError::Timeout(self.patience),
            false => FetchError::of_exchange(&host, error),
        })
    }
}

/// HTTP with the system's certificate authorities and these, never to link-local addresses. `patience` is between two parts
/// of an answer.
///
/// # Errors
/// When a file cannot be read, or holds no certificate.
pub(crate) fn web_client(ca: &[PathBuf], patience: Duration) -> Result<reqwest::Client, FetchError> {
    let setup = |error: &dyn std::fmt::Display| FetchError::Setup(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.map_err(|error| setup(&error))?.with_root_certificates(roots(ca)?).with_no_client_auth();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(Guarded))
        .redirect(Policy::custom(follow))
        .no_proxy()
        .connect_timeout(CONNECT_TIME)
        .read_timeout(patience)
        .user_agent(concat!("portolan/", env!("CARGO_PKG_VERSION")))
        .build();
    http.map_err(|error| setup(&error))
}

/// The body of an answer of status 200, at most `limit` bytes long.
pub(super) async fn body(response: Response, what: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
    let host = response.url().host_str().unwrap_or_default().to_owned();
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchError::Status { host, status, what: what.to_owned() });
    }
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(FetchError::TooLarge(limit));
    }
    let mut response = response;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::of_exchange(&host, error))? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(FetchError::TooLarge(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The system's certificate authorities, and those of `--module-ca`.
fn roots(files: &[PathBuf]) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    // What the system's bundle holds that cannot be used is the system's business.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for file in files {
        for certificate in read_ca(file)? {
            roots.add(certificate).map_err(|error| FetchError::Setup(format!("{}: {error}", file.display())))?;
        }
    }
    Ok(roots)
}

fn read_ca(file: &Path) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| FetchError::Setup(format!("{}: {error}", file.display())))?;
    if certificates.is_empty() {
        return Err(FetchError::Setup(format!("{}: no certificate in it", file.display())));
    }
    Ok(certificates)
}

/// Redirects are followed a few times, and never from TLS to plain text.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let from_tls = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("too many redirects");
    }
    if from_tls && attempt.url().scheme() != "https" {
        return attempt.error("a redirect from https to plain http");
    }
    match refuse_link_local(attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(error) => attempt.error(error),
    }
}

fn refuse_link_local(url: &Url) -> Result<(), FetchError> {
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    match address {
        Some(address) if is_link_local(address) => Err(FetchError::LinkLocal(host.to_owned())),
        _ => Ok(()),
    }
}

/// `169.254.0.0/16` and `fe80::/10`, as Istio's agent refuses them, and the one metadata address that is neither.
fn is_link_local(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

/// The system's resolver, without link-local answers.
struct Guarded;

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found.iter().copied().filter(|address| !is_link_local(address.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(FetchError::LinkLocal(name).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn metadata_services_are_out_of_reach_in_every_spelling() {
        for url in [
            "http://169.254.169.254/latest",
            "http://[::ffff:169.254.169.254]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://0xA9FEA9FE/",
            "http://2852039166/",
        ] {
            assert!(refuse_link_local(&url.parse().unwrap()).is_err(), "{url}");
        }
        for url in ["http://127.0.0.1/", "http://10.0.0.1/", "https://modules.test/a", "http://[fd00::1]/"] {
            assert!(refuse_link_local(&url.parse().unwrap()).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_registry_is_insecure_by_host_or_by_host_and_port() {
        let options = ClientOptions { insecure: vec!["a.test".into(), "b.test:5000".into()], ..Default::default() };
        let client = Client::new(&options).unwrap();
        let is = |registry| client.is_insecure(registry);
        assert!(is("a.test") && is("a.test:5000") && is("b.test:5000"));
        assert!(!is("b.test") && !is("b.test:5001") && !is("c.test"));
    }

    #[test]
    fn a_file_without_certificates_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let error = Client::new(&ClientOptions { ca: vec![file], ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
