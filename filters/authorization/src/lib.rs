//! The bundled filter `authorization`: lets requests in, or keeps them out, by Istio's AuthorizationPolicies.

mod compile;
mod config;
pub mod facts;
pub mod policy;
pub mod test;
pub mod text;
mod trials;

use config::Config;
use facts::Facts;
use policy::{Policies, Verdict};
use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType};
use trials::Trials;

/// Set for requests that the filter `ext-authz` is to ask about.
const MARK_PROPERTY: &str = "authorization.custom";

/// The filter.
pub struct Authorization {
    policies: Policies,
    trials: Trials,
    /// What would be refused goes on, marked.
    marks: bool,
    allowed: Metric,
    denied: Metric,
}

impl Filter for Authorization {
    type Config = Config;
    type Stream = ();

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let counter = |name| Metric::define(MetricType::Counter, name);
        let policies = config.policies()?;
        Ok(Self {
            marks: config.mark_for_ext_authz,
            trials: Trials::define(&policies)?,
            policies,
            allowed: counter("authorization_allowed")?,
            denied: counter("authorization_denied")?,
        })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let facts = Facts::new(request);
        if self.marks {
            if self.policies.denies(&facts)? != Verdict::Pass || self.policies.allows(&facts)? != Verdict::Pass {
                request.set_property(MARK_PROPERTY, b"1")?;
            }
            return Ok(Action::Continue);
        }
        let rule = match self.judge(&facts)? {
            Verdict::Pass => {
                self.allowed.increment(1)?;
                return Ok(Action::Continue);
            }
            Verdict::Refuse(rule) => rule.unwrap_or("none"),
        };
        self.denied.increment(1)?;
        let details = format!("rbac_access_denied_matched_policy[{rule}]");
        request.reply(&LocalReply::new(403).body(b"RBAC: access denied").details(&details))
    }
}

impl Authorization {
    /// In Istio's order, which has a filter for each action: what is tried out goes before what counts, and what comes
    /// after a refusal is not looked at.
    fn judge(&self, facts: &Facts<'_, '_>) -> Result<Verdict<'_>, HostError> {
        self.trials.audit(&self.policies, facts);
        self.trials.run(&self.policies, true, facts);
        match self.policies.denies(facts)? {
            Verdict::Pass => {}
            refused => return Ok(refused),
        }
        self.trials.run(&self.policies, false, facts);
        self.policies.allows(facts)
    }
}

portolan_sdk::filter! { Authorization: schema, on_request_headers }

#[cfg(test)]
mod tests;
