//! [`KeptHead`]: a request's head for the rare case that it must be sent again.
//!
//! Kept only when the route's policy tries again after sending: a plain list, where a clone of the header map would make
//! its index too. A request that meets a dead pooled connection is read back from what its connection wrote.

use http::{HeaderName, HeaderValue, Method, Request, Uri, request};

/// What a request may have at the door, and what the gateway adds.
const MAX_FIELDS: usize = 128;

/// A copy of a head without its extensions.
pub(crate) struct KeptHead {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl KeptHead {
    pub(crate) fn of(parts: &request::Parts) -> Self {
        let mut fields = Vec::with_capacity(parts.headers.len());
        fields.extend(parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self { method: parts.method.clone(), uri: parts.uri.clone(), fields }
    }

    /// The head in these encoded bytes; none when they do not hold a whole one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        if !request.parse(bytes).is_ok_and(|status| status.is_complete()) {
            return None;
        }
        let field = |field: &httparse::Header<'_>| {
            Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
        };
        Some(Self {
            method: request.method?.parse().ok()?,
            uri: request.path?.parse().ok()?,
            fields: request.headers.iter().map(field).collect::<Option<_>>()?,
        })
    }

    /// The first field of this name.
    pub(crate) fn field(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// True when sending it again does no harm that the client did not ask for.
    pub(crate) fn is_idempotent(&self) -> bool {
        is_idempotent(&self.method)
    }

    /// The head again.
    pub(crate) fn into_parts(self) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method;
        parts.uri = self.uri;
        for (name, value) in self.fields {
            parts.headers.append(name, value);
        }
        parts
    }
}

/// True for methods of RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    use Method as M;
    matches!(*method, M::GET | M::HEAD | M::PUT | M::DELETE | M::OPTIONS | M::TRACE)
}

/// Moves the fields out of a head; method and target stay known there.
pub(crate) fn take(head: &mut request::Parts) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.uri = head.uri.clone();
    parts.headers = std::mem::take(&mut head.headers);
    parts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_head_comes_back_as_it_was() {
        let request =
            Request::builder().method("PUT").uri("/a?b").header("x-a", "1").header("x-b", "").header("x-a", "2");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let again = KeptHead::of(&parts).into_parts();
        assert_eq!((&again.method, &again.uri, &again.headers), (&parts.method, &parts.uri, &parts.headers));
    }

    #[test]
    fn a_head_is_read_back_from_its_bytes_and_half_a_head_is_none() {
        let bytes = b"GET /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
        let parts = KeptHead::parse(bytes).unwrap().into_parts();
        assert_eq!((parts.method.as_str(), parts.uri.to_string().as_str()), ("GET", "/a?b"));
        assert_eq!((parts.headers["host"].to_str().unwrap(), parts.headers.get_all("x-a").iter().count()), ("h", 2));
        assert!(KeptHead::parse(&bytes[..bytes.len() - 1]).is_none());
    }
}
