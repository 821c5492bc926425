//! [`HttpCall`] and its [`Answer`].

use std::marker::PhantomData;
use std::time::Duration;

use super::{Call, Failure, Http, TIMEOUT};
use crate::pairs::{self, Headers};
use crate::raw::scratch::Callback;
use crate::raw::{callouts, calls};
use crate::timer::millis;
use crate::{BufferType, HostError, MapType};

/// A request to another host, sent with [`Request::call`](crate::Request::call),
/// [`Response::call`](crate::Response::call) or [`root::call`](crate::root::call). See [`call`](crate::call).
///
/// The upstream is the name of a cluster, in Istio `outbound|PORT|SUBSET|HOST`. Portolan takes `HOST:PORT` too.
///
/// ```
/// use std::time::Duration;
/// use portolan_sdk::HttpCall;
///
/// let call = HttpCall::post("outbound|80||audit.test", "/events")
///     .header("content-type", "application/json")
///     .body(b"{}")
///     .timeout(Duration::from_millis(250));
/// ```
#[derive(Clone, Debug)]
pub struct HttpCall<'a> {
    upstream: &'a str,
    authority: &'a str,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
    trailers: Vec<(&'a str, &'a [u8])>,
    timeout: Duration,
}

impl<'a> HttpCall<'a> {
    /// A request without headers and body, with a timeout of 5 seconds. Its authority is the host in the upstream's name.
    pub fn new(method: &'a str, upstream: &'a str, path: &'a str) -> Self {
        let authority = upstream.rsplit('|').next().unwrap_or(upstream);
        Self {
            upstream,
            authority,
            method,
            path,
            headers: Vec::new(),
            body: b"",
            trailers: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// A GET.
    pub fn get(upstream: &'a str, path: &'a str) -> Self {
        Self::new("GET", upstream, path)
    }

    /// A POST.
    pub fn post(upstream: &'a str, path: &'a str) -> Self {
        Self::new("POST", upstream, path)
    }

    /// With this authority instead of the host in the upstream's name.
    #[must_use]
    pub fn authority(mut self, authority: &'a str) -> Self {
        self.authority = authority;
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// With this body; 1 MiB at most in Portolan.
    #[must_use]
    pub fn body(mut self, body: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.body = body.as_ref();
        self
    }

    /// With one more trailer.
    #[must_use]
    pub fn trailer(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.trailers.push((name, value.as_ref()));
        self
    }

    /// Waiting this long for the whole answer; whole milliseconds, at least one.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Call for HttpCall<'_> {
    type Kind = Http;

    fn send(&self) -> Result<u32, HostError> {
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(self.headers.len() + 3);
        headers.push((":method", self.method.as_bytes()));
        headers.push((":path", self.path.as_bytes()));
        headers.push((":authority", self.authority.as_bytes()));
        headers.extend_from_slice(&self.headers);
        // To the host 0 is no timeout, but as long as there is.
        let timeout = millis(self.timeout).max(1);
        let trailers = pairs::encode(&self.trailers);
        callouts::http_call(self.upstream, &pairs::encode(&headers), self.body, &trailers, timeout)
    }
}

/// The answer to an [`HttpCall`], to be read until the continuation returns.
#[derive(Debug)]
pub struct Answer<'a> {
    status: u16,
    failure: Option<Failure>,
    body_size: usize,
    callback: PhantomData<&'a ()>,
}

impl<'a> Answer<'a> {
    pub(crate) fn read(_callback: &'a Callback, headers: usize, body_size: usize) -> Self {
        let status = if headers == 0 { None } else { calls::header(MapType::HttpCallResponseHeaders, ":status").ok() };
        let status = status.flatten().and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let failure = match status {
            None | Some(503) => Some(Failure::Unavailable),
            Some(504) => Some(Failure::TimedOut),
            Some(_) => None,
        };
        Self { status: status.unwrap_or(503), failure, body_size, callback: PhantomData }
    }

    /// The status; 503 when there was no answer at all.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Why the answer is none: there was none, or its status is 503 or 504. A host tells of its own failures by these
    /// two, so they cannot be told from an upstream that says the same.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The first value of a header; names ignore case. None when there is no such line.
    pub fn header(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        calls::header(MapType::HttpCallResponseHeaders, name)
    }

    /// The first value of a header as text; none also when it is not UTF-8.
    pub fn header_str(&self, name: &str) -> Result<Option<&'a str>, HostError> {
        Ok(self.header(name)?.and_then(|value| std::str::from_utf8(value).ok()))
    }

    /// All header lines in their order, `:status` too.
    pub fn headers(&self) -> Result<Headers<'a>, HostError> {
        Ok(Headers::new(calls::header_pairs(MapType::HttpCallResponseHeaders)?))
    }

    /// Bytes of the body.
    pub fn body_size(&self) -> usize {
        self.body_size
    }

    /// The body; 1 MiB at most in Portolan, where a larger one is a 503.
    pub fn body(&self) -> Result<&'a [u8], HostError> {
        if self.body_size == 0 {
            return Ok(b"");
        }
        Ok(calls::buffer(BufferType::HttpCallResponseBody, 0, self.body_size)?.unwrap_or_default())
    }

    /// The first value of a trailer.
    pub fn trailer(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        calls::header(MapType::HttpCallResponseTrailers, name)
    }
}
