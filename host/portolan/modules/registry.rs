//! [`Registry`]: one image's side of an OCI registry: manifests, blobs, and the tokens they are asked for with.

use std::sync::Mutex;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};
use serde::Deserialize;

use super::cache::hex_digest;
use super::client::{Client, body};
use super::credentials::Credentials;
use super::error::FetchError;
use super::image::{ACCEPTED, Descriptor};
use super::reference::Reference;

/// OCI's own limit of a manifest.
const MAX_MANIFEST: u64 = 4 * 1024 * 1024;

/// A token is small.
const MAX_TOKEN: u64 = 1024 * 1024;

/// Asks for the parts of one image.
pub(super) struct Registry<'a> {
    client: &'a Client,
    reference: &'a Reference,
    credentials: Option<Credentials>,
    /// Value of `Authorization`, once the registry has said what it wants.
    authorization: Mutex<Option<HeaderValue>>,
}

impl<'a> Registry<'a> {
    pub(super) fn new(client: &'a Client, reference: &'a Reference, credentials: Option<Credentials>) -> Self {
        Self { client, reference, credentials, authorization: Mutex::default() }
    }

    /// A manifest by tag or digest, with its digest in hex.
    pub(super) async fn manifest(&self, version: &str) -> Result<(Vec<u8>, String), FetchError> {
        let response = self.get(&format!("manifests/{version}"), ACCEPTED).await?;
        let bytes = body(response, &format!("image {}:{version}", self.reference.repository), MAX_MANIFEST).await?;
        let found = hex_digest(&bytes);
        match version.strip_prefix("sha256:") {
            Some(wanted) if wanted != found => {
                Err(FetchError::Digest { what: "manifest", found, wanted: wanted.to_owned() })
            }
            _ => Ok((bytes, found)),
        }
    }

    /// What refers to an image, where the registry can tell.
    pub(super) async fn referrers(&self, digest: &str) -> Result<Vec<u8>, FetchError> {
        let response = self.get(&format!("referrers/sha256:{digest}"), ACCEPTED).await?;
        body(response, "the referrers of the image", MAX_MANIFEST).await
    }

    /// A blob, checked against its digest.
    pub(super) async fn blob(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, FetchError> {
        if blob.size > limit {
            return Err(FetchError::TooLarge(limit));
        }
        let response = self.get(&format!("blobs/{}", blob.digest), "*/*").await?;
        let bytes = body(response, "a layer of the image", limit).await?;
        let found = format!("sha256:{}", hex_digest(&bytes));
        if found != blob.digest {
            return Err(FetchError::Digest { what: "layer", found, wanted: blob.digest.clone() });
        }
        Ok(bytes)
    }

    async fn get(&self, path: &str, accept: &'static str) -> Result<Response, FetchError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        self.exchange(Method::GET, self.url(path)?, headers, Vec::new()).await
    }

    /// The address of a part of the image.
    pub(super) fn url(&self, path: &str) -> Result<Url, FetchError> {
        let host = self.reference.host();
        let scheme = if self.client.is_insecure(&self.reference.registry) { "http" } else { "https" };
        let text = format!("{scheme}://{host}/v2/{}/{path}", self.reference.repository);
        Url::parse(&text).map_err(|_| FetchError::Address(text))
    }

    /// One question, asked again with credentials when the registry wants some. Nobody else gets them.
    pub(super) async fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response, FetchError> {
        let body = Bytes::from(body);
        let is_own = self.url("")?.origin() == url.origin();
        let ask = || {
            let mut headers = headers.clone();
            let known = self.authorization.lock().ok().and_then(|known| known.clone());
            headers.extend(known.filter(|_| is_own).map(|known| (AUTHORIZATION, known)));
            self.client.send(method.clone(), url.clone(), headers, body.clone())
        };
        let response = ask().await?;
        if response.status() != 401 || !is_own {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(authorization) = self.authorize(challenge.unwrap_or_default()).await? else { return Ok(response) };
        self.remember(authorization);
        ask().await
    }

    fn remember(&self, authorization: String) {
        let value = HeaderValue::from_str(&authorization).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        if let Ok(mut known) = self.authorization.lock() {
            *known = value;
        }
    }

    /// What to send, by the registry's challenge; none when nothing would help.
    async fn authorize(&self, challenge: &str) -> Result<Option<String>, FetchError> {
        let basic = self.credentials.as_ref().map(Credentials::basic);
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(None);
        }
        let Some(realm) = parameter(parameters, "realm") else { return Ok(None) };
        let mut url = Url::parse(&realm).map_err(|_| FetchError::Address(realm))?;
        if url.scheme() != "https" && !self.client.is_insecure(&self.reference.registry) {
            return Err(FetchError::Malformed("the registry asks for credentials over plain http".to_owned()));
        }
        let scope = parameter(parameters, "scope");
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = parameter(parameters, "service") {
            url.query_pairs_mut().append_pair("service", &service);
        }
        let basic = basic.and_then(|basic| HeaderValue::from_str(&basic).ok());
        let headers = HeaderMap::from_iter(basic.map(|basic| (AUTHORIZATION, basic)));
        let answer = body(self.client.get(url, headers).await?, "a token", MAX_TOKEN).await?;
        let token: Token = serde_json::from_slice(&answer)
            .map_err(|_| FetchError::Malformed("the registry's token server gives no token".to_owned()))?;
        Ok(token.token.or(token.access_token).map(|token| format!("Bearer {token}")))
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// A parameter of a challenge: `realm="https://a",service="b"`.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (key, after) = rest.split_once('=')?;
        let key = key.trim_matches([' ', ',']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_challenge_may_be_quoted_and_hold_commas() {
        let challenge = r#"realm="https://auth.test/token",service=r.test, scope="repository:a:pull,push""#;
        assert_eq!(parameter(challenge, "realm").as_deref(), Some("https://auth.test/token"));
        assert_eq!(parameter(challenge, "service").as_deref(), Some("r.test"));
        assert_eq!(parameter(challenge, "scope").as_deref(), Some("repository:a:pull,push"));
        assert_eq!(parameter(challenge, "error"), None);
        assert_eq!(parameter("", "realm"), None);
    }
}
