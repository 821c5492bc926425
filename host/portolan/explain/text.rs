//! An [`Explanation`] as text: one row for each part, places at the end of the line.

use super::tcp::TcpExplanation;
use super::tree::{Explanation, FilterPart, ListenerPart, RulePart, SharePart, Source};
use crate::change::number;

/// Width of the label column.
const LABEL: usize = 12;
/// The text column grows to at most this; longer texts push their place to the right.
const WIDEST: usize = 66;
/// Above twice this many rules that did not match, the middle ones are counted and not shown.
const SHOWN: usize = 10;

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

    /// Without the object, which an earlier row names.
    fn place_only(label: &'static str, text: String, source: &Source) -> Self {
        Self { object: String::new(), ..Self::new(label, text, source) }
    }
}

/// The whole text.
pub(crate) fn render(explanation: &Explanation) -> String {
    let mut rows = Vec::new();
    head(explanation, &mut rows);
    rules(&explanation.rules, &mut rows);
    filters(&explanation.filters, &mut rows);
    destinations(&explanation.split, &mut rows);
    if let Some(policy) = &explanation.policy {
        rows.push(Row::place_only("policy", policy.text.clone(), &policy.source.clone().unwrap_or_default()));
    }
    rows.push(Row::new("answer", explanation.answer.text.clone(), &Source::default()));
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

fn rules(rules: &[RulePart], rows: &mut Vec<Row>) {
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
        rows.push(Row::place_only("", text, &rule.source));
        if let Some(root) = rule.delegated_from.as_ref().filter(|_| rule.verdict == "yes") {
            rows.push(Row::new("", "        delegated from".to_owned(), root));
        }
    }
    match unreached.as_slice() {
        [] => {}
        [rule] => rows.push(Row::place_only("", format!("   {}  not reached", rule.number), &rule.source)),
        [from, .., to] => {
            let text = format!("   {} to {}  not reached", from.number, to.number);
            rows.push(Row::place_only("", text, &from.source));
        }
    }
    if let Some(row) = rows.get_mut(first) {
        row.label = "rules";
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
