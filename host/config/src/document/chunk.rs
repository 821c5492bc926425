//! [`split`]: the text of a file into those of its documents.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::DocumentKey;

/// The text of one document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// Line of the file where it begins.
    pub(super) first_line: u32,
    pub(super) text: Cow<'a, str>,
}

impl Chunk<'_> {
    /// What tells it from every other text, wherever it stands.
    pub(super) fn key(&self) -> DocumentKey {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

/// Splits at lines that begin with `---` or `...`: YAML allows neither within any value. Documents of nothing but
/// comments, directives and blanks are left out.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut first_line, mut prefix) = (0, 1, "");
    let mut at = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let end = at + line.len();
        if is_marker(line) {
            push_chunk(&mut chunks, first_line, prefix, &text[start..at]);
            // What follows `---` on its line belongs to the document, and keeps its column.
            (start, first_line, prefix) = (at + 3, number, "   ");
        }
        at = end;
    }
    push_chunk(&mut chunks, first_line, prefix, &text[start..]);
    chunks
}

fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn push_chunk<'a>(chunks: &mut Vec<Chunk<'a>>, first_line: u32, prefix: &str, text: &'a str) {
    let says_nothing = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with(['#', '%']);
    if text.lines().all(says_nothing) {
        return;
    }
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    if prefix.is_empty() {
        chunks.push(Chunk { first_line, text: text.into() });
    } else if says_nothing(head) {
        chunks.push(Chunk { first_line: first_line + 1, text: rest.into() });
    } else {
        chunks.push(Chunk { first_line, text: format!("{prefix}{text}").into() });
    }
}
