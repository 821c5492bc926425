//! [`KeptHead`]: a request's head for the rare case that it must be sent again.
//!
//! Every request on a reused connection keeps one, so it is made to be cheap: a plain list, where a clone of the header
//! map would make its index too.

use http::{HeaderName, HeaderValue, Method, Request, Uri, request};

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

    pub(crate) fn method(&self) -> &Method {
        &self.method
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
}
