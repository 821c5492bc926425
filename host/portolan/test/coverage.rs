//! [`Coverage`]: which rules the tests reach.

use std::collections::BTreeSet;
use std::fmt::Write;

use portolan_config::{Diagnostic, Place, Sources, render_github};
use portolan_model::{Model, Origin, Route, RouteId};
use serde_json::{Value, json};

use crate::change::number;
use crate::explain::{Explanation, source};
use crate::tell;

/// Code of a rule that no test reaches.
const UNREACHED: &str = "P0603";

/// Rules of a model, and those that a test has reached.
#[derive(Debug)]
pub(super) struct Coverage {
    rules: Vec<Rule>,
    /// Their places with the column, as a line may hold several, and those of the rules that delegate to them.
    reached: BTreeSet<(String, u32, Option<String>)>,
}

/// A match of a rule. One that several listeners serve counts once, a delegate's once for each rule that delegates to it.
#[derive(Debug)]
struct Rule {
    file: std::sync::Arc<str>,
    line: u32,
    column: u32,
    place: String,
    object: String,
    /// Where the rule that delegates to it stands.
    from: Option<String>,
    when: String,
}

impl Coverage {
    /// Nothing is reached yet.
    pub(super) fn of(model: &Model) -> Self {
        let served: BTreeSet<RouteId> = model
            .route_tables
            .iter()
            .flat_map(|table| &table.virtual_hosts)
            .flat_map(|host| host.routes.clone())
            .collect();
        let mut seen = BTreeSet::new();
        let routes =
            served.iter().filter_map(|id| model.routes.get(*id as usize)).filter(|route| route.origin.line() > 0);
        let from = |route: &Route| route.delegated_from.as_deref().map(Origin::place);
        let new = routes.filter(|route| seen.insert((route.origin.place(), route.origin.column(), from(route))));
        let rules = new.map(|route| Rule {
            from: from(route),
            file: route.origin.file(),
            line: route.origin.line(),
            column: route.origin.column(),
            place: route.origin.place(),
            object: source(&route.origin).object,
            when: tell::conditions(&route.matches),
        });
        Self { rules: rules.collect(), reached: BTreeSet::new() }
    }

    /// Counts the rule that a request has taken.
    pub(super) fn note(&mut self, explanation: &Explanation) {
        let taken = explanation.rules.iter().filter(|rule| rule.verdict == "yes");
        self.reached.extend(taken.map(|rule| {
            (rule.source.place.clone(), rule.column, rule.delegated_from.as_ref().map(|from| from.place.clone()))
        }));
    }

    fn unreached(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| !self.reached.contains(&(rule.place.clone(), rule.column, rule.from.clone())))
    }

    fn count(&self) -> usize {
        self.rules.len() - self.unreached().count()
    }

    /// Of the rules that are served; 100 when there is none.
    pub(super) fn percent(&self) -> f64 {
        if self.rules.is_empty() { 100.0 } else { self.count() as f64 * 100.0 / self.rules.len() as f64 }
    }

    /// `3 of 4 rules are reached (75.0 %)`.
    pub(super) fn summary(&self) -> String {
        format!("{} of {} are reached ({:.1} %)", self.count(), number(self.rules.len(), "rule"), self.percent())
    }

    /// The summary, and a line for each rule that is not reached.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", self.summary());
        let widest = self.unreached().map(|rule| rule.place.len()).max().unwrap_or_default();
        for Rule { place, object, from, when, .. } in self.unreached() {
            let from = from.as_ref().map(|from| format!("  delegated from {from}")).unwrap_or_default();
            let _ = writeln!(text, "  not reached  {place:<widest$}  {object}  {when}{from}");
        }
        text
    }

    /// As part of the report.
    pub(super) fn json(&self) -> Value {
        let rule =
            |rule: &Rule| json!({ "file": &*rule.file, "line": rule.line, "object": rule.object, "when": rule.when });
        json!({
            "rules": self.rules.len(),
            "reached": self.count(),
            "percent": (self.percent() * 10.0).round() / 10.0,
            "unreached": self.unreached().map(rule).collect::<Vec<_>>(),
        })
    }

    /// A warning at each rule that is not reached.
    pub(super) fn github(&self) -> String {
        let finding = |rule: &Rule| {
            let place = Place { file: rule.file.clone(), line: rule.line, column: rule.column.max(1), length: 1 };
            Diagnostic::warning(UNREACHED, place, format!("no route test reaches this rule: {}", rule.when))
        };
        render_github(&self.unreached().map(finding).collect::<Vec<_>>(), &Sources::default())
    }
}
