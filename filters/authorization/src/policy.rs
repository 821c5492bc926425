//! [`Policies`]: what may pass. Semantics: Envoy's `rbac` filter as Istio configures it.

use portolan_sdk::HostError;

use crate::config::Action;
use crate::facts::Facts;
use crate::test::Test;

/// All policies of a gateway.
#[derive(Debug, Default)]
pub struct Policies {
    deny: Rules,
    allow: Rules,
    /// What is marked for the access log.
    audit: Rules,
    /// What is only tried out.
    tried_deny: Rules,
    tried_allow: Rules,
}

/// The rules of all policies with one action; none without such a policy, which is not the same as one without rules.
type Rules = Option<Vec<(String, Rule)>>;

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

/// What policies that are tried out would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial<'a> {
    /// Whether they refuse, or allow.
    pub denies: bool,
    /// Whether the request would have gone on.
    pub allowed: bool,
    /// The rule that fits.
    pub rule: Option<&'a str>,
}

impl Policies {
    /// There is a policy with this action, even if it has no rule: what no policy that allows names is refused.
    pub(crate) fn begin(&mut self, action: Action, dry_run: bool) {
        self.rules(action, dry_run).get_or_insert_default();
    }

    pub(crate) fn add(&mut self, action: Action, dry_run: bool, name: String, rule: Rule) {
        self.rules(action, dry_run).get_or_insert_default().push((name, rule));
    }

    fn rules(&mut self, action: Action, dry_run: bool) -> &mut Rules {
        match (action, dry_run) {
            (Action::Allow, false) => &mut self.allow,
            (Action::Deny, false) => &mut self.deny,
            (Action::Allow, true) => &mut self.tried_allow,
            (Action::Deny, true) => &mut self.tried_deny,
            (Action::Audit, _) => &mut self.audit,
        }
    }

    /// Envoy keeps policies by name: of several that fit, the first by name is the one that is told.
    pub(crate) fn sort(&mut self) {
        for rules in [&mut self.deny, &mut self.tried_deny, &mut self.tried_allow].into_iter().flatten() {
            rules.sort_by(|a, b| a.0.cmp(&b.0));
        }
    }

    /// Whether policies that refuse, or allow, are tried out.
    pub(crate) fn tries(&self, denies: bool) -> bool {
        if denies { self.tried_deny.is_some() } else { self.tried_allow.is_some() }
    }

    /// Whether a policy that audits fits; none without one.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn audit(&self, facts: &Facts<'_, '_>) -> Result<Option<bool>, HostError> {
        self.audit.as_ref().map(|rules| Ok(first(rules, facts)?.is_some())).transpose()
    }

    /// What the policies that are tried out and refuse, or allow, would do; none without one.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn trial(&self, denies: bool, facts: &Facts<'_, '_>) -> Result<Option<Trial<'_>>, HostError> {
        let rules = if denies { &self.tried_deny } else { &self.tried_allow };
        let Some(rules) = rules else { return Ok(None) };
        let rule = first(rules, facts)?;
        Ok(Some(Trial { denies, allowed: rule.is_some() != denies, rule }))
    }

    /// What refuses.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn denies(&self, facts: &Facts<'_, '_>) -> Result<Verdict<'_>, HostError> {
        let rule = self.deny.as_ref().map(|rules| first(rules, facts)).transpose()?.flatten();
        Ok(rule.map_or(Verdict::Pass, |rule| Verdict::Refuse(Some(rule))))
    }

    /// What allows, where anything does.
    ///
    /// # Errors
    /// When the host does not tell.
    pub fn allows(&self, facts: &Facts<'_, '_>) -> Result<Verdict<'_>, HostError> {
        match &self.allow {
            Some(rules) if first(rules, facts)?.is_none() => Ok(Verdict::Refuse(None)),
            _ => Ok(Verdict::Pass),
        }
    }
}

/// The first rule that fits, by its name.
fn first<'a>(rules: &'a [(String, Rule)], facts: &Facts<'_, '_>) -> Result<Option<&'a str>, HostError> {
    for (name, rule) in rules {
        if rule.fits(facts)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
