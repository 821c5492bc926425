//! What has no effect at a gateway, in Istio or here: told, so that nothing is passed over in silence.

use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::object::Object;
use crate::resources::istio::operator::ProxyHeaders;
use crate::resources::istio::{Gateway, IstioOperator, ServiceEntry, WorkloadEntry};

/// Settings of the mesh that change what Istio's own gateway does, and nothing here yet.
const UNSERVED: &[&str] = &[
    "enableEnvoyAccessLogService",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "outboundClusterStatName",
    "serviceSettings",
];

/// The fields of `defaultConfig` that are read.
const READ: &[&str] =
    &["concurrency", "gatewayTopology", "meshId", "proxyHeaders", "terminationDrainDuration", "tracing"];

/// Those of its `tracing` that are not.
const TRACERS: &[&str] =
    &["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent", "tlsSettings", "enableIstioTags"];

/// True for a field of `defaultConfig`, by its path, that has no effect.
fn is_unread(field: &str) -> bool {
    match field.strip_prefix("tracing.") {
        Some(tracer) => TRACERS.contains(&tracer),
        None => !field.contains(['.', '[']) && !READ.contains(&field),
    }
}

/// Settings of `defaultConfig` that are needed before there is a configuration, and so are flags here.
const FLAGS: &[(&str, &str)] = &[("proxyAdminPort", "--admin-address"), ("statusPort", "--status-port")];

/// Findings for all objects.
pub(super) fn diagnose(resources: &ResourceSet) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = resources.gateways().flat_map(of_gateway).collect();
    found.extend(resources.service_entries().flat_map(of_service_entry));
    found.extend(resources.workload_entries().flat_map(|object| of_workload(object, "spec", &object.spec)));
    found.extend(resources.operators().flat_map(of_operator));
    found.extend(of_mesh(resources));
    found
}

fn note<T>(object: &Object<T>, path: &str, field: &str) -> Diagnostic {
    let text = format!("`{field}` has no effect at a gateway");
    let finding = Diagnostic::warning("P0324", object.key_place(&format!("{path}.{field}")), text);
    Diagnostic { severity: Severity::Note, ..finding }
}

fn is_given(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}

fn of_gateway(object: &Object<Gateway>) -> Vec<Diagnostic> {
    let servers = object.spec.servers.iter().enumerate();
    let given = servers.filter(|(_, server)| is_given(&server.default_endpoint));
    given.map(|(i, _)| note(object, &format!("spec.servers[{i}]"), "defaultEndpoint")).collect()
}

fn of_service_entry(object: &Object<ServiceEntry>) -> Vec<Diagnostic> {
    let spec = &object.spec;
    let mut found = Vec::new();
    if !spec.addresses.is_empty() {
        found.push(note(object, "spec", "addresses"));
    }
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        found.extend(of_workload(object, &format!("spec.endpoints[{i}]"), endpoint));
    }
    found
}

fn of_workload<T>(object: &Object<T>, path: &str, entry: &WorkloadEntry) -> Vec<Diagnostic> {
    let given = [("network", is_given(&entry.network)), ("serviceAccount", is_given(&entry.service_account))];
    given.iter().filter(|(_, given)| *given).map(|(field, _)| note(object, path, field)).collect()
}

fn unserved(field: &str, place: Place) -> Diagnostic {
    let text = format!("mesh setting `{field}` is not served yet: it has no effect");
    let finding = Diagnostic::warning("P0327", place, text);
    match FLAGS.iter().find(|(name, _)| field.strip_prefix("defaultConfig.") == Some(name)) {
        Some((_, flag)) => finding.with_help(format!("start the gateway with `{flag}`")),
        None => finding,
    }
}

fn of_operator(object: &Object<IstioOperator>) -> Vec<Diagnostic> {
    let given = |field: &&str| object.places.has(&format!("spec.meshConfig.{field}"));
    let tell = |field: &str| {
        let place = object.key_place(&format!("spec.meshConfig.{field}"));
        unserved(field, place)
    };
    let mut found: Vec<_> = UNSERVED.iter().filter(|field| given(field)).map(|field| tell(field)).collect();
    let headers =
        object.spec.mesh_config.as_ref().and_then(|mesh| mesh.default_config.as_ref()?.proxy_headers.as_ref());
    found.extend(unserved_headers(headers).map(|field| tell(&field)));
    let unread = object.places.listed().filter(|field| is_unread(field));
    found.extend(unread.map(|field| tell(&format!("defaultConfig.{field}"))));
    found
}

/// Settings of headers that change nothing here.
fn unserved_headers(headers: Option<&ProxyHeaders>) -> impl Iterator<Item = String> {
    let given = headers.map_or([false; 4], |headers| {
        [
            headers.forwarded_client_cert.is_some(),
            headers.metadata_exchange_headers.is_some(),
            headers.preserve_http1_header_case.is_some(),
            headers.set_current_client_cert_details.is_some(),
        ]
    });
    let names =
        ["forwardedClientCert", "metadataExchangeHeaders", "preserveHttp1HeaderCase", "setCurrentClientCertDetails"];
    let names = names.into_iter().zip(given).filter(|(_, given)| *given);
    names.map(|(name, _)| format!("defaultConfig.proxyHeaders.{name}"))
}

/// The mesh configuration is a text within a text, whose lines have no places of their own.
fn of_mesh(resources: &ResourceSet) -> Vec<Diagnostic> {
    let Some(mesh) = resources.mesh_config() else { return Vec::new() };
    let map = resources.get::<crate::resources::core::ConfigMap>(&mesh.meta.namespace, &mesh.meta.name);
    let text = map.and_then(|map| map.spec.data.get("mesh"));
    let keys = text.and_then(|text| serde_yaml::from_str::<serde_yaml::Mapping>(text).ok()).unwrap_or_default();
    let given = UNSERVED.iter().filter(|field| keys.contains_key(**field)).map(|field| (*field).to_owned());
    let of_proxies = keys.get("defaultConfig").and_then(|value| value.as_mapping()).into_iter().flatten();
    let below = |name: &str, value: &serde_yaml::Value| {
        let keys = value.as_mapping().filter(|_| name == "tracing").into_iter().flatten();
        keys.filter_map(|(key, _)| Some(format!("tracing.{}", key.as_str()?))).collect::<Vec<_>>()
    };
    let of_proxies = of_proxies.filter_map(|(name, value)| Some((name.as_str()?, value)));
    let fields = of_proxies.flat_map(|(name, value)| [vec![name.to_owned()], below(name, value)].concat());
    let headers = mesh.spec.default_config.as_ref().and_then(|config| config.proxy_headers.as_ref());
    let given = given.chain(unserved_headers(headers));
    let given = given.chain(fields.filter(|field| is_unread(field)).map(|field| format!("defaultConfig.{field}")));
    given.map(|field| unserved(&field, mesh.key_place("data.mesh"))).collect()
}

#[cfg(test)]
mod tests {
    use super::UNSERVED;

    #[test]
    fn what_is_said_to_be_unserved_is_not_read() {
        let types = include_str!("../resources/istio/operator.rs");
        let snake = |field: &str| {
            let parts =
                field.chars().map(|c| if c.is_uppercase() { format!("_{}", c.to_lowercase()) } else { c.into() });
            parts.collect::<String>()
        };
        let read: Vec<_> = UNSERVED
            .iter()
            .filter(|field| !types.contains(&format!("    pub {}: Option<Value>,", snake(field))))
            .collect();
        assert!(read.is_empty(), "these have types now, so take them out of the list: {read:?}");
    }
}
