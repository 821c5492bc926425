//! [`Challenges`]: what an authority wants to see of a host before it signs for it, by ACME (RFC 8555): a text under a
//! well-known path, or a certificate for a protocol that is made for it (RFC 8737).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use http::StatusCode;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage};

use crate::local_reply::Reply;
use crate::tls::certificate::{self, CredentialError};

/// Where the answer to HTTP-01 is asked for; a token follows.
const PATH: &str = "/.well-known/acme-challenge/";
/// What a client of TLS-ALPN-01 offers, and nothing else.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// Challenges that are to be answered now, shared by all workers. It is empty nearly always, and asked by paths and
/// protocols that are hardly ever used otherwise, so that its lock costs no other request.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By token.
    texts: RwLock<HashMap<String, Bytes>>,
    /// By server name.
    certificates: RwLock<HashMap<String, Arc<ServerConfig>>>,
}

/// Why a challenge cannot be answered.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer the challenge for `{name}`: {reason}")]
pub struct ChallengeError {
    name: String,
    reason: String,
}

impl Challenges {
    /// Answers HTTP-01 until [`Self::withdraw`].
    pub fn answer_with_text(&self, token: &str, text: &str) {
        let mut texts = self.texts.write().unwrap_or_else(PoisonError::into_inner);
        texts.insert(token.to_owned(), Bytes::copy_from_slice(text.as_bytes()));
    }

    /// Answers TLS-ALPN-01 until [`Self::withdraw`].
    ///
    /// # Errors
    /// When the certificate or its key is malformed.
    pub fn answer_with_certificate(&self, name: &str, certificate: &str, key: &str) -> Result<(), ChallengeError> {
        let refused = |reason: String| ChallengeError { name: name.to_owned(), reason };
        let config = config(certificate.as_bytes(), key.as_bytes()).map_err(|error| refused(error.to_string()))?;
        let mut certificates = self.certificates.write().unwrap_or_else(PoisonError::into_inner);
        certificates.insert(name.to_ascii_lowercase(), Arc::new(config));
        Ok(())
    }

    /// Forgets what was answered for a token and a name.
    pub fn withdraw(&self, token: &str, name: &str) {
        self.texts.write().unwrap_or_else(PoisonError::into_inner).remove(token);
        self.certificates.write().unwrap_or_else(PoisonError::into_inner).remove(&name.to_ascii_lowercase());
    }

    /// The answer to a request for a token that is known; whoever else serves the path is asked for the others.
    pub(crate) fn reply(&self, path: &str) -> Option<Box<Reply>> {
        let token = path.strip_prefix(PATH)?;
        let text = self.texts.read().unwrap_or_else(PoisonError::into_inner).get(token)?.clone();
        Some(Box::new(Reply::direct(StatusCode::OK, text, None)))
    }

    /// What a client that asks for a certificate by ACME is served with.
    pub(crate) fn config(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut offered = hello.alpn()?;
        if offered.next() != Some(PROTOCOL) || offered.next().is_some() {
            return None;
        }
        let name = hello.server_name()?.to_ascii_lowercase();
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }
}

fn config(certificate: &[u8], key: &[u8]) -> Result<ServerConfig, CredentialError> {
    // Whoever reads such a certificate knows its extension or refuses it: it is not checked against its key.
    let pair = certificate::unchecked_pair(certificate, key)?;
    let builder =
        ServerConfig::builder_with_provider(certificate::provider().clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| CredentialError::Key(error.to_string()))?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
