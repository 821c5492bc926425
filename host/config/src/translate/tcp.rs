//! Servers of TCP, plain or within TLS that ends here: the first `tcp` rule that fits a server takes all of its
//! connections, as in Istio. Servers of UDP are served by `tcp` rules, too.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::{MISSING_CLUSTER, TcpDestination, TcpProxy, Tunnel};
use serde_yaml::Value;

use super::actions::Reference;
use super::binding::{Bindings, gateway_name};
use super::destinations::Destinations;
use super::gateways::{Gateways, KnownGateway, KnownServer, Protocol};
use super::policies::Policies;
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{L4Match, RouteDestination, TcpRouteDestination};

/// Envoy's default, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;
/// And of its `udp_proxy`.
const SESSION_IDLE_TIMEOUT_MS: u64 = 60_000;

/// What connections of a server go by, and the clusters that it needs.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) proxy: TcpProxy,
    pub(super) references: Vec<Arc<Reference>>,
}

/// Servers of TCP that have a rule.
#[derive(Default)]
pub(super) struct TcpServers {
    /// By index of the Gateway and of its server.
    pub(super) chosen: HashMap<(usize, usize), Chosen>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(
    gateways: &Gateways<'_>,
    bindings: &Bindings<'_>,
    destinations: &Destinations<'_>,
    policies: &Policies<'_>,
) -> TcpServers {
    let mut servers = TcpServers::default();
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, s)| takes_bytes(s)) {
            let objects = bindings.by_gateway[g].iter().map(|index| bindings.virtual_services[*index]);
            let mut fitting = objects.filter_map(|object| Some((object, fitting_rule(object, gateway, server)?)));
            let Some((object, rule)) = fitting.next() else {
                servers.diagnostics.push(without_rule(gateway, server));
                continue;
            };
            servers.diagnostics.extend(fitting.map(|(other, index)| hidden(other, index, object, rule, server)));
            let path = format!("spec.tcp[{rule}]");
            let rule = Rule { object, path, route: &object.spec.tcp[rule].route };
            servers.diagnostics.extend(untunnelled(&rule, server, policies));
            servers.chosen.insert((g, s), chosen(&rule, server, destinations, policies));
        }
    }
    servers
}

/// The first rule of a VirtualService that fits the server, if their hosts meet at all.
fn fitting_rule(object: &Object<VirtualService>, gateway: &KnownGateway<'_>, server: &KnownServer) -> Option<usize> {
    if !hosts_meet(object, server) {
        return None;
    }
    let fits = |condition: &L4Match| fits(condition, object, gateway, server);
    object.spec.tcp.iter().position(|rule| rule.matches.is_empty() || rule.matches.iter().any(fits))
}

fn takes_bytes(server: &KnownServer) -> bool {
    matches!(server.protocol, Protocol::Tcp | Protocol::Tls | Protocol::Udp)
}

/// Whether a VirtualService and a server have hosts in common.
pub(super) fn hosts_meet(object: &Object<VirtualService>, server: &KnownServer) -> bool {
    let namespace = &object.meta.namespace;
    let meets = |host: &String| !server.hosts.meet(&hosts::complete(host, namespace), namespace).is_empty();
    object.spec.hosts.iter().any(meets)
}

/// Whether a match is for this Gateway and port.
pub(super) fn fits(
    condition: &L4Match,
    object: &Object<VirtualService>,
    gateway: &KnownGateway<'_>,
    server: &KnownServer,
) -> bool {
    let port = condition.port.is_none_or(|port| port == 0 || port == u32::from(server.port));
    let named = |name: &String| gateway_name(name, &object.meta.namespace) == gateway.name;
    port && (condition.gateways.is_empty() || condition.gateways.iter().any(named))
}

fn without_rule(gateway: &KnownGateway<'_>, server: &KnownServer) -> Diagnostic {
    let place = gateway.object.place(&format!("{}.port.number", server.path));
    let text = format!("no VirtualService has a `tcp` rule for port {}: nothing listens there", server.port);
    let kind = if server.protocol == Protocol::Udp { "UDP" } else { "TCP" };
    let help = format!("a server of {kind} takes the first `tcp` rule that fits its port");
    Diagnostic::warning("P0215", place, text).with_help(help)
}

fn hidden(
    other: &Object<VirtualService>,
    index: usize,
    object: &Object<VirtualService>,
    rule: usize,
    server: &KnownServer,
) -> Diagnostic {
    let place = other.key_place(&format!("spec.tcp[{index}]"));
    let text = format!("another VirtualService takes the connections of port {}", server.port);
    let label = format!("the older one counts: {}", object.origin(&format!("spec.tcp[{rule}]")).place());
    Diagnostic::warning("P0216", place, text).with_label(label)
}

