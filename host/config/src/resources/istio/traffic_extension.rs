//! Spec of the Istio `TrafficExtension`, which takes the place of `WasmPlugin`.

use serde::Deserialize;
use serde_yaml::Value;

use super::wasm_plugin::{LabelSelector, TargetRef, TrafficSelector, VmConfig};

/// A filter, in WebAssembly or Lua, and its configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TrafficExtension {
    /// Must be a subset of the gateway's labels; absent selects every gateway.
    pub selector: Option<LabelSelector>,
    /// Objects whose traffic it sees, in place of a selector.
    pub target_refs: Vec<TargetRef>,
    /// `AUTHN`, `AUTHZ`, `STATS` or `UNSPECIFIED`, each also with `EXECUTION_PHASE_` before it.
    pub phase: Option<String>,
    /// Higher runs first; 0 by default.
    pub priority: Option<i64>,
    /// Traffic by mode and port.
    #[serde(rename = "match")]
    pub matches: Vec<TrafficSelector>,
    /// A WebAssembly filter; this or `lua`.
    pub wasm: Option<WasmConfig>,
    /// A script; refused.
    pub lua: Option<Value>,
}

/// A WebAssembly filter. The fields are those of `WasmPlugin`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WasmConfig {
    /// `file://`, a plain path, `http(s)://` or `oci://`; a plain reference is `oci://` in Istio.
    pub url: String,
    /// 64 hex digits.
    pub sha256: Option<String>,
    /// `IfNotPresent` or `Always`.
    pub image_pull_policy: Option<String>,
    /// Name of a Secret.
    pub image_pull_secret: Option<String>,
    /// PEM of a public key that must have signed the module.
    pub verification_key: Option<String>,
    /// Any YAML; the filter gets it as JSON.
    pub plugin_config: Option<Value>,
    /// The root id.
    pub plugin_name: Option<String>,
    /// `FAIL_CLOSE` by default, `FAIL_OPEN`, `FAIL_RELOAD`.
    pub fail_strategy: Option<String>,
    /// Environment of the VM.
    pub vm_config: Option<VmConfig>,
    /// `HTTP` by default, `NETWORK`.
    #[serde(rename = "type")]
    pub plugin_type: Option<String>,
}
