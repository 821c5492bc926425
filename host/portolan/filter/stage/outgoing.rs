//! [`Outgoing`]: a body that is there as a whole, with trailers behind it if there are any.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, TRAILER};
use hyper::body::{Body, Frame, SizeHint};

use super::te::Answered;

/// Data, then trailers.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    data: Bytes,
    trailers: Option<HeaderMap>,
    /// Told when it has been sent.
    #[allow(dead_code, reason = "its end is what counts")]
    then: Option<Answered>,
}

impl Outgoing {
    /// Empty parts are not sent.
    pub(super) fn new(data: Bytes, trailers: HeaderMap) -> Self {
        Self { data, trailers: Some(trailers).filter(|trailers| !trailers.is_empty()), then: None }
    }

    /// The same, with who is to be told when it has been sent.
    pub(super) fn then(self, next: Answered) -> Self {
        Self { then: Some(next), ..self }
    }
}

/// Announces trailers, which HTTP/1 sends only then; a header that is there already stays.
pub(super) fn announce(headers: &mut HeaderMap, trailers: &HeaderMap) {
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    if let (false, Ok(names)) = (names.is_empty() || headers.contains_key(TRAILER), names.join(", ").try_into()) {
        headers.insert(TRAILER, names);
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.data);
        if !data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    /// Exact only without trailers: HTTP/1 can send those after chunks alone.
    fn size_hint(&self) -> SizeHint {
        match self.trailers {
            None => SizeHint::with_exact(self.data.len() as u64),
            Some(_) => SizeHint::default(),
        }
    }
}
