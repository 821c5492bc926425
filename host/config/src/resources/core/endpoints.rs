//! [`Endpoints`]: the addresses of the service of the same name.

use serde::Deserialize;

use crate::resources::Unread;

/// A core `v1` Endpoints object, without its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoints {
    /// Addresses times ports, set by set.
    pub subsets: Vec<EndpointSubset>,
}

/// Every address of it serves every port of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSubset {
    /// Ready ones.
    pub addresses: Vec<EndpointAddress>,
    /// Those which are not ready; served only when the service publishes them.
    pub not_ready_addresses: Vec<EndpointAddress>,
    /// Ports.
    pub ports: Vec<EndpointPort>,
}

/// One address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointAddress {
    /// IPv4 or IPv6 address.
    pub ip: String,
    /// The object behind it.
    pub target_ref: Option<TargetRef>,
    /// Node it runs on.
    pub node_name: Option<String>,
    hostname: Unread,
}

/// One port, of [`Endpoints`] and of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointPort {
    /// The service port's name; empty when the service has one unnamed port.
    pub name: Option<String>,
    /// Port number of the pods; all ports when absent (slices only).
    pub port: Option<u16>,
    /// `TCP` (default), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// Application protocol.
    pub app_protocol: Option<String>,
}

/// Names the pod behind an address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TargetRef {
    /// Kind, mostly `Pod`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; the endpoints' own when empty.
    pub namespace: String,
    api_version: Unread,
    uid: Unread,
    resource_version: Unread,
    field_path: Unread,
}
