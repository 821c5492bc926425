//! [`Web`]: how the ACME server is asked, with the certificate authorities and the limits of all else that is fetched.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

/// For a request and its answer.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(30);
/// A longer answer is refused: a chain of certificates has some kilobytes.
const MAX_BYTES: usize = 1024 * 1024;

pub(super) struct Web(pub(super) reqwest::Client);

impl HttpClient for Web {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let http = self.0.clone();
        Box::pin(async move {
            let asked = tokio::time::timeout(ANSWER_TIME, exchange(http, request)).await;
            asked.map_err(|_| Error::Str("an answer within 30 s"))?
        })
    }
}

async fn exchange(http: reqwest::Client, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
    let other = |error: reqwest::Error| Error::Other(Box::new(error));
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await;
    let sent = http.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body.to_bytes());
    let mut answer = sent.send().await.map_err(other)?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(other)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(Error::Str("an answer of at most 1 MiB"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(response.map(|()| Full::new(Bytes::from(bytes))).into())
}
