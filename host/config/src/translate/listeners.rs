//! Listeners: all plain HTTP servers of the selected Gateways, merged by the address that is bound.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portolan_model::{Listener, RouteTableId};

use super::gateways::{Gateways, KnownServer, Protocol};
use super::ports::PortMapping;
use crate::diagnostic::Diagnostic;

/// Listeners and what stands behind each.
pub(super) struct Listeners {
    /// In order of address; the route table of each has the same index.
    pub(super) listeners: Vec<Listener>,
    /// By listener: (index of the Gateway, index of its server), oldest Gateway first.
    pub(super) servers: Vec<Vec<(usize, usize)>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(gateways: &Gateways<'_>, ports: &PortMapping) -> Listeners {
    let mut by_address: BTreeMap<SocketAddr, Vec<(usize, usize)>> = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, s)| s.protocol == Protocol::Http) {
            if let (None, Some(service)) = (ports.get(server.port), &ports.service) {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text = format!("Service `{service}` in front of this gateway has no port {}", server.port);
                diagnostics.push(Diagnostic::warning("P0210", place, text));
            }
            let entries = by_address.entry(address(server, ports)).or_default();
            let first = entries.first().map(|&(g, s)| &gateways.all[g].servers[s]);
            if let Some(first) = first.filter(|first| first.port != server.port) {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text = format!("ports {} and {} both come to {}", first.port, server.port, address(server, ports));
                let label = format!("port {} is at {}", first.port, first.origin.place());
                diagnostics.push(Diagnostic::warning("P0211", place, text).with_label(label));
            }
            entries.push((g, s));
        }
    }
    let listeners =
        by_address.iter().zip(0..).map(|((address, servers), id)| listener(*address, servers, id, gateways));
    Listeners { listeners: listeners.collect(), servers: by_address.into_values().collect(), diagnostics }
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
        origins: servers.iter().map(|s| server(s).origin.clone()).collect(),
    }
}
