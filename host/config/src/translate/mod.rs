//! [`translate`]: from resources to the model. Each part takes the resources and what earlier parts returned, gives its
//! own part back and changes nothing; only this file sees them all.

mod access_logs;
mod actions;
mod analysis;
mod authentication;
mod authorization;
mod binding;
mod clusters;
mod conditions;
mod credentials;
mod delegates;
mod destinations;
mod ext_authz;
mod findings;
mod gateways;
mod headers;
mod health_checks;
mod host_index;
mod http_policies;
mod listeners;
mod load_balancing;
mod locality;
mod memo;
mod mesh;
mod no_effect;
mod parts;
mod plugin_traffic;
mod plugins;
mod policies;
mod port_protocol;
mod ports;
mod reachability;
mod registry;
mod retries;
mod rewrites;
mod routes;
mod service_backends;
mod standard_metrics;
mod tables;
mod tcp;
mod tls;
mod tls_defaults;
mod tls_routes;
mod tracing;
mod transport;
mod unserved;
mod upstream_tls;
mod visibility;
mod workload;

pub use mesh::concurrency;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use memo::{Lesson, Memo};
use portolan_model::{
    EdgePolicy, Listener, Model, PathPolicy, ProxyHeaders, Route, RouteAction, StandardMetrics, TcpDestination,
    UdpListener, Underscores,
};

use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Meta;

/// What the resources alone do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslateOptions {
    /// Labels of this gateway, which selectors of Gateways and WasmPlugins must fit.
    /// Default: `istio=ingressgateway`, those of Istio's own.
    pub labels: BTreeMap<String, String>,
    /// Namespace of this gateway: what `exportTo`, `sourceNamespace`, the look-up of DestinationRules and Telemetries go by.
    /// Default: `istio-system`, that of Istio's own.
    pub namespace: String,
    /// Requests are served whose path others may read as another one (`//`, `%2F`, `;`), though another rule is for that
    /// path. Default: they are refused.
    pub allow_ambiguous_paths: bool,
    /// A Gateway's port and the port to bind for it; beats what Services say.
    pub port_map: Vec<(u16, u16)>,
    /// Variables of the gateway's own environment that filters may ask for (`vmConfig.env`, `valueFrom: HOST`), with
    /// their values; none is passed on by default, for the environment may hold credentials.
    pub host_env: BTreeMap<String, Option<String>>,
    /// Where this gateway runs: `region/zone/subzone`, as much of it as is known.
    pub locality: String,
    /// Istio's name of the cluster that this gateway runs in, for what is told of it. Default: not known.
    pub cluster_id: Option<String>,
    /// Proxies in front of the gateway whose word counts; beats the mesh configuration's `numTrustedProxies`.
    pub trusted_proxies: Option<u32>,
    /// What becomes of header names with `_`. Default: their request is refused.
    pub underscores: Underscores,
}

impl Default for TranslateOptions {
    fn default() -> Self {
        let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
        Self {
            labels,
            namespace: "istio-system".to_owned(),
            allow_ambiguous_paths: false,
            port_map: Vec::new(),
            host_env: BTreeMap::new(),
            locality: String::new(),
            cluster_id: None,
            trusted_proxies: None,
            underscores: Underscores::default(),
        }
    }
}

impl TranslateOptions {
    /// The gateway's app as Istio names it: its label `app`, else `istio-` and its label `istio`.
    pub fn app(&self) -> Option<String> {
        let label = |name: &str| self.labels.get(name).cloned();
        label("app").or_else(|| label("istio").map(|name| format!("istio-{name}")))
    }
}

/// The model, and what is to say about the resources together.
#[derive(Clone, Debug, Default)]
pub struct Translation {
    /// What to serve.
    pub model: Model,
    /// In order of file and line. None of them rejects an object: it is served as Istio would.
    pub diagnostics: Vec<Diagnostic>,
}

/// Translates the resources for one gateway, once.
pub fn translate(resources: &ResourceSet, options: &TranslateOptions) -> Translation {
    Translator::new(options.clone()).translate(resources)
}

