//! Spec of the Istio `WorkloadEntry`, which is an endpoint of a `ServiceEntry` too.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One workload outside of Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WorkloadEntry {
    /// IP address, DNS name or `unix:///path`.
    pub address: Option<String>,
    /// Port name of the service to port of the workload.
    pub ports: BTreeMap<String, u32>,
    /// For subsets and selectors.
    pub labels: BTreeMap<String, String>,
    /// Of no use without a mesh.
    pub network: Option<String>,
    /// `region/zone/subzone`.
    pub locality: Option<String>,
    /// 1 when absent or 0.
    pub weight: Option<u32>,
    /// Of no use without a mesh.
    pub service_account: Option<String>,
}
