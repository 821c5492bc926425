//! Listeners: the plain HTTP servers of the selected Gateways, merged by the address that is bound, and the TCP servers,
//! each with an address of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portolan_model::{Listener, RouteTableId};

use super::actions::Reference;
use super::gateways::{Gateways, KnownServer, Protocol};
use super::ports::PortMapping;
use super::tcp::TcpServers;
use crate::diagnostic::{Diagnostic, Place};

/// Listeners and what stands behind each.
pub(super) struct Listeners {
    /// In order of address; those of HTTP have a route table each, in the same order.
    pub(super) listeners: Vec<Listener>,
    /// By listener: (index of the Gateway, index of its server), oldest Gateway first.
    pub(super) servers: Vec<Vec<(usize, usize)>>,
    /// Clusters that listeners of TCP need.
    pub(super) references: Vec<Reference>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(gateways: &Gateways<'_>, ports: &PortMapping, tcp: &TcpServers) -> Listeners {
    let mut by_address: BTreeMap<SocketAddr, Vec<(usize, usize)>> = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        let served = |server: &KnownServer| matches!(server.protocol, Protocol::Http | Protocol::Tcp);
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, server)| served(server)) {
            if let (None, Some(service)) = (ports.get(server.port), &ports.service) {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text = format!("Service `{service}` in front of this gateway has no port {}", server.port);
                diagnostics.push(Diagnostic::warning("P0210", place, text));
            }
            let entries = by_address.entry(address(server, ports)).or_default();
            let first = entries.first().map(|&(g, s)| &gateways.all[g].servers[s]);
            if let Some(first) =
                first.filter(|first| (first.protocol, server.protocol) != (Protocol::Http, Protocol::Http))
            {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                diagnostics.push(conflict(first, server, address(server, ports), place));
                continue;
            }
            if let Some(first) = first.filter(|first| first.port != server.port) {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text = format!("ports {} and {} both come to {}", first.port, server.port, address(server, ports));
                let label = format!("port {} is at {}", first.port, first.origin.place());
                diagnostics.push(Diagnostic::warning("P0211", place, text).with_label(label));
            }
            entries.push((g, s));
        }
    }
    // A server of TCP without a rule holds its address against later servers, and nothing listens there: as in Istio.
    by_address.retain(|_, servers| {
        servers.iter().all(|&(g, s)| is_http(gateways, (g, s)) || tcp.chosen.contains_key(&(g, s)))
    });
    let mut tables = 0..;
    let mut listeners = Vec::with_capacity(by_address.len());
    let mut references = Vec::new();
    for (address, servers) in &by_address {
        let chosen = servers.first().and_then(|server| tcp.chosen.get(server));
        references.extend(chosen.iter().flat_map(|chosen| chosen.references.clone()));
        let id = if chosen.is_none() { tables.next() } else { None };
        let proxy = chosen.map(|chosen| chosen.proxy.clone());
        let base = listener(*address, servers, id.unwrap_or(RouteTableId::MAX), gateways);
        listeners.push(Listener { tcp: proxy, ..base });
    }
    Listeners { listeners, servers: by_address.into_values().collect(), references, diagnostics }
}

fn is_http(gateways: &Gateways<'_>, (g, s): (usize, usize)) -> bool {
    gateways.all[g].servers[s].protocol == Protocol::Http
}

/// Only servers of HTTP share an address.
fn conflict(first: &KnownServer, server: &KnownServer, address: SocketAddr, place: Place) -> Diagnostic {
    let text = format!(
        "a server of {} cannot share {address} with one of {}: this server is skipped",
        server.protocol.name(),
        first.protocol.name()
    );
    Diagnostic::warning("P0214", place, text).with_label(format!("the older one is at {}", first.origin.place()))
}

fn address(server: &KnownServer, ports: &PortMapping) -> SocketAddr {
    let ip = server.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    SocketAddr::new(ip, ports.get(server.port).unwrap_or(server.port))
}

fn listener(address: SocketAddr, servers: &[(usize, usize)], id: RouteTableId, gateways: &Gateways<'_>) -> Listener {
    let server = |&(g, s): &(usize, usize)| &gateways.all[g].servers[s];
    Listener {
        name: format!("{}_{}", address.ip(), address.port()),
        address,
        server_port: servers.first().map_or(address.port(), |first| server(first).port),
        route_table: id,
        tcp: None,
        origins: servers.iter().map(|s| server(s).origin.clone()).collect(),
    }
}
