//! What the filter accepts: Istio's AuthorizationPolicies, with their rules as they are written.

use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::compile;
use crate::policy::Policies;

/// Most policies and most rules of one; a request is held against each in turn.
const MAX_ENTRIES: usize = 10_000;

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Requests that a `DENY` fits are marked for the filter `ext-authz`, and none is refused: Istio's action CUSTOM.
    #[serde(default)]
    pub(crate) mark_for_ext_authz: bool,
    /// The policies; what `DENY` names is refused, and where there is an `ALLOW` what none of them names.
    #[schema(max_items = 10000)]
    policies: Vec<PolicyConfig>,
}

/// One AuthorizationPolicy.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyConfig {
    /// For the access log.
    pub(crate) name: String,
    /// For the access log, and where service accounts without a namespace are.
    #[serde(default)]
    pub(crate) namespace: String,
    /// What becomes of requests that a rule fits. Default: `ALLOW`.
    #[serde(default)]
    pub(crate) action: Action,
    /// What it would do is counted and told, and nothing is done: Istio's annotation `istio.io/dry-run`.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// One of them must fit; without any none does.
    #[serde(default)]
    #[schema(max_items = 10000)]
    pub(crate) rules: Vec<RuleConfig>,
}

/// What becomes of requests that a rule fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Action {
    /// They go on, and others do not.
    #[default]
    Allow,
    /// They are refused.
    Deny,
    /// They are marked for the access log.
    Audit,
}

/// One rule: all three parts must hold, and a part that is not there does.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RuleConfig {
    /// Who asks: one of them.
    #[serde(default)]
    pub(crate) from: Vec<FromConfig>,
    /// What for: one of them.
    #[serde(default)]
    pub(crate) to: Vec<ToConfig>,
    /// What else: all of them.
    #[serde(default)]
    pub(crate) when: Vec<WhenConfig>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FromConfig {
    /// All its fields must hold.
    pub(crate) source: SourceConfig,
}

#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Identities of client certificates, without `spiffe://`.
    pub(crate) principals: Vec<String>,
    /// None of these.
    pub(crate) not_principals: Vec<String>,
    /// Issuer and subject of the token: `ISSUER/SUBJECT`.
    pub(crate) request_principals: Vec<String>,
    /// None of these.
    pub(crate) not_request_principals: Vec<String>,
    /// Namespaces of client certificates.
    pub(crate) namespaces: Vec<String>,
    /// None of these.
    pub(crate) not_namespaces: Vec<String>,
    /// Service accounts of client certificates: `NAME` or `NAMESPACE/NAME`.
    pub(crate) service_accounts: Vec<String>,
    /// None of these.
    pub(crate) not_service_accounts: Vec<String>,
    /// Addresses and ranges of the connection.
    pub(crate) ip_blocks: Vec<String>,
    /// None of these.
    pub(crate) not_ip_blocks: Vec<String>,
    /// Addresses and ranges of the client, as far as proxies in front of the gateway are trusted.
    pub(crate) remote_ip_blocks: Vec<String>,
    /// None of these.
    pub(crate) not_remote_ip_blocks: Vec<String>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToConfig {
    /// All its fields must hold.
    pub(crate) operation: OperationConfig,
}

#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OperationConfig {
    /// Hosts as the client writes them, with their port; case does not matter.
    pub(crate) hosts: Vec<String>,
    /// None of these.
    pub(crate) not_hosts: Vec<String>,
    /// Ports that the gateway is bound to.
    pub(crate) ports: Vec<String>,
    /// None of these.
    pub(crate) not_ports: Vec<String>,
    /// Methods.
    pub(crate) methods: Vec<String>,
    /// None of these.
    pub(crate) not_methods: Vec<String>,
    /// Paths without query; `{*}` is one segment, `{**}` any number.
    pub(crate) paths: Vec<String>,
    /// None of these.
    pub(crate) not_paths: Vec<String>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct WhenConfig {
    /// An attribute of Istio's: `request.headers[NAME]`, `request.auth.claims[NAME]`, `source.ip` and so on.
    pub(crate) key: String,
    /// One of these.
    #[serde(default)]
    pub(crate) values: Vec<String>,
    /// None of these.
    #[serde(default)]
    pub(crate) not_values: Vec<String>,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn policies(&self) -> Result<Policies, ConfigError> {
        if self.policies.len() > MAX_ENTRIES || self.policies.iter().any(|policy| policy.rules.len() > MAX_ENTRIES) {
            return Err(ConfigError::new(format!("at most {MAX_ENTRIES} policies, with as many rules each")));
        }
        let mut policies = Policies::default();
        for policy in &self.policies {
            policies.begin(policy.action, policy.dry_run);
            for (place, rule) in policy.rules.iter().enumerate() {
                let name = format!("ns[{}]-policy[{}]-rule[{place}]", policy.namespace, policy.name);
                let compiled = compile::rule(rule, &policy.namespace)
                    .map_err(|reason| ConfigError::new(format!("{}: rules[{place}]: {reason}", policy.name)))?;
                policies.add(policy.action, policy.dry_run, name, compiled);
            }
        }
        policies.sort();
        Ok(policies)
    }
}
