//! Listeners: the plain HTTP servers of the selected Gateways, merged by the address that is bound; the TLS servers, which
//! share addresses as filter chains; and the TCP servers, each with an address of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portolan_model::{
    ConnectMode, FilterChain, Listener, ListenerLimits, Origin, ProxyHeaders, RouteTableId, UdpListener, UdpProxy,
};

use super::actions::Reference;
use super::gateways::{Gateways, KnownGateway, KnownServer, Protocol};
use super::ports::PortMapping;
use super::tcp::{Chosen, TcpServers};
use super::tls::TlsServers;
use super::tls_routes::PassthroughServers;
use crate::annotations::{GatewaySettings, gateway_settings};
use crate::diagnostic::{Diagnostic, Place};

/// Annotation of a Gateway: its servers of HTTP and HTTPS take gRPC-Web, whatever the protocol of their port.
const GRPC_WEB: &str = "portolan.dev/grpc-web";

/// Listeners and what stands behind each.
pub(super) struct Listeners {
    /// In order of address.
    pub(super) listeners: Vec<Listener>,
    /// Those of UDP, which share addresses with others.
    pub(super) udp: Vec<UdpListener>,
    /// The route tables that they need, by id.
    pub(super) tables: Vec<TableServers>,
    /// Clusters that listeners of TCP need.
    pub(super) references: Vec<Arc<Reference>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// What a route table is made of.
pub(super) struct TableServers {
    pub(super) name: String,
    /// The servers' port.
    pub(super) port: u16,
    /// Requests of gRPC-Web are turned into gRPC.
    pub(super) grpc_web: bool,
    pub(super) connect: Option<ConnectMode>,
    /// (Index of the Gateway, index of its server), oldest Gateway first.
    pub(super) servers: Vec<(usize, usize)>,
}

/// What stands behind servers that are not plain HTTP.
pub(super) struct Behind<'a> {
    /// The mesh has all connections begin with a header of the PROXY protocol.
    pub(super) proxy_headers: Option<ProxyHeaders>,
    pub(super) tcp: &'a TcpServers,
    pub(super) tls: &'a TlsServers,
    pub(super) passthrough: &'a PassthroughServers,
}

pub(super) fn translate(gateways: &Gateways<'_>, ports: &PortMapping, behind: &Behind<'_>) -> Listeners {
    let mut diagnostics = Vec::new();
    let by_address = shared(gateways, ports, &mut diagnostics);
    let mut draft = Draft { gateways, behind, tables: Vec::new(), references: Vec::new() };
    let (udp, others): (Vec<_>, Vec<_>) = by_address.iter().partition(|((_, is_udp), _)| *is_udp);
    let listeners = others.iter().filter_map(|((address, _), servers)| draft.listener(*address, servers)).collect();
    let udp = udp.iter().filter_map(|((address, _), servers)| draft.udp_listener(*address, servers)).collect();
    Listeners { listeners, udp, tables: draft.tables, references: draft.references, diagnostics }
}

/// Servers by the address that is bound, and whether it is one of UDP.
type ByAddress = BTreeMap<(SocketAddr, bool), Vec<(usize, usize)>>;

/// Servers by address, oldest Gateway first, without those that cannot be there.
fn shared(gateways: &Gateways<'_>, ports: &PortMapping, diagnostics: &mut Vec<Diagnostic>) -> ByAddress {
    let mut names: HashMap<(SocketAddr, String), Origin> = HashMap::new();
    let mut by_address = ByAddress::new();
    for (g, gateway) in gateways.all.iter().enumerate().filter(|(_, gateway)| gateway.selected) {
        let served = |server: &KnownServer| !matches!(server.protocol, Protocol::Mesh | Protocol::Other);
        for (s, server) in gateway.servers.iter().enumerate().filter(|(_, server)| served(server)) {
            if let (None, Some(service)) = (ports.get(server.port), &ports.service) {
                let place = gateway.object.place(&format!("{}.port.number", server.path));
                let text = format!("Service `{service}` in front of this gateway has no port {}", server.port);
                diagnostics.push(Diagnostic::warning("P0210", place, text));
            }
            let address = address(server, ports);
            let entries = by_address.entry((address, server.protocol == Protocol::Udp)).or_default();
            let first = entries.first().map(|&(g, s)| &gateways.all[g].servers[s]);
            let place = || gateway.object.place(&format!("{}.port.number", server.path));
            if let Some(first) = first.filter(|first| !share(first, server)) {
                diagnostics.push(conflict(first, server, address, place()));
                continue;
            }
            if server.protocol.by_server_name() {
                if let Some(repeated) = repeated(gateway, server, address, &names) {
                    diagnostics.push(repeated);
                    continue;
                }
                let taken = server.hosts.hosts().map(|host| ((address, host.to_owned()), server.origin.clone()));
                names.extend(taken);
            }
            if let Some(first) = first.filter(|first| first.port != server.port) {
                let text = format!("ports {} and {} both come to {address}", first.port, server.port);
                let label = format!("port {} is at {}", first.port, first.origin.place());
                diagnostics.push(Diagnostic::warning("P0211", place(), text).with_label(label));
            }
            entries.push((g, s));
        }
    }
    by_address
}

