//! What [`Registry`] takes: blobs that it does not have yet, and manifests.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};

use super::error::FetchError;
use super::package::Blob;
use super::registry::Registry;

/// Where registries repeat the digest of what they took.
const DIGEST: &str = "docker-content-digest";

impl Registry<'_> {
    /// The digest in hex of what a tag names; none when it names nothing yet.
    pub(super) async fn tagged(&self, tag: &str) -> Result<Option<String>, FetchError> {
        match self.manifest(tag).await {
            Ok((_, digest)) => Ok(Some(digest)),
            Err(FetchError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a blob, unless it is there. True when it was sent.
    pub(super) async fn put_blob(&self, blob: &Blob) -> Result<bool, FetchError> {
        let here = self.url(&format!("blobs/{}", blob.digest))?;
        let answer = self.exchange(Method::HEAD, here, HeaderMap::new(), Vec::new()).await?;
        match answer.status().as_u16() {
            200 => return Ok(false),
            404 => {}
            _ => return Err(refused(&answer, "a blob")),
        }
        let start = self.exchange(Method::POST, self.url("blobs/uploads/")?, HeaderMap::new(), Vec::new()).await?;
        if start.status() != 202 {
            return Err(refused(&start, "an upload"));
        }
        let mut target = self.upload_target(&start)?;
        target.query_pairs_mut().append_pair("digest", &blob.digest);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let answer = self.exchange(Method::PUT, target, headers, blob.bytes.clone()).await?;
        if answer.status() != 201 {
            return Err(refused(&answer, "a blob"));
        }
        Ok(true)
    }

    /// Sends a manifest, and asks for it again: the digest that the registry serves is the one that was meant.
    pub(super) async fn put_manifest(
        &self,
        tag: &str,
        media_type: &'static str,
        manifest: &[u8],
        digest: &str,
    ) -> Result<(), FetchError> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
        let url = self.url(&format!("manifests/{tag}"))?;
        let answer = self.exchange(Method::PUT, url, headers, manifest.to_vec()).await?;
        if answer.status() != 201 {
            return Err(refused(&answer, "a manifest"));
        }
        let wanted = format!("sha256:{digest}");
        let told = answer.headers().get(DIGEST).and_then(|told| told.to_str().ok()).unwrap_or(&wanted).to_owned();
        let (_, found) = self.manifest(tag).await?;
        match told == wanted && found == digest {
            true => Ok(()),
            false => Err(FetchError::Digest { what: "image in the registry", found, wanted: digest.to_owned() }),
        }
    }

    /// Where the registry wants a blob. It may be elsewhere, but not without TLS where the registry is asked with it.
    fn upload_target(&self, start: &Response) -> Result<Url, FetchError> {
        let location = start.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let target = location.and_then(|location| start.url().join(location).ok());
        let target =
            target.ok_or_else(|| FetchError::Malformed("the registry does not say where to upload to".to_owned()))?;
        if start.url().scheme() == "https" && target.scheme() != "https" {
            return Err(FetchError::Malformed("the registry wants an upload over plain http".to_owned()));
        }
        Ok(target)
    }
}

fn refused(answer: &Response, what: &str) -> FetchError {
    let host = answer.url().host_str().unwrap_or_default().to_owned();
    FetchError::Status { host, status: answer.status().as_u16(), what: what.to_owned() }
}
