//! [`Pattern`]: one of Istio's string matches, ready to compare.

use std::cell::OnceCell;

use portolan_model::{StringMatch, from_re2};
use regex::bytes::{Regex, RegexBuilder};

/// How a value is compared.
#[derive(Debug)]
pub(crate) enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    /// Over the whole value. In a box: most patterns are none, and there are as many as rules.
    Regex(Box<LazyRegex>),
    /// Any value.
    Present,
}

/// A regex that is compiled when first needed; one that does not compile holds for nothing.
#[derive(Debug)]
pub(crate) struct LazyRegex {
    source: String,
    compiled: OnceCell<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn new(wanted: StringMatch) -> Self {
        match wanted {
            StringMatch::Exact(value) => Self::Exact(value.into_bytes().into()),
            StringMatch::Prefix(value) => Self::Prefix(value.into_bytes().into()),
            StringMatch::Regex(source) => Self::Regex(Box::new(LazyRegex { source, compiled: OnceCell::new() })),
            StringMatch::Present => Self::Present,
        }
    }

    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *value,
            Self::Prefix(wanted) => value.starts_with(wanted),
            Self::Regex(regex) => regex.holds(value),
            Self::Present => true,
        }
    }

    /// Like [`holds`](Self::holds), with exact and prefix blind to the case of ASCII letters.
    pub(crate) fn holds_without_case(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => value.eq_ignore_ascii_case(wanted),
            Self::Prefix(wanted) => value.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted)),
            Self::Regex(_) | Self::Present => self.holds(value),
        }
    }

    /// The text in the configuration; empty for any value.
    pub(crate) fn written(&self) -> &[u8] {
        match self {
            Self::Exact(value) | Self::Prefix(value) => value,
            Self::Regex(regex) => regex.source.as_bytes(),
            Self::Present => b"",
        }
    }

    /// In words: `prefix "/api"`.
    pub(crate) fn describe(&self) -> String {
        let quoted = |kind, value: &[u8]| format!("{kind} \"{}\"", String::from_utf8_lossy(value));
        match self {
            Self::Exact(value) => quoted("exact", value),
            Self::Prefix(value) => quoted("prefix", value),
            Self::Regex(regex) => quoted("regex", regex.source.as_bytes()),
            Self::Present => "any value".into(),
        }
    }
}

impl LazyRegex {
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Compiles; false when the text is no regular expression.
    pub(crate) fn compile(&self) -> bool {
        self.regex().is_some()
    }

    fn holds(&self, value: &[u8]) -> bool {
        self.regex().is_some_and(|regex| regex.is_match(value))
    }

    fn regex(&self) -> Option<&Regex> {
        let compile = || RegexBuilder::new(&format!(r"\A(?:{})\z", from_re2(&self.source))).unicode(false).build().ok();
        self.compiled.get_or_init(compile).as_ref()
    }

    /// What every value that fits begins with. Errs on the short side.
    pub(crate) fn literal_prefix(&self) -> Box<[u8]> {
        let source = self.source.strip_prefix('^').unwrap_or(&self.source);
        if source.contains('|') {
            return Box::default();
        }
        let mut literal = Vec::new();
        let mut rest = source.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'\\' => match rest.next() {
                    Some(escaped) if escaped.is_ascii_punctuation() => literal.push(escaped),
                    _ => break,
                },
                // What comes before may be absent.
                b'*' | b'?' | b'{' => {
                    literal.pop();
                    break;
                }
                b'.' | b'+' | b'(' | b')' | b'[' | b']' | b'}' | b'^' | b'$' => break,
                0x80.. => break,
                _ => literal.push(byte),
            }
        }
        literal.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(source: &str) -> LazyRegex {
        LazyRegex { source: source.into(), compiled: OnceCell::new() }
    }

    #[test]
    fn a_regex_spans_the_whole_value() {
        for (source, value, holds) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "x/a", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/ab", false),
            ("a|b", "ax", false),
            (r"/\d+", "/42", true),
            (r"(?i)/API/.*", "/api/x", true),
            ("^/a$", "/a", true),
            (".*", "", true),
            ("/items/{id}", "/items/{id}", true),
            (r"/\Qa.b\E/\d{2}", "/a.b/42", true),
            (r"/\Qa.b\E/\d{2}", "/axb/42", false),
            (r"[[:alpha:]]+\pL?[^[]", "abc/", true),
            (r"\p{P}\PL", "(1", true),
            ("(", "(", false),
        ] {
            assert_eq!(regex(source).holds(value.as_bytes()), holds, "{source} {value}");
        }
    }

    #[test]
    fn a_literal_prefix_is_in_all_that_fits() {
        for (source, prefix) in [
            ("/api/.*", "/api/"),
            (r"/v1\.0/x", "/v1.0/x"),
            (r"/items/\d+", "/items/"),
            ("^/a", "/a"),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab{0,2}", "/a"),
            ("/ab+", "/ab"),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            ("/caf\u{e9}*", "/caf"),
            ("", ""),
        ] {
            assert_eq!(*regex(source).literal_prefix(), *prefix.as_bytes(), "{source}");
        }
    }
}
