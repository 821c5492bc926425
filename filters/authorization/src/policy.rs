//! [`Policies`]: what may pass. Semantics: Envoy's `rbac` filter as Istio configures it.

use portolan_sdk::HostError;

use crate::config::Action;
use crate::facts::Facts;
use crate::test::Test;

/// All policies of a gateway.
#[derive(Debug, Default)]
pub struct Policies {
    deny: Vec<(String, Rule)>,
    allow: Vec<(String, Rule)>,
    /// There is a policy that allows, even if it has no rule: what none of them names is refused.
    pub(crate) has_allow: bool,
}

/// One rule; an empty part holds.
#[derive(Debug, Default)]
pub struct Rule {
    /// Who asks: one of these, each with all its conditions.
    pub(crate) from: Vec<Vec<Condition>>,
    /// What for: one of these, each with all its conditions.
    pub(crate) to: Vec<Vec<Condition>>,
    /// All of these.
    pub(crate) when: Vec<Condition>,
}

/// A test, or its opposite.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) test: Test,
    pub(crate) is_not: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It goes on.
    Pass,
    /// It is refused by this rule; by none when nothing allows it.
    Refuse(Option<&'a str>),
}

impl Policies {
    pub(crate) fn add(&mut self, action: Action, name: String, rule: Rule) {
        match action {
            Action::Allow => self.allow.push((name, rule)),
            Action::Deny => self.deny.push((name, rule)),
        }
    }

    /// Envoy keeps policies by name: of several that refuse, the first by name is the one that is told.
    pub(crate) fn sort(&mut self) {
        self.deny.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// Judges a request: what refuses comes first.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn judge(&self, facts: &Facts<'_, '_>) -> Result<Verdict<'_>, HostError> {
        for (name, rule) in &self.deny {
            if rule.fits(facts)? {
                return Ok(Verdict::Refuse(Some(name)));
            }
        }
        if !self.has_allow {
            return Ok(Verdict::Pass);
        }
        for (_, rule) in &self.allow {
            if rule.fits(facts)? {
                return Ok(Verdict::Pass);
            }
        }
        Ok(Verdict::Refuse(None))
    }
}

impl Rule {
    fn fits(&self, facts: &Facts<'_, '_>) -> Result<bool, HostError> {
        Ok(any(&self.to, facts)? && any(&self.from, facts)? && all(&self.when, facts)?)
    }
}

fn any(alternatives: &[Vec<Condition>], facts: &Facts<'_, '_>) -> Result<bool, HostError> {
    for conditions in alternatives {
        if all(conditions, facts)? {
            return Ok(true);
        }
    }
    Ok(alternatives.is_empty())
}

fn all(conditions: &[Condition], facts: &Facts<'_, '_>) -> Result<bool, HostError> {
    for condition in conditions {
        if condition.test.holds(facts)? == condition.is_not {
            return Ok(false);
        }
    }
    Ok(true)
}
