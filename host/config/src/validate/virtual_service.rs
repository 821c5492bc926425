//! Checks of a VirtualService.

use std::collections::HashMap;

use super::checker::{Checker, is_dns_label};
use super::{export_to, headers, http_route, tcp_route, tls_route};
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::VirtualService;

/// Checks a VirtualService by itself.
pub fn virtual_service(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.hosts.is_empty() {
        check_delegate(&mut checker, spec);
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        checker.error_at_key("P0101", "spec", "one of `http`, `tls`, `tcp` is required");
    }
    check_hosts(&mut checker, object);
    check_gateways(&mut checker, "spec", &spec.gateways);
    let in_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == "mesh");
    if in_mesh {
        check_claims(&mut checker, spec);
    }
    for (i, rule) in spec.http.iter().enumerate() {
        http_route::check(&mut checker, &format!("spec.http[{i}]"), rule);
    }
    for (i, rule) in spec.tls.iter().enumerate() {
        tls_route::check(&mut checker, &format!("spec.tls[{i}]"), rule, &spec.hosts);
    }
    for (i, rule) in spec.tcp.iter().enumerate() {
        tcp_route::check(&mut checker, &format!("spec.tcp[{i}]"), rule);
    }
    export_to::check(&mut checker, &spec.export_to, false);
    checker.finish()
}

/// Sidecars know no tokens.
fn check_claims(checker: &mut Checker<'_, VirtualService>, spec: &VirtualService) {
    for (i, rule) in spec.http.iter().enumerate() {
        for (j, condition) in rule.matches.iter().enumerate() {
            for (field, values) in [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)] {
                for name in values.keys().filter(|name| headers::is_claim(name)) {
                    let path = format!("spec.http[{i}].match[{j}].{field}.{name}");
                    checker.error_at_key("P0118", &path, "claims of tokens are for VirtualServices of Gateways only");
                }
            }
        }
    }
}

/// Names of Gateways, of a whole VirtualService or of a match.
pub(super) fn check_gateways(checker: &mut Checker<'_, VirtualService>, path: &str, gateways: &[String]) {
    for (i, gateway) in gateways.iter().enumerate() {
        let is_name = match gateway.split_once('/') {
            Some((namespace, name)) => (namespace == "." || is_dns_label(namespace)) && is_dns_label(name),
            None => hosts::fault_of(gateway, false).is_none(),
        };
        if !is_name {
            checker.error("P0103", &format!("{path}.gateways[{i}]"), format!("`{gateway}` is not a Gateway's name"));
            checker.label("`name` or `namespace/name`");
        }
    }
}

/// Without hosts it is a delegate: its rules take the place of a rule of another VirtualService, which has the rest.
fn check_delegate(checker: &mut Checker<'_, VirtualService>, spec: &VirtualService) {
    let of_roots =
        [("gateways", !spec.gateways.is_empty()), ("tls", !spec.tls.is_empty()), ("tcp", !spec.tcp.is_empty())];
    for (field, _) in of_roots.iter().filter(|(_, given)| *given) {
        let text = format!("a VirtualService without `hosts` is a delegate, and has no `{field}`");
        checker.error_at_key("P0131", &format!("spec.{field}"), text);
        checker.help("add `hosts`");
    }
    for (i, _) in spec.http.iter().enumerate().filter(|(_, rule)| rule.delegate.is_some()) {
        let text = "a delegate does not delegate further";
        checker.error_at_key("P0131", &format!("spec.http[{i}].delegate"), text);
    }
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
        seen.entry(host.to_ascii_lowercase()).or_insert(i);
    }
    for (i, host) in object.spec.hosts.iter().enumerate() {
        // As it is written: a short name beside its long one is taken, and is one host.
        let name = host.to_ascii_lowercase();
        let same = seen.get(&name).filter(|first| **first != i);
        let others = || object.spec.hosts.iter().enumerate().filter(|(other, _)| *other != i);
        let partial = || others().find(|(_, other)| hosts::is_partial(other) && is_under(&name, other)).map(|(i, _)| i);
        let wider = || hosts::wildcards_over(&name).find_map(|w| seen.get(&w).filter(|other| **other != i));
        if let Some(other) = same.copied().or_else(|| wider().copied()).or_else(partial) {
            let text =
                format!("host `{host}` is covered by host `{}` of the same VirtualService", object.spec.hosts[other]);
            checker.error("P0113", &format!("spec.hosts[{i}]"), text);
        }
    }
}

/// Whether a name, or wildcard, ends as a wildcard within a label does.
fn is_under(name: &str, partial: &str) -> bool {
    name.ends_with(&partial.to_ascii_lowercase()[1..])
}
