//! [`Comparing`]: collects what is not as a case expects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{ContentMatch, TextMatch, matches, shown};

/// Header lines in order.
pub(crate) type Lines = Vec<(String, String)>;

/// One thing that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Its path in `expect`, e.g. `response.headers.x-a`.
    pub(crate) field: String,
    /// What should be, in words.
    pub(crate) expected: String,
    /// What is.
    pub(crate) got: String,
    /// The trace with the place that differs, for calls.
    pub(crate) trace: Vec<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    /// In the order of the format.
    pub(crate) differences: Vec<Difference>,
}

impl Comparing {
    pub(crate) fn find(&mut self, field: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) {
        let (field, expected, got) = (field.into(), expected.into(), got.into());
        self.differences.push(Difference { field, expected, got, trace: Vec::new() });
    }

    pub(crate) fn lines(&mut self, field: &str, expected: &BTreeMap<String, TextMatch>, lines: &Lines) {
        for (name, expected) in expected {
            let values: Vec<_> = all(lines, name).collect();
            if !matches::values(expected, &values) {
                let got = if values.is_empty() { "absent".to_owned() } else { shown::text(&values.join(", ")) };
                self.find(format!("{field}.{name}"), matches::describe(expected), got);
            }
        }
    }

    pub(crate) fn text(&mut self, field: &str, expected: Option<&TextMatch>, got: Option<&str>) {
        let Some(expected) = expected else { return };
        let values: Vec<_> = got.into_iter().collect();
        if !matches::values(expected, &values) {
            self.find(field, matches::describe(expected), got.map_or_else(|| "absent".to_owned(), shown::text));
        }
    }

    pub(crate) fn body(&mut self, field: &str, expected: Option<&ContentMatch>, got: &[u8]) {
        match expected {
            None => {}
            Some(ContentMatch::Bytes(bytes)) if bytes == got => {}
            Some(ContentMatch::Bytes(bytes)) => self.find(field, shown::body(bytes), shown::body(got)),
            Some(ContentMatch::Json(json)) => self.json(field, json, got),
            Some(ContentMatch::Text(expected)) => {
                let text = String::from_utf8_lossy(got);
                if matches::values(expected, &[&text]) {
                    return;
                }
                match expected {
                    TextMatch::Exact(exact) => {
                        let (exact, text) = shown::apart(exact, &text);
                        self.find(field, exact, text);
                    }
                    expected => self.find(field, matches::describe(expected), shown::body(got)),
                }
            }
        }
    }

    fn json(&mut self, field: &str, expected: &Value, got: &[u8]) {
        match serde_json::from_slice::<Value>(got) {
            Err(_) => self.find(field, format!("JSON: {expected}"), shown::body(got)),
            Ok(got) => {
                if let Some((path, expected, got)) = shown::first_difference(field.to_owned(), expected, &got) {
                    self.find(path, expected, got);
                }
            }
        }
    }
}

/// Values of a name, whatever its case.
fn all<'a>(lines: &'a Lines, name: &'a str) -> impl Iterator<Item = &'a str> {
    lines.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The values of a name as one.
pub(crate) fn value(lines: &Lines, name: &str) -> Option<String> {
    let values: Vec<_> = all(lines, name).collect();
    (!values.is_empty()).then(|| values.join(", "))
}
