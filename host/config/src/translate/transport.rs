//! How connections to clusters are made: from `trafficPolicy.tls`, `connectionPool`, `proxyProtocol`, and the protocol of
//! the port (pilot/pkg/networking/core/cluster_tls.go, cluster_traffic_policy.go).

use portolan_model::{Cluster, ProxyProtocol, TcpKeepalive, Transport, UpstreamProtocol};

use super::mesh::first;
use super::policies::{InForce, Policies};
use super::port_protocol::PortProtocol;
use super::registry::{Provider, Registry};
use super::tls_defaults::TlsDefaults;
use super::upstream_tls;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::resources::istio::destination_rule::{ConnectionPool, TcpKeepalive as WrittenKeepalive};

/// What is the same for all clusters.
pub(super) struct Mesh {
    h2_upgrade: bool,
    tcp_keepalive: Option<WrittenKeepalive>,
    /// `verifyCertificateAtClient`: on unless it is switched off.
    pub(super) verify: bool,
    pub(super) tls: TlsDefaults,
}

impl Mesh {
    fn of(resources: &ResourceSet) -> Self {
        Self {
            h2_upgrade: first(resources, |mesh| mesh.h2_upgrade_policy.clone()).as_deref() == Some("UPGRADE"),
            tcp_keepalive: first(resources, |mesh| mesh.tcp_keepalive.clone()),
            verify: first(resources, |mesh| mesh.verify_certificate_at_client).unwrap_or(true),
            tls: TlsDefaults::of(resources),
        }
    }
}

/// Gives each cluster its transport. What is said of it has the rule's place, once for all clusters that it is in force for.
pub(super) fn apply(
    clusters: &mut [Cluster],
    registry: &Registry<'_>,
    policies: &Policies<'_>,
    resources: &ResourceSet,
) -> Vec<Diagnostic> {
    let mesh = Mesh::of(resources);
    let mut diagnostics = Vec::new();
    for cluster in clusters {
        // `outbound|port|subset|host`, which is how `ClusterKey` names it.
        let mut parts = cluster.name.splitn(4, '|').skip(1);
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let Ok(port) = port.parse() else { continue };
        let blocks = policies.of_host(host).map(|rules| rules.in_force(port, subset)).unwrap_or_default();
        let protocol = registry.port_protocol(host, port);
        let pool = blocks.connection_pool.as_ref().map(|(pool, _, _)| *pool);
        cluster.transport = Transport {
            protocol: version(pool, protocol, &mesh),
            max_concurrent_streams: max_concurrent_streams(pool),
            tls: upstream_tls::translate(&blocks, alt_names(registry, host), &mesh, resources, &mut diagnostics),
            proxy_protocol: proxy_protocol(&blocks),
            tcp_keepalive: tcp_keepalive(pool, &mesh),
        };
        if cluster.transport.protocol == UpstreamProtocol::Http1 {
            cluster.transport.max_concurrent_streams = 0;
        }
    }
    diagnostics
}

/// `useClientProtocol` beats all, then `UPGRADE`, then the port. The mesh upgrades ports that say HTTP only.
fn version(pool: Option<&ConnectionPool>, port: Option<PortProtocol>, mesh: &Mesh) -> UpstreamProtocol {
    let http = pool.and_then(|pool| pool.http.as_ref());
    let is_http = port.is_none_or(PortProtocol::is_http);
    let upgrade = match http.and_then(|http| http.h2_upgrade_policy.as_deref()) {
        Some("UPGRADE") => true,
        Some("DO_NOT_UPGRADE") => false,
        _ => mesh.h2_upgrade && is_http,
    };
    match () {
        () if http.is_some_and(|http| http.use_client_protocol == Some(true)) => UpstreamProtocol::Downstream,
        () if upgrade => UpstreamProtocol::Http2,
        () if port.is_some_and(PortProtocol::is_http2) => UpstreamProtocol::Http2,
        () => UpstreamProtocol::Http1,
    }
}

fn max_concurrent_streams(pool: Option<&ConnectionPool>) -> u32 {
    let written = pool.and_then(|pool| pool.http.as_ref()?.max_concurrent_streams);
    written.and_then(|streams| u32::try_from(streams).ok()).unwrap_or(0)
}

/// Names that ServiceEntries give their hosts, for rules that give none.
fn alt_names<'a>(registry: &Registry<'a>, host: &str) -> &'a [String] {
    let entries = registry.providers(host).iter().filter_map(|provider| match provider {
        Provider::Entry(entry) => Some(entry.spec.subject_alt_names.as_slice()),
        Provider::Service(_) | Provider::Bare(_) => None,
    });
    { entries }.find(|names| !names.is_empty()).unwrap_or_default()
}

fn proxy_protocol(blocks: &InForce<'_>) -> Option<ProxyProtocol> {
    let (written, _, _) = blocks.proxy_protocol.as_ref()?;
    Some(if written.version.as_deref() == Some("V2") { ProxyProtocol::V2 } else { ProxyProtocol::V1 })
}

fn tcp_keepalive(pool: Option<&ConnectionPool>, mesh: &Mesh) -> Option<TcpKeepalive> {
    let own = pool.and_then(|pool| pool.tcp.as_ref()?.tcp_keepalive.as_ref());
    let written = own.or(mesh.tcp_keepalive.as_ref())?;
    let seconds = |text: &Option<String>| {
        let ms = duration::parse_ms(text.as_deref()?)?;
        u32::try_from(ms.div_ceil(1000)).ok().filter(|seconds| *seconds > 0)
    };
    Some(TcpKeepalive {
        probes: written.probes.filter(|probes| *probes > 0),
        time_s: seconds(&written.time),
        interval_s: seconds(&written.interval),
    })
}
