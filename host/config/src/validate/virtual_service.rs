//! Checks of a VirtualService.

use std::collections::HashMap;

use super::checker::Checker;
use super::{http_route, tcp_route};
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::VirtualService;

/// Checks a VirtualService by itself.
pub fn virtual_service(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.hosts.is_empty() {
        checker.missing("spec", "hosts");
    }
    if spec.http.is_empty() && spec.tls.is_none() && spec.tcp.is_empty() {
        checker.error_at_key("P0101", "spec", "one of `http`, `tls`, `tcp` is required");
    }
    check_hosts(&mut checker, object);
    for (i, gateway) in spec.gateways.iter().enumerate() {
        if gateway.is_empty() || gateway.matches('/').count() > 1 {
            checker.error("P0103", &format!("spec.gateways[{i}]"), format!("`{gateway}` is not a Gateway's name"));
            checker.label("`name` or `namespace/name`");
        }
    }
    for (i, rule) in spec.http.iter().enumerate() {
        http_route::check(&mut checker, &format!("spec.http[{i}]"), rule);
    }
    for (i, rule) in spec.tcp.iter().enumerate() {
        tcp_route::check(&mut checker, &format!("spec.tcp[{i}]"), rule);
    }
    checker.finish()
}

fn check_hosts(checker: &mut Checker<'_, VirtualService>, object: &Object<VirtualService>) {
    let in_mesh = object.spec.gateways.is_empty() || object.spec.gateways.iter().any(|g| g == "mesh");
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (i, host) in object.spec.hosts.iter().enumerate() {
        let path = format!("spec.hosts[{i}]");
        checker.host(&path, host, true);
        if host == "*" && in_mesh {
            checker.error("P0103", &path, "host `*` is not allowed in a VirtualService of the mesh");
            checker.help("name an ingress Gateway in `spec.gateways`");
        }
        seen.entry(hosts::complete(host, &object.meta.namespace)).or_insert(i);
    }
    for (i, host) in object.spec.hosts.iter().enumerate() {
        let name = hosts::complete(host, &object.meta.namespace);
        let same = seen.get(&name).filter(|first| **first != i);
        let wider = || hosts::wildcards_over(&name).find_map(|w| seen.get(&w).filter(|other| **other != i));
        if let Some(other) = same.copied().or_else(|| wider().copied()) {
            let text =
                format!("host `{host}` is covered by host `{}` of the same VirtualService", object.spec.hosts[other]);
            checker.error("P0113", &format!("spec.hosts[{i}]"), text);
        }
    }
}