/// Listeners in the making.
struct Draft<'a> {
    gateways: &'a Gateways<'a>,
    behind: &'a Behind<'a>,
    tables: Vec<TableServers>,
    references: Vec<Arc<Reference>>,
}

impl Draft<'_> {
    /// None when nothing stands behind the servers: they hold their address against later ones all the same, as in Istio.
    fn listener(&mut self, address: SocketAddr, servers: &[(usize, usize)]) -> Option<Listener> {
        let first = *servers.first()?;
        let base = listener(address, servers, self.gateways, self.behind.proxy_headers.as_ref());
        match self.server(first).protocol {
            Protocol::Http => {
                let route_table = self.table(format!("http.{}", base.server_port), base.server_port, servers.to_vec());
                Some(Listener { route_table, ..base })
            }
            Protocol::Tcp => {
                let chosen = self.behind.tcp.chosen.get(&first)?;
                Some(Listener { tcp: Some(self.proxy(chosen)), ..base })
            }
            _ => {
                let filter_chains: Vec<_> = servers.iter().flat_map(|server| self.chains(*server)).collect();
                (!filter_chains.is_empty()).then_some(Listener { filter_chains, ..base })
            }
        }
    }

    /// None when no rule fits the server.
    fn udp_listener(&mut self, address: SocketAddr, servers: &[(usize, usize)]) -> Option<UdpListener> {
        let first = *servers.first()?;
        let chosen = self.behind.tcp.chosen.get(&first)?;
        let base = listener(address, servers, self.gateways, None);
        let tcp = self.proxy(chosen);
        let proxy = UdpProxy {
            stat_prefix: tcp.stat_prefix,
            destinations: tcp.destinations,
            idle_timeout_ms: tcp.idle_timeout_ms,
            origin: tcp.origin,
        };
        Some(UdpListener {
            name: format!("udp_{}", base.name),
            address,
            server_port: base.server_port,
            proxy,
            max_sessions: base.limits.max_connections,
            origins: base.origins,
        })
    }

    fn chains(&mut self, key: (usize, usize)) -> Vec<FilterChain> {
        let http3 = gateway_settings(&self.gateways.all[key.0].object.meta.annotations).0.http3;
        let server = self.server(key);
        let bare = FilterChain {
            server_names: server.hosts.hosts().map(str::to_owned).collect(),
            tls: self.behind.tls.by_server.get(&key).cloned(),
            route_table: RouteTableId::MAX,
            tcp: None,
            http3: false,
            origin: server.origin.clone(),
        };
        match server.protocol {
            Protocol::Https => {
                let name = rds_name(&self.gateways.all[key.0], server);
                let route_table = self.table(name, server.port, vec![key]);
                vec![FilterChain { route_table, http3, ..bare }]
            }
            Protocol::Tls => {
                let chosen = self.behind.tcp.chosen.get(&key);
                chosen.map(|chosen| FilterChain { tcp: Some(self.proxy(chosen)), ..bare }).into_iter().collect()
            }
            _ => {
                let chains = self.behind.passthrough.chains.get(&key).into_iter().flatten();
                let chain = |sni: &super::tls_routes::SniChain| FilterChain {
                    server_names: sni.server_names.clone(),
                    tcp: Some(self.proxy(&sni.chosen)),
                    ..bare.clone()
                };
                chains.map(chain).collect()
            }
        }
    }

    fn table(&mut self, name: String, port: u16, servers: Vec<(usize, usize)>) -> RouteTableId {
        let grpc_web = self.takes_grpc_web(&servers);
        let connect = self.connect(&servers);
        self.tables.push(TableServers { name, port, grpc_web, connect, servers });
        RouteTableId::try_from(self.tables.len() - 1).unwrap_or(RouteTableId::MAX)
    }

    /// As Istio has it, when the first server's protocol says so; and when a Gateway has [`GRPC_WEB`].
    fn takes_grpc_web(&self, servers: &[(usize, usize)]) -> bool {
        let is_asked = |&(g, _): &(usize, usize)| {
            let annotations = &self.gateways.all[g].object.meta.annotations;
            annotations.get(GRPC_WEB).is_some_and(|value| value == "true")
        };
        let protocol = |&(g, s): &(usize, usize)| {
            let index = self.gateways.all[g].servers[s].index;
            let port = self.gateways.all[g].object.spec.servers[index].port.as_ref();
            port.is_some_and(|port| port.protocol.eq_ignore_ascii_case("GRPC-WEB"))
        };
        servers.first().is_some_and(protocol) || servers.iter().any(is_asked)
    }

    /// As the oldest Gateway has it that says something.
    fn connect(&self, servers: &[(usize, usize)]) -> Option<ConnectMode> {
        let annotations = |&(g, _): &(usize, usize)| &self.gateways.all[g].object.meta.annotations;
        servers.iter().map(annotations).find_map(|annotations| gateway_settings(annotations).0.connect)
    }

    fn proxy(&mut self, chosen: &Chosen) -> portolan_model::TcpProxy {
        self.references.extend(chosen.references.clone());
        chosen.proxy.clone()
    }

    fn server(&self, (g, s): (usize, usize)) -> &KnownServer {
        &self.gateways.all[g].servers[s]
    }
}

