//! [`Plugin`]: a Wasm filter, its code and its configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Origin;

/// A configured filter, from a WasmPlugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// `namespace.name` of the WasmPlugin.
    pub name: String,
    /// `pluginName`: the root id that the module sees.
    pub root_id: String,
    /// Which chains it is in.
    #[serde(skip_serializing_if = "PluginKind::is_http", default)]
    pub kind: PluginKind,
    /// Where it stands in the chain.
    pub phase: PluginPhase,
    /// Within a phase, higher runs first.
    pub priority: i64,
    /// What runs.
    pub code: PluginCode,
    /// SHA-256 of the module's bytes in lower-case hex, when the WasmPlugin pins it; another module is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// `pluginConfig` as JSON text; empty when there is none.
    pub config: String,
    /// What a request gets when the filter cannot run.
    pub fail_policy: FailPolicy,
    /// The WasmPlugin in the user's file.
    pub origin: Origin,
}

/// Istio's `type`: what a filter sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginKind {
    /// Requests and responses, on listeners of HTTP.
    #[default]
    Http,
    /// Connections and their bytes, on listeners of TCP.
    Network,
}

impl PluginKind {
    /// True for the default, which model dumps leave out.
    pub fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Istio's phases; requests meet them in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PluginPhase {
    /// Authentication.
    Authn,
    /// Authorisation.
    Authz,
    /// Statistics.
    Stats,
    /// Last, before the circuit breaker and the router.
    #[default]
    Unspecified,
}

/// Where a filter's module is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginCode {
    /// A filter that comes with the binary, by name.
    Bundled(String),
    /// A watched file.
    File(PathBuf),
    /// A place that modules cannot be loaded from yet, as the user wrote it. Requests get what the fail policy says: a
    /// filter that guards must not be passed by for being out of reach.
    Unavailable(String),
}

/// Istio's `failStrategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailPolicy {
    /// 503 while the filter cannot run.
    #[default]
    FailClose,
    /// The request goes on without the filter.
    FailOpen,
}
