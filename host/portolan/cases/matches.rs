//! Whether values fulfil a [`TextMatch`], and what it asks for in words.

use super::TextMatch;
use super::shown;

/// The lines of one header, or the one value of something else; none when it is absent. Several lines count as one
/// value, joined as HTTP does.
pub(crate) fn values(expected: &TextMatch, values: &[&str]) -> bool {
    match expected {
        TextMatch::Present(present) => *present != values.is_empty(),
        TextMatch::Lines(lines) => lines.iter().map(String::as_str).eq(values.iter().copied()),
        _ if values.is_empty() => false,
        expected => text(expected, &values.join(", ")),
    }
}

/// A line of a log, for which a text alone stands for a part of it.
pub(crate) fn in_line(expected: &TextMatch, line: &str) -> bool {
    match expected {
        TextMatch::Exact(part) => line.contains(part.as_str()),
        // Without the level in front.
        expected => text(expected, line.split_once(": ").map_or(line, |(_, text)| text)),
    }
}

fn text(expected: &TextMatch, text: &str) -> bool {
    match expected {
        TextMatch::Exact(exact) => text == exact,
        TextMatch::Prefix(prefix) => text.starts_with(prefix.as_str()),
        TextMatch::Contains(part) => text.contains(part.as_str()),
        TextMatch::Regex(regex) => regex.is_match(text),
        TextMatch::Lines(lines) => lines.iter().map(String::as_str).eq([text]),
        TextMatch::Present(present) => *present,
    }
}

/// In words.
pub(crate) fn describe(expected: &TextMatch) -> String {
    match expected {
        TextMatch::Exact(exact) => shown::text(exact),
        TextMatch::Prefix(prefix) => format!("begins with {}", shown::text(prefix)),
        TextMatch::Contains(part) => format!("contains {}", shown::text(part)),
        TextMatch::Regex(regex) => {
            let pattern = regex.as_str().strip_prefix("^(?:").and_then(|pattern| pattern.strip_suffix(")$"));
            format!("fits {}", pattern.unwrap_or(regex.as_str()))
        }
        TextMatch::Lines(lines) => lines.iter().map(|line| shown::text(line)).collect::<Vec<_>>().join(", "),
        TextMatch::Present(true) => "present".to_owned(),
        TextMatch::Present(false) => "absent".to_owned(),
    }
}
