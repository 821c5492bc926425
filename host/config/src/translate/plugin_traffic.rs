//! Which traffic a plugin sees: `targetRefs`, Istio's `match` and the annotation `portolan.dev/match`, made one list.

use portolan_model::PluginMatch;

use super::gateways::{Gateways, KnownGateway};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::extension::Extension;
use crate::hosts;
use crate::resources::istio::VirtualService;
use crate::resources::istio::wasm_plugin::TargetRef;

/// What a plugin sees; none is all traffic, an empty list none.
pub(super) struct Traffic {
    pub(super) matches: Option<Vec<PluginMatch>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// All three must hold; each is a list of which one must.
pub(super) fn translate(
    extension: &Extension<'_>,
    annotated: Option<Vec<PluginMatch>>,
    gateways: &Gateways<'_>,
    resources: &ResourceSet,
) -> Traffic {
    let mut diagnostics = Vec::new();
    let targets = targets(extension, gateways, resources, &mut diagnostics);
    let matches = both(both(targets, ports(extension)), annotated);
    if matches.as_ref().is_some_and(Vec::is_empty) && diagnostics.is_empty() {
        let text = "this filter sees no traffic of an ingress gateway, and is left out";
        diagnostics.push(Diagnostic::warning("P0217", extension.object.key_place("spec.match"), text));
    }
    Traffic { matches, diagnostics }
}

/// Istio's `match`. A gateway is on the client's side of its backends: entries for servers are not for it.
fn ports(extension: &Extension<'_>) -> Option<Vec<PluginMatch>> {
    if extension.matches.is_empty() {
        return None;
    }
    let here = extension.matches.iter().filter(|entry| entry.mode.as_deref() != Some("SERVER"));
    let entry_ports = here.map(|entry| {
        let ports = entry.ports.iter().filter_map(|port| u16::try_from(port.number).ok()).collect();
        PluginMatch { ports, ..PluginMatch::default() }
    });
    let entries: Vec<_> = entry_ports.collect();
    let is_all = entries.iter().any(|entry| entry.ports.is_empty());
    (!is_all).then_some(entries)
}

fn targets(
    extension: &Extension<'_>,
    gateways: &Gateways<'_>,
    resources: &ResourceSet,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<PluginMatch>> {
    if extension.targets.is_empty() {
        return None;
    }
    let namespace = &extension.object.meta.namespace;
    let mut entries = Vec::new();
    for (path, target) in &extension.targets {
        match target_traffic(target, namespace, gateways, resources) {
            Ok(traffic) => entries.extend(traffic),
            Err(reason) => {
                let text = format!("{} `{}` {reason}", target.kind, target.name);
                diagnostics.push(Diagnostic::warning("P0217", extension.object.place(&format!("{path}.name")), text));
            }
        }
    }
    Some(entries)
}

fn target_traffic(
    target: &TargetRef,
    namespace: &str,
    gateways: &Gateways<'_>,
    resources: &ResourceSet,
) -> Result<Vec<PluginMatch>, &'static str> {
    let name = format!("{namespace}/{}", target.name);
    match (target.group.as_str(), target.kind.as_str()) {
        ("networking.istio.io", "Gateway") => {
            let index = gateways.find(&name).ok_or("is not there: the filter does not see its traffic")?;
            Ok(gateways.all.get(index).map(gateway_traffic).unwrap_or_default())
        }
        ("networking.istio.io", "VirtualService") => {
            resources
                .get::<VirtualService>(namespace, &target.name)
                .ok_or("is not there: the filter sees none of it")?;
            let objects = vec![format!("VirtualService {name}")];
            Ok(vec![PluginMatch { objects, ..PluginMatch::default() }])
        }
        ("gateway.networking.k8s.io", _) => Err("is of Gateway API, which is not served yet: nothing is served for it"),
        _ => Err("is nothing that an ingress gateway serves: the filter sees none of it"),
    }
}

/// One entry for each server: its port with its hosts.
fn gateway_traffic(gateway: &KnownGateway<'_>) -> Vec<PluginMatch> {
    let servers = gateway.servers.iter().zip(&gateway.object.spec.servers);
    let entry = servers.map(|(known, written)| {
        let host = |host: &String| host.rsplit('/').next().unwrap_or(host).to_ascii_lowercase();
        let hosts: Vec<String> = written.hosts.iter().map(host).collect();
        let hosts = if hosts.iter().any(|host| host == "*") { Vec::new() } else { hosts };
        PluginMatch { ports: vec![known.port], hosts, ..PluginMatch::default() }
    });
    entry.collect()
}

/// What fulfils an entry of each list.
fn both(one: Option<Vec<PluginMatch>>, other: Option<Vec<PluginMatch>>) -> Option<Vec<PluginMatch>> {
    let (one, other) = match (one, other) {
        (Some(one), Some(other)) => (one, other),
        (one, other) => return one.or(other),
    };
    let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    Some(pairs.filter_map(|(a, b)| intersection(a, b)).collect())
}

/// None when nothing fulfils both. Paths, routes and objects are each given by one of them at most.
fn intersection(a: &PluginMatch, b: &PluginMatch) -> Option<PluginMatch> {
    let either = |one: &Vec<String>, other: &Vec<String>| if one.is_empty() { other.clone() } else { one.clone() };
    Some(PluginMatch {
        ports: common(&a.ports, &b.ports, |x, y| (x == y).then_some(*x))?,
        hosts: common(&a.hosts, &b.hosts, narrower)?,
        paths: if a.paths.is_empty() { b.paths.clone() } else { a.paths.clone() },
        routes: either(&a.routes, &b.routes),
        objects: either(&a.objects, &b.objects),
    })
}

/// An empty list stands for everything; none when two lists have nothing in common.
fn common<T: Clone + PartialEq>(a: &[T], b: &[T], meet: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    if a.is_empty() || b.is_empty() {
        return Some([a, b].concat());
    }
    let mut met: Vec<T> = a.iter().flat_map(|x| b.iter().filter_map(|y| meet(x, y)).collect::<Vec<_>>()).collect();
    met.dedup();
    (!met.is_empty()).then_some(met)
}

fn narrower(a: &String, b: &String) -> Option<String> {
    let covers = |wide: &String, narrow: &String| wide == narrow || hosts::wildcards_over(narrow).any(|w| w == *wide);
    if covers(a, b) { Some(b.clone()) } else { covers(b, a).then(|| a.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ports: &[u16], hosts: &[&str]) -> PluginMatch {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        PluginMatch { ports: ports.to_vec(), hosts, ..PluginMatch::default() }
    }

    #[test]
    fn what_two_lists_have_in_common_is_the_narrower_of_each_pair() {
        let gateway = Some(vec![entry(&[80], &["*.example.com"]), entry(&[81], &[])]);
        let asked = Some(vec![entry(&[], &["shop.example.com"]), entry(&[81], &["other.net"])]);
        let both = both(gateway, asked);
        let wanted = vec![
            entry(&[80], &["shop.example.com"]),
            entry(&[81], &["shop.example.com"]),
            entry(&[81], &["other.net"]),
        ];
        assert_eq!(both, Some(wanted));
    }

    #[test]
    fn nothing_in_common_is_no_traffic_and_nothing_asked_is_all() {
        assert_eq!(both(Some(vec![entry(&[80], &[])]), Some(vec![entry(&[81], &[])])), Some(vec![]));
        assert_eq!(both(None, None), None);
        assert_eq!(both(Some(vec![]), None), Some(vec![]));
    }
}
