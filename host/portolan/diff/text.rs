//! A report as text: one line for each change, its fields below it.

use std::fmt::Write;

use super::{Change, Field, Report, What};
use crate::change::number;

/// Hosts that are named; further ones are counted.
const NAMED: usize = 3;

/// The whole text.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for change in &report.changes {
        line(change, &mut text);
        for Field { name, old, new } in &change.fields {
            let values = match (old.is_empty(), new.is_empty()) {
                (true, true) => "changed".to_owned(),
                (true, false) => format!("none -> {new}"),
                (false, true) => format!("{old} -> none"),
                (false, false) => format!("{old} -> {new}"),
            };
            let _ = writeln!(text, "    {name}: {values}");
        }
    }
    text.push_str(&summary(&report.changes));
    if let Some(traffic) = &report.traffic {
        text.push_str(&traffic.text());
    }
    text
}

fn line(change: &Change, text: &mut String) {
    let mark = match change.what {
        What::Added => '+',
        What::Removed => '-',
        What::Changed => '~',
        What::Moved => '>',
    };
    let subject = if change.subject.is_empty() { String::new() } else { format!("  {}", change.subject) };
    let shown = change.hosts.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more =
        if change.hosts.len() > NAMED { format!(" and {} more", change.hosts.len() - NAMED) } else { String::new() };
    let hosts = if shown.is_empty() { shown } else { format!("  for {shown}{more}") };
    let place = match (change.old.as_str(), change.new.as_str()) {
        ("", "") => String::new(),
        ("", place) | (place, "") => format!("  ({place})"),
        (old, new) if old == new => format!("  ({new})"),
        (old, new) => format!("  ({old} -> {new})"),
    };
    let _ = writeln!(text, "{mark} {:<11}{subject}{hosts}{place}", change.kind);
}

/// `1 added, 2 changed`.
fn summary(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no change in meaning\n".to_owned();
    }
    let kinds =
        [(What::Added, "added"), (What::Removed, "removed"), (What::Changed, "changed"), (What::Moved, "moved")];
    let counts =
        kinds.into_iter().map(|(what, word)| (changes.iter().filter(|change| change.what == what).count(), word));
    let counts: Vec<_> =
        counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("{}: {}\n", number(changes.len(), "change"), counts.join(", "))
}
