//! [`EndpointSlice`]: a part of the addresses of a service, named by label `kubernetes.io/service-name`.

use serde::Deserialize;

use super::endpoints::{EndpointPort, TargetRef};
use crate::resources::Unread;

/// A `discovery.k8s.io/v1` EndpointSlice, without its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Every endpoint serves every port.
    pub endpoints: Vec<SliceEndpoint>,
    /// Ports.
    pub ports: Vec<EndpointPort>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Addresses of the one endpoint; Kubernetes uses the first.
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    pub conditions: EndpointConditions,
    /// The object behind it.
    pub target_ref: Option<TargetRef>,
    /// Node it runs on.
    pub node_name: Option<String>,
    /// Zone it runs in.
    pub zone: Option<String>,
    hostname: Unread,
    hints: Unread,
    deprecated_topology: Unread,
}

/// Conditions of an endpoint; absent `ready` means ready.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Takes traffic.
    pub ready: Option<bool>,
    /// Would take traffic were it not ending.
    pub serving: Option<bool>,
    /// Is ending.
    pub terminating: Option<bool>,
}
