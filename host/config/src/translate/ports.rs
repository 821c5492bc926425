//! [`PortMapping`]: from the port of a Gateway to the port that is bound for it, as Istio maps Service ports to target
//! ports: `--port-map`, then a Service that selects this gateway, then an enabled ingress gateway of an IstioOperator.

use std::collections::HashMap;

use super::{TranslateOptions, age, fits};
use crate::ResourceSet;
use crate::resources::core::service::TargetPort;
use crate::resources::istio::operator::GatewayServicePort;

/// From Gateway port to bound port.
pub(super) struct PortMapping {
    by_port: HashMap<u16, u16>,
    /// `namespace/name` of the Service that selects this gateway; its ports are all that its clients reach.
    pub(super) service: Option<String>,
}

impl PortMapping {
    pub(super) fn of(resources: &ResourceSet, options: &TranslateOptions) -> Self {
        let mut by_port: HashMap<u16, u16> = options.port_map.iter().copied().collect();
        let selects = |selector: &_, labels| fits(selector, labels) && selector != &Default::default();
        let mut services: Vec<_> =
            resources.services().filter(|service| selects(&service.spec.selector, &options.labels)).collect();
        services.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        for port in services.iter().flat_map(|service| &service.spec.ports) {
            let target = match &port.target_port {
                Some(TargetPort::Number(number)) => *number,
                // A name stands for a port of the gateway's own Pod, which only the Pod's own resource knows.
                Some(TargetPort::Name(_)) | None => port.port,
            };
            by_port.entry(port.port).or_insert(target);
        }
        for port in operator_ports(resources) {
            if let Ok(number) = u16::try_from(port.port) {
                by_port.entry(number).or_insert_with(|| operator_target(port).unwrap_or(number));
            }
        }
        let service = services.first().map(|service| format!("{}/{}", service.meta.namespace, service.meta.name));
        Self { by_port, service }
    }

    /// The port to bind, when something maps it.
    pub(super) fn get(&self, port: u16) -> Option<u16> {
        self.by_port.get(&port).copied()
    }
}

fn operator_ports(resources: &ResourceSet) -> impl Iterator<Item = &GatewayServicePort> {
    let components = resources.operators().filter_map(|operator| operator.spec.components.as_ref());
    let enabled = components.flat_map(|c| &c.ingress_gateways).filter(|gateway| gateway.enabled == Some(true));
    enabled.filter_map(|gateway| gateway.k8s.as_ref()?.service.as_ref()).flat_map(|service| &service.ports)
}

fn operator_target(port: &GatewayServicePort) -> Option<u16> {
    port.target_port.as_ref()?.as_u64()?.try_into().ok()
}
