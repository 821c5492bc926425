//! Spec of the Istio `Telemetry`.

use serde::Deserialize;
use serde_yaml::Value;

use super::wasm_plugin::{LabelSelector, TargetRef};

/// What is told of requests. Access logging is served; metrics and traces are not yet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    /// Must be a subset of the gateway's labels; absent means the whole namespace.
    pub selector: Option<LabelSelector>,
    /// Of no use here: other than by labels nothing is selected.
    pub target_ref: Option<TargetRef>,
    /// Of no use here.
    pub target_refs: Vec<TargetRef>,
    /// Not served yet.
    pub tracing: Option<Value>,
    /// Not served yet.
    pub metrics: Option<Value>,
    /// Each entry turns logs on or off.
    pub access_logging: Vec<AccessLogging>,
}

/// One decision about access logs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogging {
    /// Which traffic; a gateway's is that of a client.
    #[serde(rename = "match")]
    pub matches: Option<LogSelector>,
    /// Extension providers of the mesh configuration; absent means the default ones.
    pub providers: Vec<ProviderRef>,
    /// Turns the providers off.
    pub disabled: Option<bool>,
    /// Which requests have a line.
    pub filter: Option<LogFilter>,
}

/// Traffic by mode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogSelector {
    /// `CLIENT_AND_SERVER` by default, `CLIENT`, `SERVER`.
    pub mode: Option<String>,
}

/// An extension provider by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderRef {
    /// Required.
    pub name: String,
}

/// Which requests have a line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogFilter {
    /// CEL over Envoy's attributes, e.g. `response.code >= 400`.
    pub expression: String,
}
