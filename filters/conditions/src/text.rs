//! [`StringMatch`]: a condition on text.

use portolan_sdk::ConfigSchema;
use serde::{Deserialize, Deserializer, de};

use crate::Pattern;

/// A condition on text, written as `{exact: ...}`, `{prefix: ...}` and so on: Istio's words, and `suffix` and `contains`
/// of Envoy's. Case counts.
#[derive(Clone, Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The whole text.
    Exact(String),
    /// Its beginning.
    Prefix(Part),
    /// Its end.
    Suffix(Part),
    /// Anywhere in it.
    Contains(Part),
    /// A regular expression for the whole text.
    Regex(Pattern),
}

impl StringMatch {
    /// The beginning of a text; none for an empty one.
    pub fn prefix(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::Prefix(Part(text.to_owned())))
    }

    /// True when it holds for this text.
    pub fn holds(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(whole) => text == whole.as_bytes(),
            Self::Prefix(Part(part)) => text.starts_with(part.as_bytes()),
            Self::Suffix(Part(part)) => text.ends_with(part.as_bytes()),
            Self::Contains(Part(part)) => text.windows(part.len()).any(|window| window == part.as_bytes()),
            Self::Regex(pattern) => pattern.fits(text),
        }
    }
}

/// Text that is not empty: every text has an empty beginning, and nobody means that.
#[derive(Clone, Debug, ConfigSchema)]
pub struct Part(#[schema(min_length = 1)] String);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            part if part.is_empty() => Err(de::Error::custom("an empty text is part of every text")),
            part => Ok(Self(part)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::StringMatch;

    fn condition(json: &str) -> StringMatch {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_word_holds_for_its_part_of_the_text() {
        let holds = |json, text: &str| condition(json).holds(text.as_bytes());
        assert!(holds(r#"{"exact": "ab"}"#, "ab") && !holds(r#"{"exact": "ab"}"#, "abc"));
        assert!(holds(r#"{"prefix": "ab"}"#, "abc") && !holds(r#"{"prefix": "ab"}"#, "Abc"));
        assert!(holds(r#"{"suffix": "bc"}"#, "abc") && !holds(r#"{"suffix": "ab"}"#, "abc"));
        assert!(holds(r#"{"contains": "b"}"#, "abc") && !holds(r#"{"contains": "abcd"}"#, "abc"));
        assert!(holds(r#"{"regex": "[a-c]+"}"#, "abc") && !holds(r#"{"regex": "[a-c]+"}"#, "abcd"));
    }

    #[test]
    fn other_words_and_empty_parts_are_refused() {
        let refusal = |json| serde_json::from_str::<StringMatch>(json).unwrap_err().to_string();
        assert!(refusal(r#"{"exat": "a"}"#).contains("unknown variant `exat`, expected one of `exact`, `prefix`"));
        assert!(refusal(r#"{"prefix": ""}"#).contains("an empty text is part of every text"));
        assert!(refusal(r#"{"regex": "("}"#).contains("`(` is no regular expression"));
        assert!(!refusal(r#"{"exact": "a", "prefix": "b"}"#).is_empty());
    }
}
