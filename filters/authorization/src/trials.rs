//! [`Trials`]: what policies that only tell have to tell. Names and values are those of Envoy's `rbac` as Istio configures it.

use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType, log};

use crate::facts::Facts;
use crate::policy::{Policies, Trial};

/// Where `%DYNAMIC_METADATA(envoy.common:access_log_hint)%` finds it.
const HINT: &str = "dynamic_metadata\0envoy.common\0access_log_hint";

/// Counters of policies that are tried out; nothing that fails here costs a request anything.
pub(crate) struct Trials {
    deny: Option<Counters>,
    allow: Option<Counters>,
}

struct Counters {
    allowed: Metric,
    denied: Metric,
}

impl Trials {
    pub(crate) fn define(policies: &Policies) -> Result<Self, ConfigError> {
        let counter = |action: &str, result: &str| {
            let name = format!("rbac_istio_dry_run_{action}_shadow_{result}");
            Metric::define(MetricType::Counter, &name)
        };
        let counters = |is_there: bool, action: &str| -> Result<Option<Counters>, ConfigError> {
            if !is_there {
                return Ok(None);
            }
            Ok(Some(Counters { allowed: counter(action, "allowed")?, denied: counter(action, "denied")? }))
        };
        Ok(Self { deny: counters(policies.tries(true), "deny")?, allow: counters(policies.tries(false), "allow")? })
    }

    /// Marks for the access log what a policy that audits fits.
    pub(crate) fn audit(&self, policies: &Policies, facts: &Facts<'_, '_>) {
        let told = policies.audit(facts).and_then(|hint| match hint {
            Some(hint) => facts.request.set_property(HINT, if hint { b"true" } else { b"false" }),
            None => Ok(()),
        });
        if told.is_err() {
            log::debug("a policy that audits could not be held against a request");
        }
    }

    /// Counts and tells what policies that are tried out would have done.
    pub(crate) fn run(&self, policies: &Policies, denies: bool, facts: &Facts<'_, '_>) {
        let Some(counters) = (if denies { &self.deny } else { &self.allow }) else { return };
        let told =
            policies.trial(denies, facts).and_then(|trial| trial.map_or(Ok(()), |trial| counters.tell(&trial, facts)));
        if told.is_err() {
            log::debug("a policy that is tried out could not be held against a request");
        }
    }
}

impl Counters {
    fn tell(&self, trial: &Trial<'_>, facts: &Facts<'_, '_>) -> Result<(), HostError> {
        let (counter, result) = if trial.allowed { (&self.allowed, "allowed") } else { (&self.denied, "denied") };
        counter.increment(1)?;
        let action = if trial.denies { "deny" } else { "allow" };
        let property =
            |key: &str| format!("dynamic_metadata\0envoy.filters.http.rbac\0istio_dry_run_{action}_shadow_{key}");
        facts.request.set_property(&property("engine_result"), result.as_bytes())?;
        if let Some(rule) = trial.rule {
            facts.request.set_property(&property("effective_policy_id"), rule.as_bytes())?;
        }
        log::debug(&format!("shadow {result}, matched policy {}", trial.rule.unwrap_or("none")));
        Ok(())
    }
}
