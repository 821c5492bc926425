//! Requests and responses as the stage's callers write and read them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Body;

/// Most bytes of a body that the stage's client and its services take in.
pub(crate) const LARGEST_BODY: usize = 16 << 20;

/// A request to be sent through the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// GET by default.
    pub(crate) method: Method,
    /// `host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// The others, in order.
    pub(crate) headers: HeaderMap,
    /// May be empty.
    pub(crate) body: Bytes,
    /// Sent in chunks when there are any.
    pub(crate) trailers: HeaderMap,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: Method::GET,
            host: "localhost".to_owned(),
            path: "/".to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            trailers: HeaderMap::new(),
        }
    }
}

/// A request as a service has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its method.
    pub(crate) method: Method,
    /// `host`, or HTTP/2's authority.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The whole body, at most [`LARGEST_BODY`].
    pub(crate) body: Bytes,
    /// After the body.
    pub(crate) trailers: HeaderMap,
}

/// A response: what a service answers, or what a client has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: StatusCode,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The whole body, at most [`LARGEST_BODY`].
    pub(crate) body: Bytes,
    /// After the body.
    pub(crate) trailers: HeaderMap,
}

impl Response {
    /// An empty response.
    pub(crate) fn new(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), trailers: HeaderMap::new() }
    }
}

/// How a service answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Script {
    /// With JSON that tells the request. `/status/503` wishes for a status, `/delay/250` for milliseconds of patience.
    #[default]
    Echo,
    /// With this, after a while.
    Answer {
        /// The answer.
        response: Box<Response>,
        /// Time until it begins.
        delay: Duration,
    },
    /// Not at all: it closes the connection.
    Down,
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBodyError {
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It is larger than [`LARGEST_BODY`].
    #[error("the body is larger than {LARGEST_BODY} bytes")]
    TooLarge,
}

/// The whole of a body, and its trailers.
pub(super) async fn read_body(mut body: hyper::body::Incoming) -> Result<(Bytes, HeaderMap), ReadBodyError> {
    let (mut whole, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await.transpose()? {
        match frame.into_data() {
            Ok(data) if whole.len() + data.len() > LARGEST_BODY => return Err(ReadBodyError::TooLarge),
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((whole.freeze(), trailers))
}
