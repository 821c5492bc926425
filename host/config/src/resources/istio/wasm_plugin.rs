//! Spec of the Istio `WasmPlugin`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::virtual_service::PortSelector;

/// A filter and its configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WasmPlugin {
    /// Must be a subset of the gateway's labels; absent selects every gateway.
    pub selector: Option<LabelSelector>,
    /// The older form of `targetRefs`, for one object.
    pub target_ref: Option<TargetRef>,
    /// Objects whose traffic it sees, in place of a selector.
    pub target_refs: Vec<TargetRef>,
    /// `file://`, a plain path, `http(s)://` or `oci://`; a plain reference is `oci://` in Istio. `bundled://NAME` is ours.
    pub url: String,
    /// 64 hex digits.
    pub sha256: Option<String>,
    /// `IfNotPresent` or `Always`.
    pub image_pull_policy: Option<String>,
    /// Name of a Secret.
    pub image_pull_secret: Option<String>,
    /// PEM of a public key that must have signed the module. Hidden in Istio, and not checked there.
    pub verification_key: Option<String>,
    /// Any YAML; the filter gets it as JSON.
    pub plugin_config: Option<Value>,
    /// The root id.
    pub plugin_name: Option<String>,
    /// `AUTHN`, `AUTHZ`, `STATS` or `UNSPECIFIED_PHASE`.
    pub phase: Option<String>,
    /// `FAIL_CLOSE` by default, `FAIL_OPEN`, `FAIL_RELOAD`.
    pub fail_strategy: Option<String>,
    /// Higher runs first; 0 by default.
    pub priority: Option<i64>,
    /// Environment of the VM.
    pub vm_config: Option<VmConfig>,
    /// Traffic by mode and port.
    #[serde(rename = "match")]
    pub matches: Vec<TrafficSelector>,
    /// `HTTP` by default, `NETWORK`.
    #[serde(rename = "type")]
    pub plugin_type: Option<String>,
}

/// An object that a policy is attached to, as in Gateway API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// API group; empty is Kubernetes' core.
    pub group: String,
    /// Required.
    pub kind: String,
    /// Required.
    pub name: String,
    /// Must be the object's own when given.
    pub namespace: Option<String>,
}

/// Workloads by labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LabelSelector {
    /// All of these.
    pub match_labels: BTreeMap<String, String>,
}

/// Environment of the VM.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct VmConfig {
    /// Variables.
    pub env: Vec<EnvVar>,
}

/// A variable.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EnvVar {
    /// Required.
    pub name: String,
    /// `INLINE` or `HOST`.
    pub value_from: Option<String>,
    /// For `INLINE`.
    pub value: Option<String>,
}

/// Traffic by mode and port.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficSelector {
    /// `CLIENT`, `SERVER`, `CLIENT_AND_SERVER`.
    pub mode: Option<String>,
    /// All ports when empty.
    pub ports: Vec<PortSelector>,
}
