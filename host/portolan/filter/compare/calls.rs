//! Host calls that a case expects against those of the trace.

use super::{Difference, shown};
use crate::filter::case::Calls;

/// What stands for any text in an expected call.
const ANY: &str = "...";

/// A callback and what the filter called in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traced {
    /// E.g. `on_request_headers(4, end=true) -> Continue`.
    pub(crate) callback: String,
    /// It trapped, or was ended.
    pub(crate) failed: bool,
    /// In order.
    pub(crate) calls: Vec<Call>,
}

/// One call of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// E.g. `get_header("x-a")`.
    pub(crate) head: String,
    /// The same with what it answered: `get_header("x-a") = "1"`.
    pub(crate) whole: String,
}

/// The first call that is not as expected.
pub(super) fn compare(expected: &Calls, trace: &[Traced]) -> Option<Difference> {
    let made: Vec<&Call> = trace.iter().flat_map(|traced| &traced.calls).collect();
    if expected.exact { exactly(&expected.calls, &made, trace) } else { in_order(&expected.calls, &made, trace) }
}

/// As a subsequence. The one that differs is the next of the same name, if there is any.
fn in_order(expected: &[String], made: &[&Call], trace: &[Traced]) -> Option<Difference> {
    let mut from = 0;
    for (index, pattern) in expected.iter().enumerate() {
        match made[from..].iter().position(|call| fits(pattern, call)) {
            Some(found) => from += found + 1,
            None => {
                let name = |text: &str| text.split('(').next().unwrap_or_default().to_owned();
                let near = made[from..].iter().position(|call| name(&call.head) == name(pattern));
                let at = near.map(|near| from + near);
                let got = match at {
                    Some(at) => made[at].whole.clone(),
                    None if from == 0 => "no such call".to_owned(),
                    None => format!("no such call after {}", made[from - 1].head),
                };
                return Some(difference(index, pattern, got, at, trace));
            }
        }
    }
    None
}

fn exactly(expected: &[String], made: &[&Call], trace: &[Traced]) -> Option<Difference> {
    let differs = |index: &usize| match (expected.get(*index), made.get(*index)) {
        (Some(pattern), Some(call)) => !fits(pattern, call),
        _ => true,
    };
    let index = (0..expected.len().max(made.len())).find(differs)?;
    let pattern = expected.get(index).map_or("no further call", String::as_str);
    let got = made.get(index).map_or_else(|| "no further call".to_owned(), |call| call.whole.clone());
    Some(difference(index, pattern, got, made.get(index).map(|_| index), trace))
}

fn difference(index: usize, expected: &str, got: String, at: Option<usize>, trace: &[Traced]) -> Difference {
    Difference { field: format!("calls[{index}]"), expected: expected.to_owned(), got, trace: marked(trace, at) }
}

/// The trace, with `>` before the call at this place.
fn marked(trace: &[Traced], at: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut index = 0;
    for traced in trace {
        lines.push(format!("  {}", traced.callback));
        for call in &traced.calls {
            let mark = if at == Some(index) { '>' } else { ' ' };
            lines.push(format!("{mark}   {}", call.whole));
            index += 1;
        }
    }
    if lines.is_empty() {
        lines.push(format!("  the filter made {}", shown::count(0, "call")));
    }
    lines
}

/// Whether a call is as written: with what it answered, or without.
fn fits(pattern: &str, call: &Call) -> bool {
    is_like(pattern.trim(), &call.head) || is_like(pattern.trim(), &call.whole)
}

/// `...` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once(ANY) else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split(ANY).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn three_dots_stand_for_any_text() {
        assert!(is_like("a(\"b\")", "a(\"b\")") && !is_like("a(\"b\")", "a(\"c\")"));
        assert!(is_like("a(...)", "a(\"b\")") && is_like("a(...)", "a()"));
        assert!(is_like("...", "anything") && is_like("a...c...e", "abcde"));
        assert!(!is_like("a...c...e", "abde") && !is_like("a...", "ba"));
    }
}
