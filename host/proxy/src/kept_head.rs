//! [`KeptHead`]: a request's head in one piece of memory, for the rare case that it must be sent again.
//!
//! Every request on a reused connection keeps one, so it is made to be cheap: one allocation and plain copies, where a
//! clone of the header map makes two and touches a counter for each value.

use http::{HeaderName, HeaderValue, Method, Request, Uri, request};

/// A copy of a head without its extensions.
pub(crate) struct KeptHead {
    method: Method,
    uri: Uri,
    /// For each field: lengths of name and value as 4 bytes each, name, value.
    fields: Vec<u8>,
    count: usize,
}

impl KeptHead {
    pub(crate) fn of(parts: &request::Parts) -> Self {
        let mut fields = Vec::with_capacity(1024);
        for (name, value) in &parts.headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            fields.extend_from_slice(&(name.len() as u32).to_le_bytes());
            fields.extend_from_slice(&(value.len() as u32).to_le_bytes());
            fields.extend_from_slice(name);
            fields.extend_from_slice(value);
        }
        Self { method: parts.method.clone(), uri: parts.uri.clone(), fields, count: parts.headers.len() }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// The head again.
    pub(crate) fn into_parts(self) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method;
        parts.uri = self.uri;
        parts.headers.reserve(self.count);
        let mut rest = self.fields.as_slice();
        while let Some((name, value, after)) = split_field(rest) {
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                parts.headers.append(name, value);
            }
            rest = after;
        }
        parts
    }
}

fn split_field(fields: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name_length, rest) = fields.split_first_chunk::<4>()?;
    let (value_length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
    Some((name, value, rest))
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
