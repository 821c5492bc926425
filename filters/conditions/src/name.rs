//! [`HeaderName`]: a header's name as a configuration writes it.

use std::fmt;

use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use serde::{Deserialize, Deserializer, de};

/// Longest name in bytes.
const MAX_NAME: usize = 256;

/// The pseudo headers that a request has.
const PSEUDO: [&str; 4] = [":authority", ":method", ":path", ":scheme"];

/// A header's name in lower case: a token of RFC 9110, or one of the request's pseudo headers. `host` is `:authority`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeaderName(String);

impl HeaderName {
    /// From text in any case.
    ///
    /// # Errors
    /// When it is no name.
    pub fn new(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_name = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_token);
        match name.as_str() {
            "host" => Ok(Self(":authority".to_owned())),
            _ if is_name || PSEUDO.contains(&name.as_str()) => Ok(Self(name)),
            _ => Err(format!("`{text}` is no name of a header")),
        }
    }

    /// A name that is known to be one, in lower case.
    pub fn of_static(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for `:path` and its like.
    pub fn is_pseudo(&self) -> bool {
        self.0.starts_with(':')
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HeaderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl ConfigSchema for HeaderName {
    const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::HeaderName;

    #[test]
    fn names_are_tokens_and_pseudo_headers_in_lower_case() {
        for (text, name) in [("X-User", "x-user"), (":Path", ":path"), ("Host", ":authority")] {
            assert_eq!(HeaderName::new(text).unwrap().as_str(), name);
        }
        for text in ["", " x", "x:", "x y", ":status", "é", "x\n"] {
            assert!(HeaderName::new(text).unwrap_err().contains("is no name of a header"), "{text:?}");
        }
    }
}
