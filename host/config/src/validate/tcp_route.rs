//! Checks of one `tcp` rule of a VirtualService.

use std::net::IpAddr;

use super::checker::Checker;
use super::{http_route, route_destination, virtual_service};
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{L4Match, TcpRoute, TcpRouteDestination};

/// One rule.
pub(super) fn check(checker: &mut Checker<'_, VirtualService>, path: &str, rule: &TcpRoute) {
    for (i, condition) in rule.matches.iter().enumerate() {
        check_match(checker, &format!("{path}.match[{i}]"), condition);
    }
    check_route(checker, path, &rule.route);
}

/// What rules of TCP and of TLS have in common.
pub(super) fn check_match(checker: &mut Checker<'_, VirtualService>, path: &str, condition: &L4Match) {
    if let Some(port) = condition.port {
        checker.port(&format!("{path}.port"), port);
    }
    // Istio looks at the namespace of HTTP matches only.
    http_route::check_source(checker, path, &condition.source_labels, None);
    virtual_service::check_gateways(checker, path, &condition.gateways);
    for (j, subnet) in condition.destination_subnets.iter().enumerate().filter(|(_, subnet)| !is_subnet(subnet)) {
        checker.error("P0119", &format!("{path}.destinationSubnets[{j}]"), format!("`{subnet}` is not a subnet"));
        checker.label(SUBNET);
    }
}

/// Weighted destinations of connections.
pub(super) fn check_route(checker: &mut Checker<'_, VirtualService>, path: &str, route: &[TcpRouteDestination]) {
    if route.is_empty() {
        checker.missing(path, "route");
    }
    let destinations = route.iter().map(|entry| (entry.destination.as_ref(), entry.weight));
    route_destination::check(checker, path, destinations);
}

/// What a subnet is.
pub(super) const SUBNET: &str = "an IP address, or one with the number of its leading bits: `10.0.0.0/8`";

pub(super) fn is_subnet(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

#[cfg(test)]
mod tests {
    use super::is_subnet;

    #[test]
    fn a_subnet_is_an_address_with_at_most_its_own_number_of_bits() {
        assert!(is_subnet("10.0.0.0/8") && is_subnet("10.1.2.3") && is_subnet("::/0"));
        assert!(!is_subnet("10.0.0.0/33") && !is_subnet("10.0/8") && !is_subnet("") && !is_subnet("::/129"));
    }
}
