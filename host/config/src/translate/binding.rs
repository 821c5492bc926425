//! [`Bindings`]: which VirtualServices belong to which Gateway, in Istio's order.

use super::age;
use super::gateways::Gateways;
use super::visibility::Visibility;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::suggest;

/// VirtualServices by Gateway.
pub(super) struct Bindings<'a> {
    /// In Istio's order.
    pub(super) virtual_services: Vec<&'a Object<VirtualService>>,
    /// By index of the Gateway: indices of its VirtualServices, in order.
    pub(super) by_gateway: Vec<Vec<usize>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Bindings<'a> {
    pub(super) fn of(resources: &'a ResourceSet, gateways: &Gateways<'_>, visibility: &Visibility) -> Self {
        let seen = |object: &'a Object<VirtualService>| {
            (visibility.of_virtual_service(&object.meta, &object.spec.export_to), object)
        };
        let mut ordered: Vec<_> = resources.virtual_services().map(seen).collect();
        // Hidden ones last: they are bound to nothing.
        ordered.sort_by(|(a, x), (b, y)| (a.is_none(), a, age(&x.meta)).cmp(&(b.is_none(), b, age(&y.meta))));
        let visible = ordered.iter().filter(|(seen, _)| seen.is_some()).count();
        let virtual_services: Vec<_> = ordered.into_iter().map(|(_, object)| object).collect();
        let mut by_gateway = vec![Vec::new(); gateways.all.len()];
        let mut diagnostics = Vec::new();
        for (i, object) in virtual_services.iter().enumerate() {
            let bound = bound_gateways(object, gateways, &mut diagnostics);
            diagnose_hosts(object, &bound, gateways, &mut diagnostics);
            if i >= visible {
                let elsewhere = bound.iter().all(|gateway| !gateways.all[*gateway].selected) && !bound.is_empty();
                let asks = object.spec.gateways.iter().any(|name| name != "mesh");
                diagnostics.extend((asks && !elsewhere).then(|| not_exported(object, visibility)));
                continue;
            }
            for gateway in bound {
                by_gateway[gateway].push(i);
            }
        }
        Self { virtual_services, by_gateway, diagnostics }
    }
}

/// `namespace/name` of a Gateway as a VirtualService in `namespace` writes it; `mesh` stays.
pub(super) fn gateway_name(written: &str, namespace: &str) -> String {
    if written == "mesh" {
        return written.to_owned();
    }
    if let Some((before, name)) = written.split_once('/') {
        return if before == "." { format!("{namespace}/{name}") } else { written.to_owned() };
    }
    // The old form `name.namespace.svc.cluster.local`.
    let mut parts = written.split('.');
    match (parts.next(), parts.next()) {
        (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
        _ => format!("{namespace}/{written}"),
    }
}

fn bound_gateways(object: &Object<VirtualService>, gateways: &Gateways<'_>, found: &mut Vec<Diagnostic>) -> Vec<usize> {
    let written = &object.spec.gateways;
    let mut bound = Vec::new();
    for (i, name) in written.iter().enumerate().filter(|(_, name)| *name != "mesh") {
        match gateways.find(&gateway_name(name, &object.meta.namespace)) {
            Some(gateway) if !bound.contains(&gateway) => bound.push(gateway),
            Some(_) => {}
            None => found.push(unknown_gateway(object, i, name, gateways)),
        }
    }
    if written.iter().all(|name| name == "mesh") && !object.spec.hosts.is_empty() {
        let place = object.key_place("spec.gateways");
        let text = "this VirtualService is for the mesh only: no ingress gateway serves it";
        found.push(Diagnostic::warning("P0203", place, text).with_help("name a Gateway in `spec.gateways`"));
    }
    bound
}

fn not_exported(object: &Object<VirtualService>, visibility: &Visibility) -> Diagnostic {
    let text = format!("`exportTo` keeps namespace `{}` of this gateway out: nothing is served", visibility.gateway);
    let label =
        "who may see it: `.` its own namespace, `*` all, or names; without `exportTo` the mesh's default counts";
    Diagnostic::warning("P0322", object.key_place("spec.exportTo"), text).with_label(label)
}

fn unknown_gateway(object: &Object<VirtualService>, index: usize, name: &str, gateways: &Gateways<'_>) -> Diagnostic {
    let full = gateway_name(name, &object.meta.namespace);
    let place = object.place(&format!("spec.gateways[{index}]"));
    let finding = Diagnostic::error("P0201", place, format!("there is no Gateway `{full}`"));
    if gateways.all.is_empty() {
        return finding.with_label("there are no Gateways");
    }
    let finding = finding.with_label(format!("known: {}", suggest::list(gateways.all.iter().map(|g| g.name.as_str()))));
    let short = full.rsplit('/').next().unwrap_or(&full);
    let elsewhere = gateways.all.iter().map(|g| g.name.as_str()).find(|known| known.rsplit('/').next() == Some(short));
    match elsewhere.or_else(|| suggest::nearest(&full, gateways.all.iter().map(|g| g.name.as_str()))) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding,
    }
}

/// A host that none of the VirtualService's Gateways has.
fn diagnose_hosts(
    object: &Object<VirtualService>,
    bound: &[usize],
    gateways: &Gateways<'_>,
    found: &mut Vec<Diagnostic>,
) {
    if bound.is_empty() {
        return;
    }
    for (i, written) in object.spec.hosts.iter().enumerate() {
        let host = hosts::complete(written, &object.meta.namespace);
        let servers = || bound.iter().flat_map(|g| &gateways.all[*g].servers);
        if servers().any(|server| !server.hosts.meet(&host, &object.meta.namespace).is_empty()) {
            continue;
        }
        let names: Vec<&str> = bound.iter().map(|g| gateways.all[*g].name.as_str()).collect();
        let place = object.place(&format!("spec.hosts[{i}]"));
        let text = format!("host `{host}` is outside of the hosts of Gateway `{}`", suggest::list(names));
        let known: Vec<String> = servers().flat_map(|server| server.hosts.shown()).collect();
        let known = suggest::list(known.iter().map(String::as_str));
        found.push(Diagnostic::warning("P0202", place, text).with_label(format!("served there: {known}")));
    }
}