/// A rule for connections, of `tcp` or of `tls`.
pub(super) struct Rule<'a> {
    pub(super) object: &'a Object<VirtualService>,
    /// Path in the object, e.g. `spec.tcp[0]`.
    pub(super) path: String,
    pub(super) route: &'a [TcpRouteDestination],
}

/// What takes the connections of a rule.
pub(super) fn chosen(
    rule: &Rule<'_>,
    server: &KnownServer,
    destinations: &Destinations<'_>,
    policies: &Policies<'_>,
) -> Chosen {
    let object = rule.object;
    let single = rule.route.len() == 1;
    let mut translated = Vec::new();
    let mut references = Vec::new();
    for (j, entry) in rule.route.iter().enumerate() {
        let weight = u32::try_from(entry.weight.unwrap_or(0)).unwrap_or(0);
        let Some(written) = entry.destination.as_ref().filter(|_| single || weight > 0) else { continue };
        let (key, known) = destinations.resolve(&object.meta.namespace, written, server.port);
        let origin = object.origin(&format!("{}.route[{j}].destination", rule.path));
        let cluster_name = key.name();
        translated.push(TcpDestination {
            cluster: MISSING_CLUSTER,
            cluster_name,
            weight: weight.max(1),
            origin: origin.clone(),
        });
        if known {
            references.push(destinations.reference(key, &written.host, origin));
        }
    }
    let first = rule.route.first().and_then(|entry| entry.destination.as_ref());
    let host = first.map(|first| hosts::complete(&first.host, &object.meta.namespace)).unwrap_or_default();
    let rules = policies.of_host(&host);
    let pool = rules.and_then(|rules| rules.top_level_tcp());
    let tunnel = first.and_then(|first| tunnel(rules?.tunnel(tunnel_subset(first, single))?));
    let idle = pool.and_then(|pool| pool.idle_timeout.as_deref()).and_then(duration::parse_ms);
    let longest = pool.and_then(|pool| pool.max_connection_duration.as_deref()).and_then(duration::parse_ms);
    let stat_prefix = match translated.as_slice() {
        [only] if single => only.cluster_name.clone(),
        _ => format!("{}.{}", object.meta.name, object.meta.namespace),
    };
    let default = if server.protocol == Protocol::Udp { SESSION_IDLE_TIMEOUT_MS } else { IDLE_TIMEOUT_MS };
    let proxy = TcpProxy {
        stat_prefix,
        destinations: translated,
        idle_timeout_ms: Some(idle.unwrap_or(default)).filter(|ms| *ms > 0),
        max_connection_duration_ms: longest.filter(|ms| *ms > 0),
        tunnel,
        origin: object.origin(&rule.path),
    };
    Chosen { proxy, references }
}

/// Whose tunnel counts: of several destinations that of the first one's host, whatever its subset, as in Istio.
fn tunnel_subset(first: &RouteDestination, single: bool) -> &str {
    first.subset.as_deref().filter(|_| single).unwrap_or_default()
}

/// Destinations whose tunnel has no effect on a rule.
pub(super) fn untunnelled(rule: &Rule<'_>, server: &KnownServer, policies: &Policies<'_>) -> Option<Diagnostic> {
    let is_udp = server.protocol == Protocol::Udp;
    if rule.route.len() == 1 && !is_udp {
        return None;
    }
    let namespace = &rule.object.meta.namespace;
    let of = |written: &RouteDestination, subset: &str| {
        policies.of_host(&hosts::complete(&written.host, namespace))?.tunnel(subset)
    };
    let first = rule.route.first().and_then(|entry| entry.destination.as_ref()).filter(|_| !is_udp);
    let counting = first.and_then(|first| of(first, tunnel_subset(first, false)));
    let is_unused = |entry: &TcpRouteDestination| {
        let written = entry.destination.as_ref();
        let own = written.and_then(|written| of(written, written.subset.as_deref().unwrap_or_default()));
        own.is_some_and(|own| counting.is_none_or(|counting| !std::ptr::eq(own, counting)))
    };
    let index = rule.route.iter().position(is_unused)?;
    let place = rule.object.place(&format!("{}.route[{index}].destination.host", rule.path));
    let why = match is_udp {
        true => "a server of UDP has none",
        false => "of several destinations that of the first one's host counts",
    };
    let label = match counting {
        Some(_) => "bytes go through the first one's tunnel",
        None => "bytes go to the endpoint as they are",
    };
    let text = format!("`tunnel` of the DestinationRule has no effect here: {why}");
    Some(Diagnostic::warning("P0356", place, text).with_label(label))
}

/// None of what is refused when the rule is read.
fn tunnel(written: &Value) -> Option<Tunnel> {
    let host = written.get("targetHost")?.as_str()?;
    let port = u16::try_from(written.get("targetPort")?.as_u64()?).ok()?;
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Some(Tunnel { target, post: written.get("protocol").and_then(Value::as_str) == Some("POST") })
}
