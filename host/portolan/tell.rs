//! The model in words: each part of it has one function that tells it, for `explain`, `test` and `diff` alike.

mod balancer;
mod cluster;
mod edge_policy;
mod listener;
mod paths;
mod plugin;
mod route;
mod transport;

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[cfg(test)]
pub(crate) use cluster::plain;
pub(crate) use cluster::{endpoints, limits, policies, policies_origin};
pub(crate) use edge_policy::{edge_policy, own_headers};
pub(crate) use listener::filter_chain;
pub(crate) use paths::paths;
pub(crate) use plugin::plugin;
pub(crate) use route::{aborted, action, conditions, headers, retries, share};

/// One thing that the model says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// What it is about, by the field's name in Istio: `timeout`, `retries`, `outlierDetection`.
    pub kind: String,
    /// In words; without the kind's name when it says so by itself.
    pub text: String,
    /// `file:line`; empty when it stands nowhere, as a default does.
    pub place: String,
}

impl Told {
    fn new(kind: &str, text: impl Into<String>, place: Option<String>) -> Self {
        Self { kind: kind.to_owned(), text: text.into(), place: place.unwrap_or_default() }
    }
}

/// Fields that have no function of their own, as the model's dump has them: what is new in the model is told at least so.
/// What is off, empty or absent is left out, and so are places and numbers of clusters, which mean nothing.
pub(crate) fn others(value: &impl Serialize, known: &[&str]) -> Vec<Told> {
    let Ok(Value::Object(fields)) = serde_json::to_value(value) else { return Vec::new() };
    let unknown = fields.into_iter().filter(|(name, _)| !known.contains(&name.as_str()));
    unknown.filter_map(|(name, value)| Some(Told::new(&camel(&name), bare(value)?.to_string(), None))).collect()
}

/// None for what says nothing.
fn bare(value: Value) -> Option<Value> {
    let value = match value {
        Value::Object(fields) => {
            let means = |name: &String| name != "origin" && name != "cluster";
            let fields = fields.into_iter().filter(|(name, _)| means(name));
            Value::Object(fields.filter_map(|(name, value)| Some((name, bare(value)?))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(bare).collect()),
        other => other,
    };
    let says_nothing = match &value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    (!says_nothing).then_some(value)
}

/// `slow_start` as Istio would spell it.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let (head, rest) = word.split_at(word.len().min(1));
        all + &head.to_ascii_uppercase() + rest
    })
}

/// `5 s`, `250 ms`.
pub(crate) fn time(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

/// A text in quotes, with what a terminal would obey escaped.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", portolan_config::render::escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_words_are_told_as_they_are() {
        let value = serde_json::json!({
            "timeout_ms": 5,
            "slow_start": {"window_ms": 3, "origin": {"line": 7}, "cluster": 4},
            "mirrors": [],
            "off": false,
            "none": null,
        });
        let told = others(&value, &["timeout_ms"]);
        assert_eq!(told, [Told::new("slowStart", r#"{"window_ms":3}"#, None)]);
    }
}
