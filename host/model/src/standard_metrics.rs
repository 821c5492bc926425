//! [`StandardMetrics`]: which of Istio's standard metrics are kept, and with which labels.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What Telemetries make of Istio's standard metrics; by default all are kept with Istio's labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StandardMetrics {
    /// No provider wants any.
    pub off: bool,
    /// By name on the page, those that differ.
    pub overrides: BTreeMap<String, MetricOverride>,
}

/// How one metric differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricOverride {
    /// Not kept.
    pub disabled: bool,
    /// Labels that are left out.
    pub removed: BTreeSet<String>,
    /// Labels with their values in CEL over Envoy's attributes.
    pub set: BTreeMap<String, String>,
}

impl StandardMetrics {
    /// True for the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
