//! [`Service`]: a name, a selector and ports.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::resources::Unread;

/// `spec` of a core `v1` Service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// Ports, by which routes name it.
    pub ports: Vec<ServicePort>,
    /// Labels that its pods carry.
    pub selector: BTreeMap<String, String>,
    /// `ClusterIP` (default), `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: Option<String>,
    /// `None` marks a headless service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// DNS name behind a service of type `ExternalName`.
    pub external_name: Option<String>,
    /// Endpoints count although their pods are not ready.
    pub publish_not_ready_addresses: bool,
    /// `ClientIP` or `None` (default).
    pub session_affinity: Option<String>,
    /// `PreferSameZone`, formerly `PreferClose`, or `PreferSameNode`.
    pub traffic_distribution: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Unread,
    #[serde(rename = "externalIPs")]
    external_ips: Unread,
    #[serde(rename = "loadBalancerIP")]
    load_balancer_ip: Unread,
    load_balancer_source_ranges: Unread,
    load_balancer_class: Unread,
    external_traffic_policy: Unread,
    internal_traffic_policy: Unread,
    health_check_node_port: Unread,
    session_affinity_config: Unread,
    ip_families: Unread,
    ip_family_policy: Unread,
    allocate_load_balancer_node_ports: Unread,
}

/// One port of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServicePort {
    /// Its prefix up to `-` names the protocol when `app_protocol` does not (Istio).
    pub name: String,
    /// Required; 1 to 65535.
    pub port: u16,
    /// `TCP` (default), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// Application protocol, e.g. `http`, `kubernetes.io/h2c`.
    pub app_protocol: Option<String>,
    /// Port of the pods; `port` when absent.
    pub target_port: Option<TargetPort>,
    node_port: Unread,
}

/// A pod's port, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(String),
}

impl<'de> Deserialize<'de> for TargetPort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetPortVisitor)
    }
}

struct TargetPortVisitor;

impl Visitor<'_> for TargetPortVisitor {
    type Value = TargetPort;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a port number or a port name")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<TargetPort, E> {
        u16::try_from(number)
            .map(TargetPort::Number)
            .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &"a port of at most 65535"))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<TargetPort, E> {
        Ok(TargetPort::Name(name.to_owned()))
    }
}
