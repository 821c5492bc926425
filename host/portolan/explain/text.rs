//! An [`Explanation`] as text: one row for each part, places at the end of the line.

use super::tcp::TcpExplanation;
use super::tree::{Explanation, FilterPart, ListenerPart, RulePart, SharePart, Source};
use crate::change::number;
use crate::tell::Told;

/// Width of the label column.
const LABEL: usize = 12;
/// The text column grows to at most this; longer texts push their place to the right.
const WIDEST: usize = 66;
/// Above twice this many rules that did not match, the middle ones are counted and not shown.
const SHOWN: usize = 10;
/// Actions of rules that answer by themselves.
const OWN_ANSWERS: [&str; 2] = ["redirect", "directResponse"];

/// One line: label, text, and who brought it.
struct Row {
    label: &'static str,
    text: String,
    object: String,
    place: String,
}

impl Row {
    fn new(label: &'static str, text: String, source: &Source) -> Self {
        Self { label, text, object: source.object.clone(), place: source.place.clone() }
    }

    fn told(label: &'static str, text: String, told: &Told) -> Self {
        Self { label, text, object: String::new(), place: told.place.clone() }
    }

    /// Without the object, which an earlier row names.
    fn place_only(label: &'static str, text: String, source: &Source) -> Self {
        Self { object: String::new(), ..Self::new(label, text, source) }
    }
}

/// The whole text.
pub(crate) fn render(explanation: &Explanation) -> String {
    let mut rows = Vec::new();
    head(explanation, &mut rows);
    rules(explanation, &mut rows);
    changes(explanation, &mut rows);
    filters(&explanation.filters, &mut rows);
    destinations(&explanation.split, &mut rows);
    policies(explanation, &mut rows);
    rows.push(Row::new("answer", answer(explanation), &Source::default()));
    layout(&rows)
}

/// The whole text for a connection.
pub(crate) fn render_tcp(explanation: &TcpExplanation) -> String {
    let mut rows = Vec::new();
    listener(&explanation.listener, "TCP", &mut rows);
    rows.push(Row::new("rule", "takes every connection".to_owned(), &explanation.rule));
    filters(&explanation.filters, &mut rows);
    destinations(&explanation.split, &mut rows);
    let policy = &explanation.policy;
    rows.push(Row::place_only("policy", policy.text.clone(), &policy.source.clone().unwrap_or_default()));
    rows.push(Row::new("answer", explanation.answer.clone(), &Source::default()));
    layout(&rows)
}

fn head(explanation: &Explanation, rows: &mut Vec<Row>) {
    let request = &explanation.request;
    let text = format!("{} {}{}", request.method, request.authority, request.path);
    rows.push(Row::new("request", text, &Source::default()));
    listener(&explanation.listener, "HTTP", rows);
    match &explanation.host {
        Some(host) => rows.push(Row::new("host", format!("{} ({})", host.domain, host.kind), &host.source)),
        None => rows.push(Row::new("host", "none fits".to_owned(), &Source::default())),
    }
}

fn listener(listener: &ListenerPart, protocol: &str, rows: &mut Vec<Row>) {
    let mut text = format!("{} {protocol}", listener.address);
    if !listener.address.ends_with(&format!(":{}", listener.server_port)) {
        text.push_str(&format!(" (port {} of the Gateway)", listener.server_port));
    }
    let first = listener.sources.first().cloned().unwrap_or_default();
    rows.push(Row::new("listener", text, &first));
    rows.extend(listener.sources.iter().skip(1).map(|source| Row::new("", "and".to_owned(), source)));
}

/// Rules of several resources may be merged in one host: those of others than the host's own are told with their object.
fn rules(explanation: &Explanation, rows: &mut Vec<Row>) {
    let rules = &explanation.rules;
    let own = explanation.host.as_ref().map(|host| host.source.object.as_str()).unwrap_or_default();
    let row = |text: String, rule: &RulePart| match rule.source.object == own {
        true => Row::place_only("", text, &rule.source),
        false => Row::new("", text, &rule.source),
    };
    let (reached, unreached): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.verdict != "not reached");
    let first = rows.len();
    let hidden = if reached.len() > 2 * SHOWN { SHOWN..reached.len() - SHOWN } else { 0..0 };
    for (index, rule) in reached.iter().enumerate() {
        if hidden.contains(&index) {
            if index == hidden.start {
                let text = format!("   ... {} that did not match", number(hidden.len(), "rule"));
                rows.push(Row::new("", text, &Source::default()));
            }
            continue;
        }
        let mark = if rule.verdict == "yes" { "->" } else { "  " };
        let text = format!("{mark} {}  {:<3}  {}", rule.number, rule.verdict, rule.reason);
        rows.push(row(text, rule));
        if let Some(root) = rule.delegated_from.as_ref().filter(|_| rule.verdict == "yes") {
            rows.push(Row::new("", "        delegated from".to_owned(), root));
        }
    }
    match unreached.as_slice() {
        [] => {}
        [rule] => rows.push(row(format!("   {}  not reached", rule.number), rule)),
        [from, .., to] => {
            let text = format!("   {} to {}  not reached", from.number, to.number);
            rows.push(Row::place_only("", text, &from.source));
        }
    }
    if let Some(row) = rows.get_mut(first) {
        row.label = "rules";
    }
}

