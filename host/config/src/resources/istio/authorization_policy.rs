//! Spec of the Istio `AuthorizationPolicy`.

use serde::{Deserialize, Serialize};

use super::wasm_plugin::{LabelSelector, TargetRef};

/// Who may ask for what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AuthorizationPolicy {
    /// Must be a subset of the gateway's labels; absent means the whole namespace, in the root namespace everywhere.
    pub selector: Option<LabelSelector>,
    /// Of Gateway API; not for this gateway.
    pub target_ref: Option<TargetRef>,
    /// Of Gateway API; not for this gateway.
    pub target_refs: Vec<TargetRef>,
    /// One of them must fit; without any none does.
    pub rules: Vec<Rule>,
    /// `ALLOW` by default, `DENY`, `AUDIT`, `CUSTOM`.
    pub action: Option<String>,
    /// Who is asked, with `CUSTOM`.
    pub provider: Option<Provider>,
}

/// An extension provider of the mesh configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Provider {
    /// Required.
    pub name: String,
}

/// All parts that are there must hold. Written into the filter's configuration as it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Who asks: one of them.
    pub from: Vec<From>,
    /// What for: one of them.
    pub to: Vec<To>,
    /// What else: all of them.
    pub when: Vec<Condition>,
}

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct From {
    /// Required.
    pub source: Option<Source>,
}

/// All fields must hold, each with one of its values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Source {
    /// Identities of client certificates, without `spiffe://`.
    pub principals: Vec<String>,
    /// None of these.
    pub not_principals: Vec<String>,
    /// Issuer and subject of the token.
    pub request_principals: Vec<String>,
    /// None of these.
    pub not_request_principals: Vec<String>,
    /// Namespaces of client certificates.
    pub namespaces: Vec<String>,
    /// None of these.
    pub not_namespaces: Vec<String>,
    /// Service accounts of client certificates.
    pub service_accounts: Vec<String>,
    /// None of these.
    pub not_service_accounts: Vec<String>,
    /// Addresses and ranges of the connection.
    pub ip_blocks: Vec<String>,
    /// None of these.
    pub not_ip_blocks: Vec<String>,
    /// Addresses and ranges of the client.
    pub remote_ip_blocks: Vec<String>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<String>,
}

/// What for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct To {
    /// Required.
    pub operation: Option<Operation>,
}

/// All fields must hold, each with one of its values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Operation {
    /// Hosts as the client writes them; case does not matter.
    pub hosts: Vec<String>,
    /// None of these.
    pub not_hosts: Vec<String>,
    /// Ports that the gateway is bound to.
    pub ports: Vec<String>,
    /// None of these.
    pub not_ports: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
    /// None of these.
    pub not_methods: Vec<String>,
    /// Paths without query, or templates of such.
    pub paths: Vec<String>,
    /// None of these.
    pub not_paths: Vec<String>,
}

/// A condition on an attribute.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Condition {
    /// The attribute.
    pub key: String,
    /// One of these.
    pub values: Vec<String>,
    /// None of these.
    pub not_values: Vec<String>,
}
