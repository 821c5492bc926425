//! What is read of Istio's mesh configuration: from the ConfigMap `istio`, else from an IstioOperator, field by field.

use portolan_model::{ForwardClientCert, Origin, OwnHeaders, PathNormalization, ServerHeader};

use crate::ResourceSet;
use crate::diagnostic::Place;
use crate::duration;
use crate::resources::istio::MeshConfig;
use crate::resources::istio::load_balancer::LocalityLbSetting;
use crate::resources::istio::operator::{GatewayTopology, ProxyHeader, ProxyServerHeader};
use crate::resources::istio::virtual_service::HttpRetry;

/// Istio's default, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Istio's default.
const ROOT_NAMESPACE: &str = "istio-system";

/// `connectTimeout` in milliseconds, 10 s by default.
pub(super) fn connect_timeout(resources: &ResourceSet) -> u64 {
    let written = first(resources, |mesh| mesh.connect_timeout.as_deref().and_then(duration::parse_ms));
    written.filter(|ms| *ms > 0).unwrap_or(CONNECT_TIMEOUT_MS)
}

/// `dnsRefreshRate` in milliseconds, when it is written.
pub(super) fn dns_refresh_rate(resources: &ResourceSet) -> Option<u64> {
    first(resources, |mesh| mesh.dns_refresh_rate.as_deref().and_then(duration::parse_ms)).filter(|ms| *ms > 0)
}

/// `defaultConfig.terminationDrainDuration` in milliseconds, when it is written.
pub(super) fn drain_time(resources: &ResourceSet) -> Option<u64> {
    let written = |mesh: &MeshConfig| mesh.default_config.as_ref()?.termination_drain_duration.clone();
    first(resources, written).as_deref().and_then(duration::parse_ms)
}

/// `defaultConfig.concurrency`, when it is written: the number of worker threads, 0 for one on each core, and where it stands.
pub fn concurrency(resources: &ResourceSet) -> Option<(u32, Place)> {
    let written = |mesh: &MeshConfig| mesh.default_config.as_ref()?.concurrency;
    let place = key_place(resources, "defaultConfig.concurrency", |mesh| written(mesh).is_some());
    first(resources, written).zip(place)
}

/// `localityLbSetting`, for clusters whose DestinationRule has none.
pub(super) fn locality(resources: &ResourceSet) -> Option<LocalityLbSetting> {
    first(resources, |mesh| mesh.locality_lb_setting.clone())
}

/// `rootNamespace`, whose objects count everywhere; `istio-system` by default.
pub(super) fn root_namespace(resources: &ResourceSet) -> String {
    let written = first(resources, |mesh| mesh.root_namespace.clone()).filter(|name| !name.is_empty());
    written.unwrap_or_else(|| ROOT_NAMESPACE.to_owned())
}

/// `pathNormalization.normalization`; a word that Istio does not know counts as its default.
pub(super) fn path_normalization(resources: &ResourceSet) -> PathNormalization {
    let written = first(resources, |mesh| mesh.path_normalization.as_ref()?.normalization.clone());
    match written.as_deref() {
        Some("NONE") => PathNormalization::None,
        Some("MERGE_SLASHES") => PathNormalization::MergeSlashes,
        Some("DECODE_AND_MERGE_SLASHES") => PathNormalization::DecodeAndMergeSlashes,
        _ => PathNormalization::Base,
    }
}

/// `defaultConfig.gatewayTopology.numTrustedProxies`, 0 by default.
pub(super) fn trusted_proxies(resources: &ResourceSet) -> u32 {
    topology(resources, |topology| topology.num_trusted_proxies).unwrap_or_default()
}

/// `defaultConfig.gatewayTopology.forwardClientCertDetails`; a word that Istio does not know counts as its default.
pub(super) fn forward_client_cert(resources: &ResourceSet) -> ForwardClientCert {
    match topology(resources, |topology| topology.forward_client_cert_details.clone()).as_deref() {
        Some("SANITIZE") => ForwardClientCert::Sanitize,
        Some("FORWARD_ONLY") => ForwardClientCert::ForwardOnly,
        Some("APPEND_FORWARD") => ForwardClientCert::AppendForward,
        Some("ALWAYS_FORWARD_ONLY") => ForwardClientCert::AlwaysForwardOnly,
        _ => ForwardClientCert::SanitizeSet,
    }
}

/// Whether `defaultConfig.gatewayTopology.proxyProtocol` is there.
pub(super) fn has_proxy_protocol(resources: &ResourceSet) -> bool {
    topology(resources, |topology| topology.proxy_protocol.as_ref().map(|_| ())).is_some()
}

/// `defaultConfig.proxyHeaders`, as Istio's `GetProxyHeadersFromProxyConfig` reads it for gateways.
pub(super) fn own_headers(resources: &ResourceSet) -> OwnHeaders {
    let Some(written) = first(resources, |mesh| mesh.default_config.as_ref()?.proxy_headers.clone()) else {
        return OwnHeaders::default();
    };
    let is_on = |header: &Option<ProxyHeader>| header.as_ref().is_none_or(|header| header.disabled != Some(true));
    let server = match written.server.clone().unwrap_or_default() {
        ProxyServerHeader { disabled: Some(true), .. } => ServerHeader::PassThrough,
        ProxyServerHeader { value: Some(name), .. } if !name.is_empty() => ServerHeader::Overwrite(name),
        _ => ServerHeader::Own,
    };
    OwnHeaders {
        server,
        request_id: is_on(&written.request_id),
        attempt_count: is_on(&written.attempt_count),
        debug: is_on(&written.envoy_debug_headers),
    }
}

fn topology<T>(resources: &ResourceSet, read: impl Fn(&GatewayTopology) -> Option<T>) -> Option<T> {
    first(resources, |mesh| read(mesh.default_config.as_ref()?.gateway_topology.as_ref()?))
}

/// `defaultHttpRetryPolicy`.
pub(super) fn default_retries(resources: &ResourceSet) -> Option<HttpRetry> {
    first(resources, |mesh| mesh.default_http_retry_policy.clone())
}

/// The first document that says something.
pub(super) fn first<T>(resources: &ResourceSet, read: impl Fn(&MeshConfig) -> Option<T>) -> Option<T> {
    let from_map = resources.mesh_config().and_then(|object| read(&object.spec));
    let mut operators = resources.operators().filter_map(|object| object.spec.mesh_config.as_ref());
    from_map.or_else(|| operators.find_map(&read))
}

/// Where a field stands, in the document that says something of it.
pub(super) fn key_place(resources: &ResourceSet, field: &str, says: impl Fn(&MeshConfig) -> bool) -> Option<Place> {
    // A text within a text, whose lines have no places of their own.
    let map = resources.mesh_config().filter(|object| says(&object.spec)).map(|object| object.key_place("data.mesh"));
    let mut operators = resources.operators();
    map.or_else(|| {
        let operator = operators.find(|object| object.spec.mesh_config.as_ref().is_some_and(&says))?;
        Some(operator.key_place(&format!("spec.meshConfig.{field}")))
    })
}

/// The line of a field in the document that says something of it.
pub(super) fn origin(resources: &ResourceSet, field: &str, says: impl Fn(&MeshConfig) -> bool) -> Origin {
    let map = resources.mesh_config().filter(|object| says(&object.spec));
    let operator = || {
        let mut operators = resources.operators();
        operators.find(|object| object.spec.mesh_config.as_ref().is_some_and(&says))
    };
    let of_operator = || operator().map(|object| object.origin(&format!("spec.meshConfig.{field}")));
    map.map(|object| object.origin("data.mesh")).or_else(of_operator).unwrap_or_default()
}
