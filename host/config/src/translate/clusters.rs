//! Clusters: one for each host, port and subset that a route needs; with filters of users one for each that there is.

use std::collections::{BTreeMap, HashMap};

use portolan_model::{
    Address, CircuitBreakers, Cluster, ClusterId, Discovery, DynamicHosts, Endpoint, LbPolicy, Origin,
    OutlierDetection, RetryBudget, Transport,
};

use super::actions::Reference;
use super::destinations::ClusterKey;
use super::fits;
use super::health_checks::HealthChecks;
use super::load_balancing;
use super::locality::{self, Own};
use super::parts;
use super::policies::{InForce, Policies};
use super::registry::{Provider, Registry};
use super::service_backends::{self, Backend};
use crate::diagnostic::{Diagnostic, Place};
use crate::duration;
use crate::resources::istio::destination_rule::{
    ConnectionPool, LoadBalancer, OutlierDetection as Written, RetryBudget as WrittenBudget, Subset,
};
use crate::resources::istio::http_policy::Percent;
use crate::resources::istio::load_balancer::LocalityLbSetting;
use crate::suggest;

/// Istio's defaults, in milliseconds.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;
/// A hundred years.
const NEVER_MS: u64 = 100 * 365 * 86_400_000;
const INTERVAL_MS: u64 = 10_000;
const BASE_EJECTION_TIME_MS: u64 = 30_000;

/// Clusters and their numbers by name.
pub(super) struct Clusters {
    /// In order of host, port and subset.
    pub(super) clusters: Vec<Cluster>,
    pub(super) ids: HashMap<String, ClusterId>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// What holds for all clusters.
pub(super) struct Mesh<'a> {
    pub(super) connect_timeout_ms: u64,
    pub(super) dns_refresh_rate_ms: Option<u64>,
    pub(super) locality: Option<&'a LocalityLbSetting>,
    pub(super) own: Own<'a>,
    pub(super) health_checks: HealthChecks,
    /// Ports that this gateway itself listens on at loopback addresses.
    pub(super) own_ports: Vec<u16>,
}

/// Everything that filters may call: they name clusters in code and configuration that the gateway cannot look into.
/// Istio's gateways know every service as well.
pub(super) fn of_filters(registry: &Registry<'_>, policies: &Policies<'_>) -> Vec<Reference> {
    let mut references = Vec::new();
    for host in registry.hosts().filter(|host| !host.contains('*')) {
        let subsets = policies.of_host(host).into_iter().flat_map(|rules| rules.subset_names());
        let subsets: Vec<&str> = std::iter::once("").chain(subsets).collect();
        for port in registry.ports(host).unwrap_or_default() {
            references.extend(subsets.iter().map(|subset| Reference {
                key: ClusterKey { host: host.to_owned(), port, subset: (*subset).to_owned() },
                written: host.to_owned(),
                origin: Origin::default(),
            }));
        }
    }
    references
}

/// The clusters of both lists; only what routes refer to is worth a diagnostic.
pub(super) fn translate<'r>(
    references: impl Iterator<Item = &'r Reference>,
    of_filters: &'r [Reference],
    registry: &Registry<'_>,
    policies: &Policies<'_>,
    mesh: &Mesh<'_>,
) -> Clusters {
    let mut needed: HashMap<&ClusterKey, (&Reference, bool)> = HashMap::new();
    let routed = references.map(|reference| (reference, true));
    for (reference, is_routed) in routed.chain(of_filters.iter().map(|reference| (reference, false))) {
        needed.entry(&reference.key).or_insert((reference, is_routed));
    }
    let mut diagnostics = Vec::new();
    let build = |(key, (reference, is_routed))| {
        let mut told = Vec::new();
        let cluster = cluster(key, reference, registry, policies, mesh, &mut told);
        if is_routed {
            diagnostics.append(&mut told);
        }
        cluster
    };
    let needed: BTreeMap<_, _> = needed.into_iter().collect();
    let clusters: Vec<Cluster> = needed.into_iter().map(build).collect();
    let ids = clusters.iter().zip(0..).map(|(cluster, id)| (cluster.name.clone(), id)).collect();
    Clusters { clusters, ids, diagnostics }
}

