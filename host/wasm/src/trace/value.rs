//! [`Value`]: what a trace shows of an argument or a result.

use super::TraceLimits;

/// An argument of a callback or host call, or a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// What it is; empty where its place says it.
    pub label: &'static str,
    /// What it was.
    pub value: Value,
}

/// A value as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(i128),
    /// A number of milliseconds.
    Millis(u32),
    /// True or false.
    Flag(bool),
    /// A constant of the ABI, in words.
    Word(String),
    /// Text, unescaped.
    Text {
        /// The text, or its beginning.
        text: String,
        /// Length of the whole in bytes.
        bytes: usize,
    },
    /// Bytes that are no text.
    Bytes {
        /// The bytes, or the first of them.
        shown: Vec<u8>,
        /// Length of the whole.
        bytes: usize,
    },
    /// Headers or trailers.
    Pairs {
        /// Names and values, or the first of them, each cut like a text.
        shown: Vec<(String, String)>,
        /// Number of all.
        count: usize,
    },
    /// A text that is not shown.
    Hidden,
    /// A pointer that leads nowhere, or a list that cannot be read.
    Unreadable,
}

impl Argument {
    pub(super) fn new(label: &'static str, value: Value) -> Self {
        Self { label, value }
    }
}

impl Value {
    /// True when not all of it is kept.
    pub fn is_cut(&self) -> bool {
        match self {
            Self::Text { text, bytes } => text.len() < *bytes,
            Self::Bytes { shown, bytes } => shown.len() < *bytes,
            Self::Pairs { shown, count } => shown.len() < *count,
            _ => false,
        }
    }

    /// Text where it is text, else bytes; cut at the limit.
    pub(super) fn of_bytes(whole: &[u8], limits: &TraceLimits) -> Self {
        let bytes = whole.len();
        let shown = &whole[..bytes.min(limits.bytes)];
        let text = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            // A character that the limit has cut in two.
            Err(error) if error.error_len().is_none() && shown.len() < bytes => {
                std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        match text.filter(|text| !text.contains(is_binary)) {
            Some(text) => Self::Text { text: text.to_owned(), bytes },
            None => Self::Bytes { shown: shown.to_owned(), bytes },
        }
    }

    pub(super) fn of_pairs(pairs: &[(&[u8], &[u8])], limits: &TraceLimits) -> Self {
        let text = |bytes: &[u8]| cut(bytes, limits);
        let shown = pairs.iter().take(limits.pairs).map(|(name, value)| (text(name), text(value))).collect();
        Self::Pairs { shown, count: pairs.len() }
    }
}

/// The beginning of a text; `…` where it is cut.
pub(super) fn cut(bytes: &[u8], limits: &TraceLimits) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(limits.bytes)]).into_owned();
    if bytes.len() > limits.bytes {
        text.push('…');
    }
    text
}

fn is_binary(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\r' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TraceLimits = TraceLimits { calls: 1, bytes: 4, pairs: 1 };

    #[test]
    fn texts_are_cut_between_characters_and_other_bytes_stay_bytes() {
        let text = Value::of_bytes("abcé".as_bytes(), &LIMITS);
        assert_eq!(text, Value::Text { text: "abc".to_owned(), bytes: 5 });
        assert!(text.is_cut());
        assert_eq!(Value::of_bytes(b"a\nb", &LIMITS), Value::Text { text: "a\nb".to_owned(), bytes: 3 });
        assert_eq!(Value::of_bytes(b"\xff\x00", &LIMITS), Value::Bytes { shown: vec![255, 0], bytes: 2 });
        assert_eq!(Value::of_bytes(b"a\0b", &LIMITS), Value::Bytes { shown: b"a\0b".to_vec(), bytes: 3 });
    }

    #[test]
    fn lists_are_cut_in_number_and_in_each_text() {
        let pairs = Value::of_pairs(&[(b"a", b"12345"), (b"b", b"")], &LIMITS);
        assert_eq!(pairs, Value::Pairs { shown: vec![("a".to_owned(), "1234…".to_owned())], count: 2 });
        assert!(pairs.is_cut());
    }
}
