//! [`Name`]: what a filter may be called, so that every toolchain and every registry takes it.

/// Longest name, so that labels and hosts made of it stay within 63 characters.
const MAX: usize = 50;

/// Words that are no name of a crate or of a Go package: Rust's and Go's keywords, and names that cargo keeps.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "case",
    "chan",
    "const",
    "continue",
    "core",
    "crate",
    "default",
    "defer",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "fallthrough",
    "false",
    "final",
    "fn",
    "for",
    "func",
    "gen",
    "go",
    "goto",
    "if",
    "impl",
    "import",
    "in",
    "incremental",
    "interface",
    "let",
    "loop",
    "macro",
    "main",
    "map",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "package",
    "portolan-sdk",
    "priv",
    "proc-macro",
    "proxywasm",
    "pub",
    "range",
    "ref",
    "return",
    "select",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "switch",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "var",
    "vendor",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Lower-case words and digits with `-` between.
#[derive(Debug)]
pub(super) struct Name(String);

impl Name {
    /// The error says what a name is.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |reason: &str| Err(format!("`{}` is no name for a filter: {reason}", text.escape_debug()));
        let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text {
            _ if text.len() > MAX => wrong("it is longer than 50 characters"),
            _ if !text.starts_with(|c: char| c.is_ascii_lowercase()) => wrong("it begins with a lower-case letter"),
            _ if !text.chars().all(is_letter) => wrong("it has lower-case letters, digits and `-` only"),
            _ if text.ends_with('-') || text.contains("--") => wrong("`-` stands between words"),
            _ if RESERVED.contains(&text) => wrong("toolchains keep this word"),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// `rate-limit`.
    pub(super) fn as_written(&self) -> &str {
        &self.0
    }

    /// `rate_limit`.
    pub(super) fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// `RateLimit`.
    pub(super) fn camel(&self) -> String {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        self.0.split('-').map(capital).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use super::*;

    #[test]
    fn a_name_has_three_forms() {
        let name = Name::parse("rate-limit2").unwrap();
        assert_eq!(
            (name.as_written(), name.snake().as_str(), name.camel().as_str()),
            ("rate-limit2", "rate_limit2", "RateLimit2")
        );
    }

    #[test]
    fn what_a_toolchain_would_not_take_is_refused() {
        for name in
            ["", "Stamp", "2nd", "a_b", "a--b", "a-", "-a", "../a", "a b", "schlüssel", "fn", "test", &"a".repeat(51)]
        {
            let refusal = Name::parse(name).unwrap_err();
            assert!(refusal.contains("is no name for a filter"), "{refusal}");
        }
    }
}
