//! Checks of a ServiceEntry.

use super::checker::Checker;
use super::export_to;
use super::extension::check_faults;
use super::gateway::PROTOCOLS;
use super::selector;
use super::tcp_route::{SUBNET, is_subnet};
use super::workload_entry::check_entry;
use crate::annotations;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::ServiceEntry;

/// Values of `resolution`.
const RESOLUTIONS: &[&str] = &["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"];

/// Checks a ServiceEntry by itself.
pub fn service_entry(object: &Object<ServiceEntry>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.hosts.is_empty() {
        checker.missing("spec", "hosts");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        if host == "*" {
            checker.error("P0103", &path, "host `*` is too wide for a ServiceEntry");
            continue;
        }
        checker.service(&path, host);
        checker.partial_wildcard(&path, host, "service");
        if !host.is_empty() && !host.contains(['.', ':']) {
            checker.warn("P0103", &path, format!("no route reaches `{host}`: short names are completed first"));
            checker.help(format!("write `{}`", crate::hosts::complete(host, &object.meta.namespace)));
        }
    }
    check_ports(&mut checker, spec);
    let location = &["MESH_EXTERNAL", "MESH_INTERNAL"];
    checker.word("spec.location", spec.location.as_ref(), location);
    checker.word("spec.resolution", spec.resolution.as_ref(), RESOLUTIONS);
    check_resolution(&mut checker, spec);
    check_addresses(&mut checker, spec);
    export_to::check(&mut checker, &spec.export_to, true);
    check_faults(&mut checker, annotations::health_check(&object.meta.annotations).1);
    checker.finish()
}

fn check_ports(checker: &mut Checker<'_, ServiceEntry>, spec: &ServiceEntry) {
    if spec.ports.is_empty() {
        checker.warn_at_key("P0101", "spec", "a ServiceEntry without `ports` is reached at no port");
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        checker.port(&format!("{path}.number"), port.number);
        if port.name.is_empty() {
            checker.missing(&path, "name");
        } else {
            checker.label_name(&format!("{path}.name"), "a port's name", &port.name);
        }
        let protocol = Some(port.protocol.to_ascii_uppercase()).filter(|protocol| !protocol.is_empty());
        checker.word(&format!("{path}.protocol"), protocol.as_ref(), PROTOCOLS);
        if let Some(target) = port.target_port.filter(|target| *target != 0) {
            checker.port(&format!("{path}.targetPort"), target);
        }
    }
    let named = spec.ports.iter().enumerate().filter(|(_, port)| !port.name.is_empty());
    checker.unique("port name", named.map(|(i, p)| (format!("spec.ports[{i}].name"), p.name.clone())));
    checker.unique(
        "port",
        spec.ports.iter().enumerate().map(|(i, p)| (format!("spec.ports[{i}].number"), p.number.to_string())),
    );
}

/// Addresses are of no use at a gateway, and must be right all the same.
fn check_addresses(checker: &mut Checker<'_, ServiceEntry>, spec: &ServiceEntry) {
    let resolution = spec.resolution.as_deref().unwrap_or("NONE");
    for (i, address) in spec.addresses.iter().enumerate() {
        let path = format!("spec.addresses[{i}]");
        if !is_subnet(address) {
            checker.error("P0119", &path, format!("`{address}` is not an address"));
            checker.label(SUBNET);
        } else if address.contains('/') && !matches!(resolution, "NONE" | "STATIC") {
            checker.error("P0120", &path, format!("subnets are not for resolution {resolution}"));
        }
    }
    let apart = |protocol: &str| {
        let protocol = protocol.to_ascii_uppercase();
        matches!(protocol.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTPS" | "TLS")
    };
    let port = spec.ports.iter().position(|port| !apart(&port.protocol));
    if let Some(i) = port.filter(|_| spec.hosts.len() > 1 && resolution != "NONE") {
        let text = "on this port nothing tells the several hosts apart";
        checker.error_at_key("P0130", &format!("spec.ports[{i}]"), text);
        checker.help("give each host a ServiceEntry, or the port protocol HTTP, HTTPS or TLS");
    }
}

fn check_resolution(checker: &mut Checker<'_, ServiceEntry>, spec: &ServiceEntry) {
    let resolution = spec.resolution.as_deref().unwrap_or("NONE");
    if let Some(selector) = &spec.workload_selector {
        selector::check_labels(checker, "spec.workloadSelector.labels", &selector.labels);
    }
    if !spec.endpoints.is_empty() && spec.workload_selector.is_some() {
        checker.error_at_key("P0102", "spec.workloadSelector", "set at most one of `endpoints`, `workloadSelector`");
    }
    match resolution {
        "STATIC" if spec.endpoints.is_empty() && spec.workload_selector.is_none() => {
            let text = "resolution STATIC without `endpoints` and `workloadSelector` finds nobody";
            checker.warn("P0101", "spec.resolution", text);
            checker.help("add `endpoints`");
        }
        "DNS" | "DNS_ROUND_ROBIN" if spec.endpoints.is_empty() => {
            for (i, host) in spec.hosts.iter().enumerate().filter(|(_, host)| host.contains('*')) {
                let text = format!("resolution {resolution} cannot resolve the wildcard `{host}`");
                checker.error("P0103", &format!("spec.hosts[{i}]"), text);
                checker.help("give it `endpoints`");
            }
        }
        "DNS_ROUND_ROBIN" if spec.endpoints.len() > 1 => {
            checker.error_at_key("P0120", "spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most");
            checker.help("set `resolution: DNS`");
        }
        "NONE" if !spec.endpoints.is_empty() => {
            checker.error_at_key("P0120", "spec.endpoints", "resolution NONE takes no `endpoints`");
            checker.help("set `resolution: STATIC` or `resolution: DNS`");
        }
        _ => {}
    }
    check_endpoints(checker, spec, resolution);
}

fn check_endpoints(checker: &mut Checker<'_, ServiceEntry>, spec: &ServiceEntry, resolution: &str) {
    for (i, entry) in spec.endpoints.iter().enumerate() {
        let path = format!("spec.endpoints[{i}]");
        check_entry(checker, &path, entry);
        let Some(address) = entry.address.as_deref().filter(|a| !a.is_empty()) else {
            if resolution.starts_with("DNS") && entry.network.is_some() {
                checker.missing(&path, "address");
            }
            continue;
        };
        if address.starts_with("unix://") {
            if !matches!(resolution, "STATIC" | "NONE") {
                let text = format!("a unix socket is for resolution STATIC, not for {resolution}");
                checker.error("P0119", &format!("{path}.address"), text);
            } else if spec.ports.len() != 1 {
                checker.error(
                    "P0120",
                    &format!("{path}.address"),
                    "a unix socket takes exactly one port of the service",
                );
            }
        }
        if resolution == "STATIC" && !address.starts_with("unix://") && address.parse::<std::net::IpAddr>().is_err() {
            let text = format!("`{address}` is not an IP address, which resolution STATIC needs");
            checker.error("P0119", &format!("{path}.address"), text);
            checker.help("set `resolution: DNS`");
        }
        for name in entry.ports.keys().filter(|name| !spec.ports.iter().any(|port| port.name == **name)) {
            let text = format!("the ServiceEntry has no port with the name `{name}`");
            checker.error_at_key("P0104", &format!("{path}.ports.{name}"), text);
        }
    }
}
