//! Istio's standard metrics as Telemetries and the mesh's default providers have them. Semantics: Istio's `mergeMetrics`.

use std::collections::BTreeSet;

use portolan_model::StandardMetrics;

use super::{TranslateOptions, access_logs, mesh};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::Telemetry;
use crate::resources::istio::telemetry::{MetricSelector, MetricsOverride, ProviderRef};

/// Istio's own provider: the metrics page.
const BUILT_IN: &str = "prometheus";

/// Names of Istio's API, and on the page.
const METRICS: &[(&str, &str)] = &[
    ("REQUEST_COUNT", "istio_requests_total"),
    ("REQUEST_DURATION", "istio_request_duration_milliseconds"),
    ("REQUEST_SIZE", "istio_request_bytes"),
    ("RESPONSE_SIZE", "istio_response_bytes"),
    ("TCP_SENT_BYTES", "istio_tcp_sent_bytes_total"),
    ("TCP_RECEIVED_BYTES", "istio_tcp_received_bytes_total"),
    ("TCP_OPENED_CONNECTIONS", "istio_tcp_connections_opened_total"),
    ("TCP_CLOSED_CONNECTIONS", "istio_tcp_connections_closed_total"),
];

/// Metrics, and what is to say about them.
pub(super) fn translate(resources: &ResourceSet, options: &TranslateOptions) -> (StandardMetrics, Vec<Diagnostic>) {
    let root = mesh::root_namespace(resources);
    let telemetries: Vec<_> = access_logs::applicable(resources, &root, options)
        .into_iter()
        .filter(|telemetry| !telemetry.spec.metrics.is_empty())
        .collect();
    let defaults = mesh::first(resources, |mesh| {
        Some(mesh.default_providers.as_ref()?.metrics.clone()).filter(|names| !names.is_empty())
    });
    let defaults = defaults.unwrap_or_else(|| vec![BUILT_IN.to_owned()]);
    let mut metrics = StandardMetrics::default();
    let mut parents = defaults.clone();
    let mut in_scope: BTreeSet<String> = defaults.into_iter().collect();
    for telemetry in &telemetries {
        let named: BTreeSet<String> = telemetry.spec.metrics.iter().flat_map(|entry| names(&entry.providers)).collect();
        // The nearest object that names providers decides which ones count at all.
        if !named.is_empty() {
            in_scope = named;
        }
    }
    metrics.off = !in_scope.iter().any(|name| is_page(resources, name));
    for telemetry in &telemetries {
        for entry in &telemetry.spec.metrics {
            if !entry.providers.is_empty() {
                parents = names(&entry.providers);
            }
            if parents.iter().any(|name| in_scope.contains(name) && is_page(resources, name)) {
                entry.overrides.iter().for_each(|change| apply(change, &mut metrics));
            }
        }
    }
    metrics.overrides.retain(|_, change| *change != portolan_model::MetricOverride::default());
    (metrics, telemetries.into_iter().flat_map(unserved).collect())
}

fn names(providers: &[ProviderRef]) -> Vec<String> {
    providers.iter().map(|provider| provider.name.clone()).collect()
}

/// True for a provider that is the metrics page.
fn is_page(resources: &ResourceSet, name: &str) -> bool {
    name.eq_ignore_ascii_case(BUILT_IN)
        || mesh::first(resources, |mesh| {
            mesh.extension_providers.iter().find(|provider| provider.name.eq_ignore_ascii_case(name)).cloned()
        })
        .is_some_and(|provider| provider.prometheus.is_some())
}

fn apply(change: &MetricsOverride, metrics: &mut StandardMetrics) {
    let everything = MetricSelector::default();
    let matches = change.matches.as_ref().unwrap_or(&everything);
    // Requests that pass a gateway are a client's in Istio's words.
    if matches.mode.as_deref() == Some("SERVER") || matches.custom_metric.is_some() {
        return;
    }
    let wanted = matches.metric.as_deref().unwrap_or("ALL_METRICS");
    for (_, page) in METRICS.iter().filter(|(name, _)| wanted == "ALL_METRICS" || wanted == *name) {
        let kept = metrics.overrides.entry((*page).to_owned()).or_default();
        if let Some(disabled) = change.disabled {
            kept.disabled = disabled;
        }
        for (label, tag) in &change.tag_overrides {
            if tag.operation.as_deref() == Some("REMOVE") {
                kept.set.remove(label);
                kept.removed.insert(label.clone());
            } else {
                kept.removed.remove(label);
                kept.set.insert(label.clone(), tag.value.clone().unwrap_or_default());
            }
        }
    }
}

/// Metrics that are none of Istio's standard ones here.
fn unserved(telemetry: &Object<Telemetry>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (i, entry) in telemetry.spec.metrics.iter().enumerate() {
        for (j, change) in entry.overrides.iter().enumerate() {
            let Some(matches) = &change.matches else { continue };
            let is_grpc = matches.metric.as_deref().is_some_and(|name| name.starts_with("GRPC_"));
            let field = if is_grpc { "metric" } else { "customMetric" };
            if is_grpc || matches.custom_metric.is_some() {
                let place = telemetry.place(&format!("spec.metrics[{i}].overrides[{j}].match.{field}"));
                let text = "this metric is not served yet: the override has no effect";
                found.push(Diagnostic::warning("P0340", place, text));
            }
        }
    }
    found
}