/// What is done to the request and its response, in order, and what the upstream would see where that is something else.
fn changes(explanation: &Explanation, rows: &mut Vec<Row>) {
    let of = |kind: &'static str| explanation.actions.iter().filter(move |told| told.kind == kind);
    for kind in OWN_ANSWERS {
        rows.extend(of(kind).map(|told| Row::told("action", told.text.clone(), told)));
    }
    let begin = rows.len();
    rows.extend(of("rewrite").map(|told| Row::told("", told.text.clone(), told)));
    label(rows, begin, "rewrite");
    let begin = rows.len();
    let (several, split) = (explanation.split.len() > 1, &explanation.split);
    for kind in ["headers.request", "headers.response"] {
        // In Envoy's order: the destination's scope first.
        for share in split.iter().filter(|_| several) {
            let own = share.headers.iter().filter(|told| told.kind == kind);
            rows.extend(own.map(|told| Row::told("", format!("{} for {}", told.text, share.name), told)));
        }
        rows.extend(of(kind).map(|told| Row::told("", told.text.clone(), told)));
    }
    label(rows, begin, "headers");
    let begin = rows.len();
    let request = &explanation.request;
    for share in split {
        let Some(sent) = &share.sent else { continue };
        if sent.path != request.path || sent.host != request.authority {
            let to = if several { format!(" to {}", share.name) } else { String::new() };
            rows.push(Row::new("", format!("{} {}{}{to}", request.method, sent.host, sent.path), &Source::default()));
        }
    }
    label(rows, begin, "sent");
}

/// Names the first row of a group.
fn label(rows: &mut [Row], first: usize, label: &'static str) {
    if let Some(row) = rows.get_mut(first) {
        row.label = label;
    }
}

/// Of the rule, and then of each cluster.
fn policies(explanation: &Explanation, rows: &mut Vec<Row>) {
    let begin = rows.len();
    let elsewhere = |told: &&Told| {
        let kind = told.kind.as_str();
        kind != "rewrite" && !OWN_ANSWERS.contains(&kind) && !kind.starts_with("headers.")
    };
    rows.extend(explanation.actions.iter().filter(elsewhere).map(|told| Row::told("", told.text.clone(), told)));
    let split = &explanation.split;
    let is_everywhere = |told: &Told| split.iter().all(|share| share.policies.contains(told));
    for (index, share) in split.iter().enumerate() {
        for told in &share.policies {
            match is_everywhere(told) {
                true if index == 0 => rows.push(Row::told("", told.text.clone(), told)),
                true => {}
                false => rows.push(Row::told("", format!("{}: {}", share.name, told.text), told)),
            }
        }
    }
    label(rows, begin, "policy");
}

fn answer(explanation: &Explanation) -> String {
    match &explanation.chosen {
        Some(chosen) => format!("{}; this user always to {chosen}", explanation.answer.text),
        None => explanation.answer.text.clone(),
    }
}

fn filters(filters: &[FilterPart], rows: &mut Vec<Row>) {
    let mut label = "filters";
    for filter in filters {
        let text = match filter.source {
            None => format!("{:<24} {}", filter.name, filter.code),
            Some(_) => {
                let closed = if filter.fail_policy == "FAIL_OPEN" { "open on failure" } else { "closed on failure" };
                format!("{:<24} {}, {closed}", filter.name, filter.phase)
            }
        };
        rows.push(Row::new(label, text, &filter.source.clone().unwrap_or_default()));
        label = "";
    }
}

fn destinations(split: &[SharePart], rows: &mut Vec<Row>) {
    let mut label = "split";
    for share in split.iter().filter(|_| split.len() > 1) {
        rows.push(Row::place_only(label, format!("{} {} %", share.name, share.percent), &share.source));
        label = "";
    }
    label = "cluster";
    for share in split {
        let text = match (share.exists, share.endpoints.as_slice()) {
            (false, _) => format!("{}  does not exist", share.name),
            (true, []) => format!("{}  no endpoint", share.name),
            (true, all) => format!("{}  {}  {}", share.name, number(all.len(), "endpoint"), all.join(", ")),
        };
        rows.push(Row::new(label, text, &share.cluster_source.clone().unwrap_or_default()));
        label = "";
    }
}

/// Objects stand in one column, places in another; a row without an object may reach into the objects' column.
fn layout(rows: &[Row]) -> String {
    let width = |text: &str| text.chars().count();
    let text_width = rows.iter().filter(|row| !row.object.is_empty()).map(|row| width(&row.text)).max();
    let text_width = text_width.unwrap_or(0).min(WIDEST);
    let left = |row: &Row| format!("{:<LABEL$}{:<text_width$}  {}", row.label, row.text, row.object);
    let placed = rows.iter().filter(|row| !row.place.is_empty());
    let left_width = placed.map(|row| width(left(row).trim_end())).max().unwrap_or(0);
    let line = |row: &Row| format!("{:<left_width$}  {}", left(row).trim_end(), row.place);
    rows.iter().map(|row| line(row).trim_end().to_owned() + "\n").collect()
}