/// Translates again and again: what has not changed is taken from the last translation. Its results are those of
/// [`translate`].
pub struct Translator {
    options: TranslateOptions,
    memo: Memo,
}

impl Translator {
    /// One that has not translated anything yet.
    pub fn new(options: TranslateOptions) -> Self {
        Self { options, memo: Memo::default() }
    }

    /// Translates the resources for one gateway.
    pub fn translate(&mut self, resources: &ResourceSet) -> Translation {
        self.memo.check(resources, &self.options);
        let (translation, lesson) = translate_with(resources, &self.options, &self.memo);
        self.memo.learn(resources, &translation.model, lesson);
        translation
    }
}

impl std::fmt::Debug for Translator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Translator").field("options", &self.options).finish_non_exhaustive()
    }
}

fn translate_with(resources: &ResourceSet, options: &TranslateOptions, memo: &Memo) -> (Translation, Lesson) {
    let gateways = gateways::Gateways::of(resources, options);
    let visibility = visibility::Visibility::of(resources, options);
    let bindings = binding::Bindings::of(resources, &gateways, &visibility);
    let delegates = delegates::Delegates::of(resources, &bindings.virtual_services, &visibility);
    let registry = registry::Registry::of(resources, &visibility);
    let policies = policies::Policies::of(resources, &registry, &visibility);
    let destinations =
        destinations::Destinations::new(&registry, &policies).with_default_retries(mesh::default_retries(resources));
    let tcp = tcp::translate(&gateways, &bindings, &destinations, &policies);
    let passthrough = tls_routes::translate(&gateways, &bindings, &destinations, &policies);
    let ports = ports::PortMapping::of(resources, options);
    let tls = tls::translate(&gateways, resources, ports.service.as_deref());
    let behind =
        listeners::Behind { proxy_headers: proxy_headers(resources), tcp: &tcp, tls: &tls, passthrough: &passthrough };
    let listeners = listeners::translate(&gateways, &ports, &behind);
    let edge = edge_policy(resources, options);
    let routing =
        tables::Routing { bindings: &bindings, delegates: &delegates, destinations: &destinations, options, memo };
    let tables = tables::translate(&gateways, &listeners, &routing, edge.num_trusted_proxies > 0);
    let (plugins, has_tokens) = filters(resources, options, &gateways, &registry, &listeners);
    let (access_logs, metrics, traces) = telemetry(resources, options, &registry);
    let made = (&tables, &listeners, &traces);
    let (clusters, transports) = all_clusters(made, (&registry, &policies), &plugins, resources, options);
    let (of_services, findings) = findings::of_virtual_services(resources, &destinations, has_tokens, memo);
    let diagnostics = [
        analysis::diagnose(&gateways),
        gateways.diagnostics,
        listeners.diagnostics,
        tcp.diagnostics,
        passthrough.diagnostics,
        tls.diagnostics,
        bindings.diagnostics,
        delegates.diagnostics,
        of_services,
        policies.diagnose(&registry, resources),
        clusters.diagnostics,
        transports,
        plugins.diagnostics,
        access_logs.diagnostics,
        without_effect(resources),
    ];
    let is_renumbered = !memo.knows_clusters(&clusters.clusters);
    let lesson = Lesson { drafts: tables.drafts, catch_all: tables.catch_all, findings, is_renumbered };
    let model = Model {
        listeners: tcp_with_cluster_ids(listeners.listeners, &clusters.ids),
        udp_listeners: udp_with_cluster_ids(listeners.udp, &clusters.ids),
        route_tables: tables.tables,
        routes: with_cluster_ids(tables.routes, &clusters.ids, &lesson),
        clusters: clusters.clusters,
        plugins: plugins.plugins,
        access_logs: access_logs.logs,
        metrics,
        tracing: traces.tracing,
        paths: path_policy(resources, options),
        edge,
        headers: mesh::own_headers(resources),
        drain_time_ms: mesh::drain_time(resources),
        secrets: tls.secrets,
    };
    (Translation { model, diagnostics: sorted(diagnostics.concat()) }, lesson)
}

