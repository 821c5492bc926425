//! How `route-match` and `traffic-split` are started: with names only, for they ask for rules and splits while they serve
//! (see [`crate::handover`]), or with everything.

use portolan_model::Model;
use portolan_model::filter::{RouteMatchConfig, TrafficSplitConfig};

use super::Builder;
use crate::build_problem::BuildProblem;
use crate::generation::Role;
use crate::snapshot::Attached;

const MATCHER: (&str, Role) = ("route-match", Role::RouteMatch);
const SPLIT: (&str, Role) = ("traffic-split", Role::TrafficSplit);

impl Builder {
    /// Both; those that are to explain what they try are told everything.
    pub(super) fn decisions(&self, model: &Model, problems: &mut Vec<BuildProblem>) -> Option<Vec<Attached>> {
        let explain = self.options.explain;
        let (matches, splits) = (|| RouteMatchConfig::of(model, explain), || TrafficSplitConfig::of(model));
        if explain {
            return Some(vec![
                self.attach_bundled(MATCHER.0, MATCHER.1, &matches(), problems)?,
                self.attach_bundled(SPLIT.0, SPLIT.1, &splits(), problems)?,
            ]);
        }
        Some(vec![
            self.on_demand(MATCHER, &RouteMatchConfig::on_demand(model), matches, problems)?,
            self.on_demand(SPLIT, &TrafficSplitConfig::on_demand(), splits, problems)?,
        ])
    }

    /// A file in a decision filter's place that does not ask for rules refuses to start so, and is told everything.
    fn on_demand<T: serde::Serialize>(
        &self,
        (name, role): (&'static str, Role),
        config: &T,
        whole: impl FnOnce() -> T,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Attached> {
        let (mut refused, mut told) = (Vec::new(), Vec::new());
        let attached = self.attach_bundled(name, role, config, &mut refused);
        if refused.iter().any(|problem| problem.config.is_some()) {
            let attached = self.attach_bundled(name, role, &whole(), &mut told);
            if told.is_empty() {
                return attached;
            }
        }
        problems.extend(refused);
        attached
    }
}
