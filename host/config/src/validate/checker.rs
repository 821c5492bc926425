//! [`Checker`]: collects the findings of one object.

use std::collections::HashMap;

use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::hosts;
use crate::object::Object;
use crate::suggest;

/// Collects the findings of one object. Paths are those of [`Object::place`].
pub(super) struct Checker<'a, T> {
    object: &'a Object<T>,
    found: Vec<Diagnostic>,
}

impl<'a, T> Checker<'a, T> {
    pub(super) fn new(object: &'a Object<T>) -> Self {
        Self { object, found: Vec::new() }
    }

    /// The namespace of the object.
    pub(super) fn namespace(&self) -> &'a str {
        &self.object.meta.namespace
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.found
    }

    /// An error at the value of `path`.
    pub(super) fn error(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        self.found.push(Diagnostic::error(code, self.object.place(path), message));
    }

    /// An error at line, column and length of the text of an annotation, as near as can be: the text of a block (`|`)
    /// begins in the line after its key, two columns further in than that, and one in quotes behind the first quote.
    pub(super) fn error_within(&mut self, code: &'static str, path: &str, spot: (u32, u32, u32), message: String) {
        let (mut place, key) = (self.object.place(path), self.object.key_place(path));
        let name = path.strip_prefix("metadata.annotations.").unwrap_or_default();
        let text = self.object.meta.annotations.get(name).map(String::as_str).unwrap_or_default();
        let (line, column, length) = spot;
        if text.contains('\n') {
            (place.line, place.column) = (key.line + line, key.column + 1 + column);
        } else {
            let is_quoted = place.length as usize > text.chars().count();
            place.column += column.saturating_sub(1) + u32::from(is_quoted);
        }
        place.length = length;
        self.found.push(Diagnostic::error(code, place, message));
    }

    /// A warning at the key of `path`.
    pub(super) fn warn_at_key(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        self.found.push(Diagnostic::warning(code, self.object.key_place(path), message));
    }

    /// An error at the key of `path`.
    pub(super) fn error_at_key(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        self.found.push(Diagnostic::error(code, self.object.key_place(path), message));
    }

    /// A warning at the value of `path`.
    pub(super) fn warn(&mut self, code: &'static str, path: &str, message: impl Into<String>) {
        self.found.push(Diagnostic::warning(code, self.object.place(path), message));
    }

    /// Adds the text beside the caret of the last finding.
    pub(super) fn label(&mut self, label: impl Into<String>) {
        if let Some(last) = self.found.last_mut() {
            last.label = Some(label.into());
        }
    }

    /// Adds a suggestion to the last finding.
    pub(super) fn help(&mut self, help: impl Into<String>) {
        if let Some(last) = self.found.last_mut() {
            last.help = Some(help.into());
        }
    }

    /// A required field is missing: points at the parent's key.
    pub(super) fn missing(&mut self, parent: &str, field: &str) {
        self.error_at_key("P0101", parent, format!("`{field}` is required"));
    }

    /// A port number.
    pub(super) fn port(&mut self, path: &str, number: u32) {
        if number == 0 || number > 65_535 {
            self.error("P0104", path, format!("{number} is not a port number"));
            self.label("1 to 65535");
        }
    }

    /// A duration, when present. `zero` tells whether nothing is allowed.
    pub(super) fn duration(&mut self, path: &str, text: Option<&String>, zero: bool) {
        let Some(text) = text else { return };
        match duration::parse_ms(text) {
            None => {
                self.error("P0105", path, format!("`{text}` is not a duration"));
                self.label("a number with a unit: `5s`, `100ms`, `1m`, `1h`");
            }
            Some(0) if !zero => {
                self.error("P0105", path, format!("`{text}` is too short"));
                self.label("at least `1ms`");
            }
            Some(_) if !duration::is_whole_ms(text) => {
                self.error("P0105", path, format!("`{text}` has a part of a millisecond"));
                self.label("whole milliseconds, at least `1ms`");
            }
            Some(_) => {}
        }
    }

    /// A duration of which Istio's API says that nothing switches it off, which its admission refuses all the same.
    pub(super) fn duration_or_off(&mut self, path: &str, text: Option<&String>) {
        self.duration(path, text, true);
        if let Some(text) = text.filter(|text| duration::parse_ms(text) == Some(0)) {
            self.warn(
                "P0105",
                path,
                format!("`{text}` switches this off, as the API says, and Istio's admission refuses it"),
            );
            self.help("write a long time, such as `24h`");
        }
    }

    /// A name of one label, as Kubernetes has them: letters, digits, and `-` between them.
    pub(super) fn label_name(&mut self, path: &str, what: &str, name: &str) {
        if !is_dns_label(name) {
            self.error("P0103", path, format!("`{name}` is not {what}"));
            self.label("letters, digits and `-` between them, at most 63");
        }
    }

    /// Labels of workloads, as Istio takes them: each part of letters, digits and `-`, `_`, `.` between them.
    pub(super) fn labels<'v>(&mut self, path: &str, labels: impl IntoIterator<Item = (&'v String, &'v String)>) {
        for (name, value) in labels {
            let path = format!("{path}.{name}");
            if !is_label_key(name) {
                self.error_at_key("P0103", &path, format!("`{name}` is not the name of a label"));
                self.label("at most 63 letters, digits, `-`, `_` and `.`, after a domain and `/` at most");
            } else if !value.is_empty() && !is_label_word(value) {
                self.error("P0103", &path, format!("`{value}` is not the value of a label"));
                self.label("at most 63 letters, digits, `-`, `_` and `.`");
            }
        }
    }

    /// The name of a service, which an address is not.
    pub(super) fn service(&mut self, path: &str, name: &str) {
        if name.parse::<std::net::IpAddr>().is_ok() {
            self.error("P0103", path, format!("`{name}` is an address, not the name of a service"));
            self.help("give it a ServiceEntry with `endpoints`");
        } else {
            self.host(path, name, true);
        }
    }

    /// A wildcard that Istio's admission takes and that nothing goes by.
    pub(super) fn partial_wildcard(&mut self, path: &str, name: &str, what: &str) {
        if hosts::is_partial(name) {
            self.warn("P0351", path, format!("no {what} is found by `{name}`: the star stands for whole labels"));
            self.help("write `*.suffix`");
        }
    }

    /// A host name.
    pub(super) fn host(&mut self, path: &str, name: &str, wildcard: bool) {
        if let Some(fault) = hosts::fault_of(name, wildcard) {
            self.error("P0103", path, format!("`{name}` is not a host name"));
            self.label(fault);
        }
    }

    /// A word out of a list, when present.
    pub(super) fn word(&mut self, path: &str, word: Option<&String>, known: &[&str]) {
        let Some(word) = word else { return };
        if known.contains(&word.as_str()) {
            return;
        }
        self.error("P0116", path, format!("`{word}` is not a value of this field"));
        self.label(format!("one of {}", known.join(", ")));
        if let Some(near) = suggest::nearest(&word.to_ascii_uppercase(), known.iter().copied()) {
            self.help(format!("did you mean `{near}`?"));
        }
    }

    /// A whole number within bounds.
    pub(super) fn range(&mut self, path: &str, number: i64, low: i64, high: i64) {
        if number < low || number > high {
            self.error("P0117", path, format!("{number} is out of range"));
            self.label(if high == i64::MAX { format!("at least {low}") } else { format!("{low} to {high}") });
        }
    }

    /// Names that must not repeat: `(path, name)`.
    pub(super) fn unique(&mut self, what: &str, names: impl IntoIterator<Item = (String, String)>) {
        let mut first: HashMap<String, String> = HashMap::new();
        for (path, name) in names {
            if let Some(earlier) = first.get(&name) {
                let line = self.object.place(earlier).line;
                self.error("P0114", &path, format!("{what} `{name}` is there twice"));
                self.label(format!("first in line {line}"));
            } else {
                first.insert(name, path);
            }
        }
    }
}

/// A word, or a domain, `/` and a word.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && domain.split('.').all(is_dns_label) && is_label_word(name),
        None => is_label_word(key),
    }
}

fn is_label_word(word: &str) -> bool {
    let between = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    word.len() <= 63 && ends(word.bytes().next()) && ends(word.bytes().last()) && word.bytes().all(between)
}

/// Letters, digits, and `-` between them, at most 63.
pub(super) fn is_dns_label(label: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(fits)
        && !label.starts_with('-')
        && !label.ends_with('-')
}
