//! [`ConfigDump`]: the configuration that serves, where each part came from, and what was refused.

use portolan_model::{Model, Origin};
use serde::Serialize;

/// What `/config_dump` shows. The binary makes one whenever a configuration is taken or refused.
#[derive(Debug, Serialize)]
pub struct ConfigDump<'a> {
    /// Version of the gateway.
    pub version: &'static str,
    /// Number of the configuration that serves, from 1; 0 before the first.
    pub generation: u64,
    /// The model that serves. Secrets show their names only.
    pub model: &'a Model,
    /// Every object that was read.
    pub objects: Vec<ObjectView>,
    /// What was said about them, as `check -o json` says it.
    pub diagnostics: Vec<serde_json::Value>,
}

/// One object of the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectView {
    /// Kind, namespace/name, file and line.
    pub origin: Origin,
    /// `active`, `kept_old`, `rejected` or `ignored`.
    pub state: &'static str,
    /// Why, when it is not active.
    pub reason: Option<String>,
}

impl ConfigDump<'_> {
    /// The dump as the value that [`crate::AdminState::config_dump`] holds.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
    }
}