fn cluster(
    key: &ClusterKey,
    reference: &Reference,
    registry: &Registry<'_>,
    policies: &Policies<'_>,
    mesh: &Mesh<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Cluster {
    let rules = policies.of_host(&key.host);
    let blocks = rules.map(|rules| rules.in_force(key.port, &key.subset)).unwrap_or_default();
    let subset = rules.and_then(|rules| rules.subset(&key.subset)).filter(|_| !key.subset.is_empty());
    let mut backends = backends(key, reference, registry);
    if registry.providers(&key.host).is_empty() && is_own(reference, key.port, mesh) {
        backends.clear();
        diagnostics.push(loops(reference, key.port));
    }
    if let Some((rule, index)) = subset {
        let all = backends.len();
        let labels = &rule.spec.subsets[index].labels;
        let known = service_backends::known_labels(&backends);
        backends.retain(|backend| backend.labels.as_ref().is_none_or(|own| fits(labels, own)));
        let place = rule.place(&format!("spec.subsets[{index}].labels"));
        let defined = !registry.providers(&key.host).is_empty();
        if backends.is_empty() && all > 0 {
            diagnostics.push(empty_subset(&rule.spec.subsets[index], &key.host, place, &known));
        } else if defined && !labels.is_empty() && backends.iter().any(|backend| backend.labels.is_none()) {
            let text = format!("subset `{}` uses all addresses of `{}`", key.subset, key.host);
            let label = "DNS resolves this host, and DNS knows no labels";
            diagnostics.push(Diagnostic::warning("P0205", place, text).with_label(label));
        }
    }
    let origin = match (subset, registry.providers(&key.host).first()) {
        (Some((rule, index)), _) => rule.origin(&format!("spec.subsets[{index}]")),
        (None, Some(Provider::Service(service))) => service.origin(""),
        (None, Some(Provider::Entry(entry))) => entry.origin(""),
        (None, Some(Provider::Bare(_)) | None) => reference.origin.clone(),
    };
    let pool = blocks.connection_pool.as_ref().map(|(pool, _, _)| *pool);
    let lb = blocks.load_balancer.as_ref().map(|(lb, _, _)| *lb);
    let near = locality::of_provider(registry.providers(&key.host).first());
    Cluster {
        name: key.name(),
        undefined: registry.providers(&key.host).is_empty(),
        endpoints: endpoints(backends, lb, near.as_ref(), blocks.outlier_detection.is_some(), mesh),
        discovery: discovery(registry, &key.host),
        dynamic: dynamic(registry, key),
        dns_refresh_rate_ms: mesh.dns_refresh_rate_ms,
        lb_policy: lb.map_or_else(LbPolicy::default, load_balancing::policy),
        hash_policy: lb.and_then(load_balancing::hash_policy),
        slow_start: lb.and_then(load_balancing::slow_start),
        connect_timeout_ms: connect_timeout(pool).unwrap_or(mesh.connect_timeout_ms),
        idle_timeout_ms: idle_timeout(pool),
        max_connection_duration_ms: max_connection_duration(pool),
        max_requests_per_connection: max_requests_per_connection(pool),
        circuit_breakers: pool.map_or_else(CircuitBreakers::default, circuit_breakers),
        outlier_detection: blocks.outlier_detection.as_ref().map(|(outlier, _, _)| outlier_detection(outlier)),
        health_check: mesh.health_checks.of_host(&key.host, rules, registry.providers(&key.host)),
        // Given by `transport`.
        transport: Transport::default(),
        retry_budget: blocks.retry_budget.map(retry_budget),
        origin,
        policy_origin: policy_origin(&blocks),
    }
}

/// A host that nothing defines is resolved by DNS under the name that the route writes: so `app` works where DNS knows
/// `app`, in Docker Compose for one.
fn backends(key: &ClusterKey, reference: &Reference, registry: &Registry<'_>) -> Vec<Backend> {
    if !registry.providers(&key.host).is_empty() {
        return service_backends::of(registry, &key.host, key.port);
    }
    vec![Backend {
        address: Address::Dns { host: reference.written.clone(), port: key.port },
        labels: None,
        workload: None,
        weight: 1,
        locality: String::new(),
        origin: reference.origin.clone(),
    }]
}

/// This machine, at a port that the gateway itself listens on: requests would come back until their heads are too large.
fn is_own(reference: &Reference, port: u16, mesh: &Mesh<'_>) -> bool {
    reference.written.eq_ignore_ascii_case("localhost") && mesh.own_ports.contains(&port)
}

fn loops(reference: &Reference, port: u16) -> Diagnostic {
    let origin = &reference.origin;
    let place = Place { file: origin.file(), line: origin.line(), column: origin.column().max(1), length: 1 };
    let text = format!("`{}:{port}` is this gateway itself: requests get 503", reference.written);
    Diagnostic::warning("P0208", place, text).with_help("name the port of the service in `destination.port.number`")
}

/// The oldest object that defines the host decides, as in Istio.
fn discovery(registry: &Registry<'_>, host: &str) -> Discovery {
    match registry.providers(host).first() {
        Some(Provider::Entry(entry)) if entry.spec.resolution.as_deref() == Some("DNS_ROUND_ROBIN") => {
            Discovery::LogicalDns
        }
        _ => Discovery::StrictDns,
    }
}

/// Hosts that requests name themselves, where the oldest object that defines the host says so.
fn dynamic(registry: &Registry<'_>, key: &ClusterKey) -> Option<Box<DynamicHosts>> {
    let Some(Provider::Entry(entry)) = registry.providers(&key.host).first() else { return None };
    if entry.spec.resolution.as_deref() != Some("DYNAMIC_DNS") {
        return None;
    }
    let port = service_backends::target_port(&entry.spec, key.port)?;
    Some(Box::new(DynamicHosts { host: key.host.clone(), port }))
}

fn empty_subset(
    subset: &Subset,
    host: &str,
    place: crate::diagnostic::Place,
    known: &std::collections::BTreeSet<String>,
) -> Diagnostic {
    let text = format!("subset `{}` has no endpoint: none of `{host}` has these labels", subset.name);
    let label = if known.is_empty() {
        "no Pod with labels is known for its addresses".to_owned()
    } else {
        format!("labels there: {}", suggest::list(known.iter().map(String::as_str)))
    };
    Diagnostic::warning("P0209", place, text).with_label(label)
}

/// `near` is what the service itself asks for.
fn endpoints(
    backends: Vec<Backend>,
    lb: Option<&LoadBalancer>,
    near: Option<&LocalityLbSetting>,
    ejects: bool,
    mesh: &Mesh<'_>,
) -> Vec<Endpoint> {
    let mut labels = Vec::with_capacity(backends.len());
    let endpoint = |backend: Backend| {
        labels.push(backend.labels);
        Endpoint {
            address: backend.address,
            weight: backend.weight,
            locality: backend.locality,
            priority: 0,
            locality_weight: None,
            workload: backend.workload,
            origin: backend.origin,
        }
    };
    let mut endpoints = backends.into_iter().map(endpoint).collect();
    let of_rule = lb.and_then(|lb| lb.locality_lb_setting.as_ref());
    if let Some(setting) = locality::in_force(of_rule, near.or(mesh.locality)) {
        let fails_over = ejects || of_rule.is_none() && near.is_some();
        locality::apply(&mut endpoints, &labels, mesh.own, setting, fails_over);
    }
    endpoints
}

/// Where the limits come from; other blocks only when there are none.
fn policy_origin(blocks: &InForce<'_>) -> Option<Origin> {
    let pool = blocks.connection_pool.as_ref().map(|(_, rule, path)| rule.origin(path));
    let outlier = || blocks.outlier_detection.as_ref().map(|(_, rule, path)| rule.origin(path));
    let load_balancer = || blocks.load_balancer.as_ref().map(|(_, rule, path)| rule.origin(path));
    let tls = || blocks.tls.as_ref().map(|(_, rule, path)| rule.origin(path));
    let proxy = || blocks.proxy_protocol.as_ref().map(|(_, rule, path)| rule.origin(path));
    let origin = pool.or_else(outlier).or_else(load_balancer).or_else(tls).or_else(proxy)?;
    Some(parts::of_policy(blocks, origin))
}

fn connect_timeout(pool: Option<&ConnectionPool>) -> Option<u64> {
    let written = pool?.tcp.as_ref()?.connect_timeout.as_deref()?;
    duration::parse_ms(written).filter(|ms| *ms > 0)
}

/// That of HTTP, else that of TCP; 0 is no timeout.
fn idle_timeout(pool: Option<&ConnectionPool>) -> u64 {
    let of_http = pool.and_then(|pool| pool.http.as_ref()?.idle_timeout.as_deref());
    let of_tcp = || pool.and_then(|pool| pool.tcp.as_ref()?.idle_timeout.as_deref());
    match of_http.or_else(of_tcp).and_then(duration::parse_ms) {
        Some(0) => NEVER_MS,
        written => written.unwrap_or(IDLE_TIMEOUT_MS),
    }
}

fn max_connection_duration(pool: Option<&ConnectionPool>) -> Option<u64> {
    duration::parse_ms(pool?.tcp.as_ref()?.max_connection_duration.as_deref()?).filter(|ms| *ms > 0)
}

fn max_requests_per_connection(pool: Option<&ConnectionPool>) -> u32 {
    let written = pool.and_then(|pool| pool.http.as_ref()).map_or(0, |http| http.max_requests_per_connection);
    u32::try_from(written).unwrap_or(0)
}

fn circuit_breakers(pool: &ConnectionPool) -> CircuitBreakers {
    let limit = |written: i64| u32::try_from(written).ok().filter(|limit| *limit > 0).unwrap_or(u32::MAX);
    let http = pool.http.clone().unwrap_or_default();
    CircuitBreakers {
        max_connections: limit(pool.tcp.as_ref().map_or(0, |tcp| tcp.max_connections)),
        max_pending_requests: limit(http.http1_max_pending_requests),
        max_requests: limit(http.http2_max_requests),
        max_retries: limit(http.max_retries),
    }
}

/// Istio documents 20 % where nothing is said, and means it, though it sends 0.2 %. It takes 0 for absent.
fn retry_budget(written: &WrittenBudget) -> RetryBudget {
    let least = written.min_retry_concurrency.and_then(|least| u32::try_from(least).ok());
    RetryBudget {
        share: written.percent.map_or(200_000, Percent::millionths),
        min_retry_concurrency: least.filter(|least| *least > 0).unwrap_or(3),
    }
}

fn outlier_detection(written: &Written) -> OutlierDetection {
    let ms = |text: &Option<String>| text.as_deref().and_then(duration::parse_ms).filter(|ms| *ms > 0);
    let percent = |number: Option<i64>| number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    OutlierDetection {
        consecutive_5xx: written.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway_errors: written.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local_origin_failures: local_origin_failures(written),
        interval_ms: ms(&written.interval).unwrap_or(INTERVAL_MS),
        base_ejection_time_ms: ms(&written.base_ejection_time).unwrap_or(BASE_EJECTION_TIME_MS),
        max_ejection_percent: percent(written.max_ejection_percent).unwrap_or(10),
        min_health_percent: percent(written.min_health_percent).unwrap_or(0),
    }
}

/// Envoy's default is 5, once the split is on; Istio takes 0 for absent.
fn local_origin_failures(written: &Written) -> Option<u32> {
    let failures = written.consecutive_local_origin_failures.filter(|failures| *failures > 0).unwrap_or(5);
    (written.split_external_local_origin_errors == Some(true)).then_some(failures)
}
