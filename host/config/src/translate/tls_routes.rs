//! Servers of mode PASSTHROUGH: the server names of `tls` rules, each with the place where its connections go.

use std::collections::HashMap;

use super::binding::Bindings;
use super::destinations::Destinations;
use super::gateways::{Gateways, KnownGateway, KnownServer, Protocol};
use super::policies::Policies;
use super::tcp::{self, Chosen, Rule};
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::VirtualService;

/// The names of one match, with what takes their connections.
#[derive(Clone)]
pub(super) struct SniChain {
    pub(super) server_names: Vec<String>,
    pub(super) chosen: Chosen,
}

/// Chains by server.
#[derive(Default)]
pub(super) struct PassthroughServers {
    /// By index of the Gateway and of its server, in Istio's order.
    pub(super) chains: HashMap<(usize, usize), Vec<SniChain>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(
    gateways: &Gateways<'_>,
    bindings: &Bindings<'_>,
    destinations: &Destinations<'_>,
    policies: &Policies<'_>,
) -> PassthroughServers {
    let mut servers = PassthroughServers::default();
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        let passes = |server: &KnownServer| server.protocol == Protocol::Passthrough;
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, server)| passes(server)) {
            let objects = bindings.by_gateway[g].iter().map(|index| bindings.virtual_services[*index]);
            let mut chains: Vec<SniChain> = Vec::new();
            for object in objects.filter(|object| tcp::hosts_meet(object, server)) {
                servers.diagnostics.extend(chains_of(object, (gateway, server), destinations, policies, &mut chains));
            }
            if chains.is_empty() {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text =
                    format!("no VirtualService has a `tls` rule for port {}: its connections are closed", server.port);
                let help = "a server of mode PASSTHROUGH goes by the `sniHosts` of `tls` rules";
                servers.diagnostics.push(Diagnostic::warning("P0215", place, text).with_help(help));
            }
            servers.chains.insert((g, s), chains);
        }
    }
    servers
}

/// The first match that has a name keeps it, and another that has it too is skipped whole, as in Istio. What is to be said
/// of rules comes back.
fn chains_of(
    object: &Object<VirtualService>,
    (gateway, server): (&KnownGateway<'_>, &KnownServer),
    destinations: &Destinations<'_>,
    policies: &Policies<'_>,
    chains: &mut Vec<SniChain>,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, rule) in object.spec.tls.iter().enumerate() {
        for (m, condition) in rule.matches.iter().enumerate() {
            if !tcp::fits(&condition.l4(), object, gateway, server) {
                continue;
            }
            let server_names: Vec<_> = condition.sni_hosts.iter().map(|name| name.to_ascii_lowercase()).collect();
            if let Some((name, first)) = taken(&server_names, chains) {
                found.push(skipped(object, &format!("spec.tls[{i}].match[{m}].sniHosts[{name}]"), first));
                continue;
            }
            let rule = Rule { object, path: format!("spec.tls[{i}]"), route: &rule.route };
            found.extend(tcp::untunnelled(&rule, server, policies));
            chains.push(SniChain { server_names, chosen: tcp::chosen(&rule, server, destinations, policies) });
        }
    }
    found
}

/// The index of a name that an earlier match has, and that match's chain.
fn taken<'c>(names: &[String], chains: &'c [SniChain]) -> Option<(usize, &'c SniChain)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let first = chains.iter().find(|chain| chain.server_names.contains(name))?;
        Some((index, first))
    })
}

fn skipped(object: &Object<VirtualService>, path: &str, first: &SniChain) -> Diagnostic {
    let text = "another rule takes the connections of this server name: the whole match is skipped";
    let label = format!("the first one counts: {}", first.chosen.proxy.origin.place());
    Diagnostic::warning("P0216", object.place(path), text).with_label(label)
}