/// What is written and changes nothing, in Istio or here.
fn without_effect(resources: &ResourceSet) -> Vec<Diagnostic> {
    [no_effect::diagnose(resources), unserved::diagnose(resources)].concat()
}

/// The clusters, and what is found about how they are spoken to. Plugins may call any of them.
fn all_clusters(
    (tables, listeners, traces): (&tables::Tables, &listeners::Listeners, &tracing::Traces),
    (registry, policies): (&registry::Registry<'_>, &policies::Policies<'_>),
    plugins: &plugins::Plugins,
    resources: &ResourceSet,
    options: &TranslateOptions,
) -> (clusters::Clusters, Vec<Diagnostic>) {
    let locality = mesh::locality(resources);
    let mesh = clusters::Mesh {
        dns_refresh_rate_ms: mesh::dns_refresh_rate(resources),
        connect_timeout_ms: mesh::connect_timeout(resources),
        locality: locality.as_ref(),
        own: locality::Own { locality: &options.locality, labels: &options.labels },
        health_checks: health_checks::HealthChecks::of(resources),
        own_ports: own_ports(&listeners.listeners),
    };
    let mut told = HashSet::new();
    let references = tables.references.iter().chain(&listeners.references).chain(&traces.reference);
    let references = references.filter(|reference| told.insert(Arc::as_ptr(reference))).map(|reference| &**reference);
    let callable = if plugins.plugins.is_empty() { Vec::new() } else { clusters::of_filters(registry, policies) };
    let mut clusters = clusters::translate(references, &callable, registry, policies, &mesh);
    let transports = transport::apply(&mut clusters.clusters, registry, policies, resources);
    (clusters, transports)
}

/// Ports at which this machine reaches the gateway by `localhost`.
fn own_ports(listeners: &[Listener]) -> Vec<u16> {
    let addresses = listeners.iter().map(|listener| listener.address);
    addresses.filter(|address| address.ip().is_unspecified() || address.ip().is_loopback()).map(|a| a.port()).collect()
}

fn proxy_headers(resources: &ResourceSet) -> Option<ProxyHeaders> {
    mesh::has_proxy_protocol(resources).then(|| ProxyHeaders { required: true, trusted: Vec::new() })
}

/// What is told of requests; all that is found is with the access logs.
fn telemetry(
    resources: &ResourceSet,
    options: &TranslateOptions,
    registry: &registry::Registry<'_>,
) -> (access_logs::AccessLogs, StandardMetrics, tracing::Traces) {
    let mut logs = access_logs::translate(resources, options);
    let (metrics, diagnostics) = standard_metrics::translate(resources, options);
    let mut traces = tracing::translate(resources, options, registry);
    logs.diagnostics.extend(diagnostics);
    logs.diagnostics.append(&mut traces.diagnostics);
    (logs, metrics, traces)
}

/// All plugins in their order, and whether some RequestAuthentication is for this gateway.
fn filters(
    resources: &ResourceSet,
    options: &TranslateOptions,
    gateways: &gateways::Gateways<'_>,
    registry: &registry::Registry<'_>,
    listeners: &listeners::Listeners,
) -> (plugins::Plugins, bool) {
    let is_tcp =
        |listener: &Listener| listener.tcp.is_some() || listener.filter_chains.iter().any(|chain| chain.tcp.is_some());
    let authentication = authentication::translate(resources, registry, options);
    let (has_tcp, has_udp) = (listeners.listeners.iter().any(is_tcp), !listeners.udp.is_empty());
    let unchecked = match (has_tcp, has_udp) {
        (true, true) => Some("connections of TCP servers and datagrams of UDP servers"),
        (true, false) => Some("connections of TCP servers"),
        (false, true) => Some("datagrams of UDP servers"),
        (false, false) => None,
    };
    let authorization = authorization::translate(resources, registry, options, unchecked);
    let has_tokens = !authentication.plugins.is_empty();
    let plugins = plugins::translate(resources, gateways, options, has_udp);
    (plugins.with(authentication).with(authorization), has_tokens)
}

