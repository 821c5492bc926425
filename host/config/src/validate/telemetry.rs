//! Checks of a Telemetry.

use std::panic::catch_unwind;

use cel::parser::Parser;

use super::checker::Checker;
use super::selector;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::Telemetry;
use crate::resources::istio::telemetry::{MetricsEntry, TracingEntry};

/// Values of `match.mode`.
const MODES: &[&str] = &["CLIENT_AND_SERVER", "CLIENT", "SERVER"];

/// Values of `match.metric`.
const METRICS: &[&str] = &[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
];

/// What an expression nests by: brackets, and operators, each of which is a level of its own.
const NESTING: &[u8] = b"([{?.+-*/%=<>!&|,:";

/// Most of them in an expression that is looked at here.
const MAX_NESTING: usize = 256;

/// Most characters of what the parser says.
const MAX_REASON: usize = 120;

fn check_metrics(checker: &mut Checker<'_, Telemetry>, path: &str, entry: &MetricsEntry) {
    for (i, change) in entry.overrides.iter().enumerate() {
        let path = format!("{path}.overrides[{i}]");
        if let Some(matches) = &change.matches {
            checker.word(&format!("{path}.match.mode"), matches.mode.as_ref(), MODES);
            checker.word(&format!("{path}.match.metric"), matches.metric.as_ref(), METRICS);
            if matches.custom_metric.as_ref().is_some_and(String::is_empty) {
                checker.error("P0102", &format!("{path}.match.customMetric"), "an empty name is no metric's");
            }
            if matches.metric.is_some() && matches.custom_metric.is_some() {
                checker.error_at_key(
                    "P0102",
                    &format!("{path}.match.customMetric"),
                    "`metric` is there too: one of both",
                );
            }
        }
        for (label, tag) in &change.tag_overrides {
            let path = format!("{path}.tagOverrides.{label}");
            checker.word(&format!("{path}.operation"), tag.operation.as_ref(), &["UPSERT", "REMOVE"]);
            let has_value = tag.value.as_ref().is_some_and(|value| !value.is_empty());
            match tag.operation.as_deref() {
                Some("REMOVE") if has_value => {
                    checker.error_at_key("P0102", &format!("{path}.value"), "a label that is removed has no value");
                }
                Some("REMOVE") => {}
                _ if !has_value => checker.missing(&path, "value"),
                _ => {}
            }
        }
    }
}

/// As Istio's admission has it: what does not parse is refused, and nothing else.
fn check_filter(checker: &mut Checker<'_, Telemetry>, path: &str, expression: &str) {
    if expression.trim().is_empty() {
        checker.missing(path, "expression");
        return;
    }
    // Parsing takes stack. What is left out here is too much for the gateway too, which says so when the log is opened.
    if expression.bytes().filter(|byte| NESTING.contains(byte)).count() > MAX_NESTING {
        return;
    }
    // A panic of the library is no word about the expression: what cannot be made of it is told when the log is opened.
    let Ok(Err(errors)) = catch_unwind(|| Parser::new().parse(expression)) else { return };
    checker.error("P0354", &format!("{path}.expression"), "the filter's expression is no CEL");
    if let Some(error) = errors.errors.first() {
        // Of what it expects instead there would be a page.
        let text = error.msg.split(" expecting ").next().unwrap_or_default();
        let shown: String = text.lines().next().unwrap_or_default().chars().take(MAX_REASON).collect();
        checker.label(shown.trim_start_matches("Syntax error: ").to_owned());
    }
}

fn check_tracing(checker: &mut Checker<'_, Telemetry>, path: &str, entry: &TracingEntry) {
    checker.word(&format!("{path}.match.mode"), entry.matches.as_ref().and_then(|m| m.mode.as_ref()), MODES);
    for (i, _) in entry.providers.iter().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
        checker.missing(&format!("{path}.providers[{i}]"), "name");
    }
    if entry.providers.len() > 1 {
        checker.warn_at_key("P0102", &format!("{path}.providers"), "the first provider counts, and no other");
    }
    if let Some(percent) = entry.random_sampling_percentage.filter(|percent| !(0.0..=100.0).contains(percent)) {
        checker.error("P0117", &format!("{path}.randomSamplingPercentage"), format!("{percent} is out of range"));
        checker.label("0 to 100");
    }
    for (name, tag) in entry.custom_tags.iter().flatten() {
        let path = format!("{path}.customTags.{name}");
        let texts = [("literal", tag.literal.as_ref()), ("formatter", tag.formatter.as_ref())];
        let sources = [("environment", tag.environment.as_ref()), ("header", tag.header.as_ref())];
        let given = texts.iter().filter(|(_, text)| text.is_some()).count()
            + sources.iter().filter(|(_, source)| source.is_some()).count();
        if name.is_empty() || given > 1 {
            checker.error_at_key("P0102", &path, "a tag has a name and one source");
        }
        if given == 0 {
            checker.warn_at_key("P0101", &path, "a tag without a source has no value");
        }
        for (kind, _) in texts.iter().filter(|(_, text)| text.is_some_and(|text| text.value.is_empty())) {
            checker.missing(&format!("{path}.{kind}"), "value");
        }
        for (kind, _) in sources.iter().filter(|(_, source)| source.is_some_and(|source| source.name.is_empty())) {
            checker.missing(&format!("{path}.{kind}"), "name");
        }
    }
}

/// Checks a Telemetry by itself.
pub fn telemetry(object: &Object<Telemetry>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    selector::check(&mut checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    for (i, logging) in object.spec.access_logging.iter().enumerate() {
        let path = format!("spec.accessLogging[{i}]");
        let mode = logging.matches.as_ref().and_then(|matches| matches.mode.as_ref());
        checker.word(&format!("{path}.match.mode"), mode, MODES);
        for (j, provider) in logging.providers.iter().enumerate() {
            if provider.name.is_empty() {
                checker.missing(&format!("{path}.providers[{j}]"), "name");
            }
        }
        if let Some(filter) = &logging.filter {
            check_filter(&mut checker, &format!("{path}.filter"), &filter.expression);
        }
    }
    for (i, entry) in object.spec.tracing.iter().enumerate() {
        check_tracing(&mut checker, &format!("spec.tracing[{i}]"), entry);
    }
    for (i, entry) in object.spec.metrics.iter().enumerate() {
        for (j, _) in entry.providers.iter().enumerate().filter(|(_, provider)| provider.name.is_empty()) {
            checker.missing(&format!("spec.metrics[{i}].providers[{j}]"), "name");
        }
        check_metrics(&mut checker, &format!("spec.metrics[{i}]"), entry);
    }
    checker.finish()
}
