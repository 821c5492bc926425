//! The bundled filter `authorization`: lets requests in, or keeps them out, by Istio's AuthorizationPolicies.

mod compile;
mod config;
pub mod facts;
pub mod policy;
pub mod test;
pub mod text;

use config::Config;
use facts::Facts;
use policy::{Policies, Verdict};
use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType};

/// Set for requests that the filter `ext-authz` is to ask about.
const MARK_PROPERTY: &str = "authorization.custom";

/// The filter.
pub struct Authorization {
    policies: Policies,
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
        Ok(Self {
            marks: config.mark_for_ext_authz,
            policies: config.policies()?,
            allowed: counter("authorization_allowed")?,
            denied: counter("authorization_denied")?,
        })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        if self.marks {
            if self.policies.judge(&Facts::new(request))? != Verdict::Pass {
                request.set_property(MARK_PROPERTY, b"1")?;
            }
            return Ok(Action::Continue);
        }
        let rule = match self.policies.judge(&Facts::new(request))? {
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

portolan_sdk::filter! { Authorization: schema, on_request_headers }

#[cfg(test)]
mod tests;
