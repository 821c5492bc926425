//! [`Pattern`]: a regular expression.

use portolan_sdk::ConfigSchema;
use portolan_sdk::schema::Node;
use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Deserializer, de};

/// Largest compiled expression in bytes.
const MAX_COMPILED: usize = 256 * 1024;

/// A regular expression in RE2's syntax, with ASCII's classes. The time of a match grows with the text, never faster.
/// Text that is not UTF-8 fulfils none.
#[derive(Clone, Debug)]
pub struct Pattern {
    part: Regex,
    whole: Regex,
}

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        let refused = |error: regex_lite::Error| format!("`{text}` is no regular expression: {error}");
        let part = compile(text).map_err(refused)?;
        let whole = compile(&format!("^(?:{text})$")).map_err(refused)?;
        Ok(Self { part, whole })
    }

    /// True when it fits the whole text, as Envoy and Istio want it.
    pub fn fits(&self, text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| self.whole.is_match(text))
    }

    /// The text with each part that fits replaced; `$1` and `${name}` stand for groups. None when no part fits.
    pub fn replace(&self, text: &[u8], with: &str) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(text).ok()?;
        match self.part.replace_all(text, with) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(text) => Some(text.into_bytes()),
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl ConfigSchema for Pattern {
    const SCHEMA: Node = <String as ConfigSchema>::SCHEMA;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::Pattern;

    #[test]
    fn a_condition_fits_the_whole_text_and_a_replacement_each_part() {
        let pattern = Pattern::new("a(b|c)").unwrap();
        assert!(pattern.fits(b"ab") && !pattern.fits(b"abd") && !pattern.fits(b"xab") && !pattern.fits(b"ab\n"));
        assert_eq!(pattern.replace(b"ab ac", "<$1>").as_deref(), Some(b"<b> <c>".as_slice()));
        assert_eq!(pattern.replace(b"xyz", "-"), None);
        assert!(Pattern::new("a|ab").unwrap().fits(b"ab"), "alternatives are all held against the whole");
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in ["(", "a)|(b", "[", "(?x)a #", "(?P<", "a{1000}{1000}"] {
            assert!(Pattern::new(text).unwrap_err().contains("is no regular expression"), "{text}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_fits_nothing() {
        let any = Pattern::new("(?s).*").unwrap();
        assert!(any.fits(b"") && !any.fits(b"\xff") && any.replace(b"\xff", "x").is_none());
    }
}
