//! Checks of one `tls` rule of a VirtualService.

use super::checker::Checker;
use super::tcp_route;
use crate::hosts;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::TlsRoute;

/// One rule. `hosts` are those of the VirtualService, which cover the server names.
pub(super) fn check(checker: &mut Checker<'_, VirtualService>, path: &str, rule: &TlsRoute, hosts: &[String]) {
    if rule.matches.is_empty() {
        checker.missing(path, "match");
    }
    for (i, condition) in rule.matches.iter().enumerate() {
        let path = format!("{path}.match[{i}]");
        if condition.sni_hosts.is_empty() {
            checker.missing(&path, "sniHosts");
        }
        for (j, name) in condition.sni_hosts.iter().enumerate() {
            check_server_name(checker, &format!("{path}.sniHosts[{j}]"), name, hosts);
        }
        tcp_route::check_match(checker, &path, &condition.l4());
    }
    tcp_route::check_route(checker, path, &rule.route);
}

fn check_server_name(checker: &mut Checker<'_, VirtualService>, path: &str, name: &str, hosts: &[String]) {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return checker.warn("P0129", path, "clients send no address as server name");
    }
    // Istio's own server names between gateways.
    if !name.starts_with("outbound_.") {
        checker.host(path, name, true);
    }
    checker.partial_wildcard(path, name, "client");
    let lower = name.to_ascii_lowercase();
    let covers = |host: &String| {
        let host = host.to_ascii_lowercase();
        host == lower || hosts::wildcards_over(&lower).any(|wider| wider == host)
    };
    if !hosts.iter().any(covers) {
        checker.error("P0129", path, format!("server name `{name}` is outside of the hosts of this VirtualService"));
        checker.help("add it to `spec.hosts`");
    }
}