fn edge_policy(resources: &ResourceSet, options: &TranslateOptions) -> EdgePolicy {
    EdgePolicy {
        num_trusted_proxies: options.trusted_proxies.unwrap_or_else(|| mesh::trusted_proxies(resources)),
        forward_client_cert: mesh::forward_client_cert(resources),
        underscores: options.underscores,
    }
}

fn path_policy(resources: &ResourceSet, options: &TranslateOptions) -> PathPolicy {
    PathPolicy { normalization: mesh::path_normalization(resources), refuse_ambiguous: !options.allow_ambiguous_paths }
}

/// Destinations carry the names of their clusters; the numbers are known only when all clusters are. Routes of the last
/// translation have theirs, unless it had others.
fn with_cluster_ids(
    mut routes: Vec<Arc<Route>>,
    ids: &std::collections::HashMap<String, portolan_model::ClusterId>,
    lesson: &Lesson,
) -> Vec<Arc<Route>> {
    let id = |name: &str| ids.get(name).copied().unwrap_or(portolan_model::MISSING_CLUSTER);
    let mut is_known = vec![false; routes.len()];
    let drafts = lesson.drafts.iter().filter(|_| !lesson.is_renumbered);
    let known = drafts.flat_map(|(_, draft)| draft.known_ids());
    known.for_each(|id| is_known[id as usize] = true);
    for (route, _) in routes.iter_mut().zip(is_known).filter(|(_, is_known)| !is_known) {
        let RouteAction::Forward(forward) = &route.action else { continue };
        let destinations = forward.destinations.iter().map(|d| (d.cluster, &*d.cluster_name));
        let mirrors = forward.mirrors.iter().map(|mirror| (mirror.cluster, &*mirror.cluster_name));
        if destinations.chain(mirrors).all(|(known, name)| known == id(name)) {
            continue;
        }
        if let RouteAction::Forward(forward) = &mut Arc::make_mut(route).action {
            for destination in &mut forward.destinations {
                destination.cluster = id(&destination.cluster_name);
            }
            for mirror in &mut forward.mirrors {
                mirror.cluster = id(&mirror.cluster_name);
            }
        }
    }
    routes
}

fn tcp_with_cluster_ids(
    mut listeners: Vec<Listener>,
    ids: &std::collections::HashMap<String, portolan_model::ClusterId>,
) -> Vec<Listener> {
    let proxies = listeners.iter_mut().flat_map(|listener| {
        let of_chains = listener.filter_chains.iter_mut().filter_map(|chain| chain.tcp.as_mut());
        listener.tcp.iter_mut().chain(of_chains)
    });
    number(proxies.flat_map(|proxy| &mut proxy.destinations), ids);
    listeners
}

fn udp_with_cluster_ids(
    mut listeners: Vec<UdpListener>,
    ids: &std::collections::HashMap<String, portolan_model::ClusterId>,
) -> Vec<UdpListener> {
    number(listeners.iter_mut().flat_map(|listener| &mut listener.proxy.destinations), ids);
    listeners
}

fn number<'a>(
    destinations: impl Iterator<Item = &'a mut TcpDestination>,
    ids: &std::collections::HashMap<String, portolan_model::ClusterId>,
) {
    for destination in destinations {
        destination.cluster = ids.get(&destination.cluster_name).copied().unwrap_or(portolan_model::MISSING_CLUSTER);
    }
}

/// By place, and each finding once.
fn sorted(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    fn key(d: &Diagnostic) -> (&str, u32, u32, &str, &str) {
        (&d.place.file, d.place.line, d.place.column, d.code, &d.message)
    }
    diagnostics.sort_by(|a, b| key(a).cmp(&key(b)));
    diagnostics.dedup();
    diagnostics
}

/// Istio's order of objects: age, then name, then namespace.
fn age(meta: &Meta) -> (&str, &str, &str) {
    (&meta.creation_timestamp, &meta.name, &meta.namespace)
}

/// True when each of `selector`'s labels is among `labels`.
fn fits(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}
