//! Spec of the Istio `ServiceEntry`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::gateway::Port;
use super::workload_entry::WorkloadEntry;

/// A service that Kubernetes does not know.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceEntry {
    /// Full names.
    pub hosts: Vec<String>,
    /// Virtual IPs; of no use at a gateway.
    pub addresses: Vec<String>,
    /// At least one.
    pub ports: Vec<Port>,
    /// `MESH_EXTERNAL` or `MESH_INTERNAL`.
    pub location: Option<String>,
    /// `NONE` by default, `STATIC`, `DNS`, `DNS_ROUND_ROBIN`, `DYNAMIC_DNS`.
    pub resolution: Option<String>,
    /// Instead of `workloadSelector`.
    pub endpoints: Vec<WorkloadEntry>,
    /// Chooses WorkloadEntries and Pods of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// `.`, `*` or namespaces.
    pub export_to: Vec<String>,
    /// For TLS.
    pub subject_alt_names: Vec<String>,
}

/// Workloads by labels.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All of these.
    pub labels: BTreeMap<String, String>,
}
