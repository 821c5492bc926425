//! How values are shown to people: quoted, cut, and from where they differ.

use serde_json::Value;

use crate::change::number;

/// Longest text that is shown whole, in characters.
const WHOLE: usize = 200;

/// Characters that are shown before a difference in a longer text.
const BEFORE: usize = 40;

/// A text in quotes, cut.
pub(crate) fn text(text: &str) -> String {
    match text.char_indices().nth(WHOLE) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
    }
}

/// A body: as text where it is some.
pub(crate) fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => "an empty body".to_owned(),
        Ok(body) => text(body),
        Err(_) => {
            let hex: String = bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
            let rest = if bytes.len() > 32 { "…" } else { "" };
            format!("0x{hex}{rest} ({})", count(bytes.len(), "byte"))
        }
    }
}

/// Two texts; long ones from a little before the place where they part.
pub(crate) fn apart(expected: &str, got: &str) -> (String, String) {
    let is_short = |text: &str| text.chars().count() <= WHOLE;
    if is_short(expected) && is_short(got) {
        return (text(expected), body(got.as_bytes()));
    }
    let same = expected.chars().zip(got.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(BEFORE);
    let part = |whole: &str| {
        let part: String = whole.chars().skip(from).take(WHOLE - BEFORE).collect();
        let before = if from > 0 { "…" } else { "" };
        let after = if whole.chars().count() > from + WHOLE - BEFORE { "…" } else { "" };
        format!("{before}{part:?}{after} (from character {})", from + 1)
    };
    (part(expected), part(got))
}

/// The first place where two JSON values differ: its path, and what is there.
pub(crate) fn first_difference(path: String, expected: &Value, got: &Value) -> Option<(String, String, String)> {
    match (expected, got) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.into_iter().find_map(|key| pair(format!("{path}.{key}"), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|index| pair(format!("{path}[{index}]"), a.get(index), b.get(index)))
        }
        (a, b) if a == b => None,
        (a, b) => Some((path, a.to_string(), b.to_string())),
    }
}

fn pair(path: String, expected: Option<&Value>, got: Option<&Value>) -> Option<(String, String, String)> {
    let shown = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
    match (expected, got) {
        (Some(expected), Some(got)) => first_difference(path, expected, got),
        (expected, got) => Some((path, shown(expected), shown(got))),
    }
}

/// `no callouts`, `1 callout`, `2 callouts`.
pub(crate) fn count(count: usize, what: &str) -> String {
    if count == 0 { format!("no {what}s") } else { number(count, what) }
}