/// As Istio names the routes of a TLS server.
fn rds_name(gateway: &KnownGateway<'_>, server: &KnownServer) -> String {
    let port_name = gateway.object.spec.servers[server.index].port.as_ref().map_or("", |port| port.name.as_str());
    let meta = &gateway.object.meta;
    format!("https.{}.{port_name}.{}.{}", server.port, meta.name, meta.namespace)
}

/// Servers of HTTP share an address, and so do those that the client's server name tells apart.
fn share(first: &KnownServer, server: &KnownServer) -> bool {
    (first.protocol, server.protocol) == (Protocol::Http, Protocol::Http)
        || first.protocol.by_server_name() && server.protocol.by_server_name()
}

/// A host that another TLS server of this address has.
fn repeated(
    gateway: &KnownGateway<'_>,
    server: &KnownServer,
    address: SocketAddr,
    names: &HashMap<(SocketAddr, String), Origin>,
) -> Option<Diagnostic> {
    let (host, first) = server.hosts.hosts().find_map(|h| Some((h, names.get(&(address, h.to_owned()))?)))?;
    let place = gateway.object.place(&format!("{}.hosts", server.path));
    let text = format!("another TLS server of {address} has host `{host}`: this server is skipped");
    Some(Diagnostic::warning("P0232", place, text).with_label(format!("the older one is at {}", first.place())))
}

/// What cannot share an address.
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

fn listener(
    address: SocketAddr,
    servers: &[(usize, usize)],
    gateways: &Gateways<'_>,
    mesh: Option<&ProxyHeaders>,
) -> Listener {
    let server = |&(g, s): &(usize, usize)| &gateways.all[g].servers[s];
    // Of several Gateways that share an address the oldest that says something is heard.
    let annotations = servers.iter().map(|(g, _)| &gateways.all[*g].object.meta.annotations);
    let settings: Vec<_> = annotations.map(|annotations| gateway_settings(annotations).0).collect();
    let limit = |read: fn(&ListenerLimits) -> Option<u64>| settings.iter().find_map(|settings| read(&settings.limits));
    let limits = ListenerLimits {
        max_connections: settings.iter().find_map(|settings| settings.limits.max_connections),
        stream_idle_timeout_ms: limit(|limits| limits.stream_idle_timeout_ms),
        request_timeout_ms: limit(|limits| limits.request_timeout_ms),
    };
    Listener {
        name: format!("{}_{}", address.ip(), address.port()),
        address,
        server_port: servers.first().map_or(address.port(), |first| server(first).port),
        route_table: RouteTableId::MAX,
        tcp: None,
        filter_chains: Vec::new(),
        proxy_headers: settings.iter().find_map(GatewaySettings::proxy_headers).or_else(|| mesh.cloned()),
        limits,
        origins: servers.iter().map(|s| server(s).origin.clone()).collect(),
    }
}
