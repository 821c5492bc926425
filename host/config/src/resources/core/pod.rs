//! [`Pod`]: labels and an address, for services without endpoints objects.

use serde::Deserialize;

/// A core `v1` Pod, without its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Pod {
    /// What it should be.
    pub spec: PodSpec,
    /// What it is.
    pub status: PodStatus,
}

/// `spec` of a [`Pod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// Containers, for their named ports.
    pub containers: Vec<Container>,
    /// Node it runs on.
    pub node_name: Option<String>,
}

/// One container of a [`Pod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Its ports.
    pub ports: Vec<ContainerPort>,
}

/// One port of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name that a service's `targetPort` may use.
    pub name: Option<String>,
    /// Port number.
    pub container_port: u16,
}

/// `status` of a [`Pod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Address; empty before the pod has one.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// `Running` and others.
    pub phase: Option<String>,
    /// Conditions, of which `Ready` is read.
    pub conditions: Vec<PodCondition>,
}

/// One condition of a [`Pod`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    /// `Ready` and others.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
}
