//! Spec of the Istio `Telemetry`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::wasm_plugin::{LabelSelector, TargetRef};

/// What is told of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Telemetry {
    /// Must be a subset of the gateway's labels; absent means the whole namespace.
    pub selector: Option<LabelSelector>,
    /// Of no use here: other than by labels nothing is selected.
    pub target_ref: Option<TargetRef>,
    /// Of no use here.
    pub target_refs: Vec<TargetRef>,
    /// Each entry changes what is traced, and where spans go.
    pub tracing: Vec<TracingEntry>,
    /// Each entry changes metrics of a provider.
    pub metrics: Vec<MetricsEntry>,
    /// Each entry turns logs on or off.
    pub access_logging: Vec<AccessLogging>,
}

/// One decision about access logs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AccessLogging {
    /// Which traffic; a gateway's is that of a client.
    #[serde(rename = "match")]
    pub matches: Option<LogSelector>,
    /// Extension providers of the mesh configuration; absent means the default ones.
    pub providers: Vec<ProviderRef>,
    /// Turns the providers off.
    pub disabled: Option<bool>,
    /// Which requests have a line.
    pub filter: Option<LogFilter>,
}

/// One decision about traces; what is absent stays as wider objects have it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TracingEntry {
    /// Which traffic; a gateway's is that of a client.
    #[serde(rename = "match")]
    pub matches: Option<LogSelector>,
    /// One extension provider of the mesh configuration; absent means the one so far.
    pub providers: Vec<ProviderRef>,
    /// 0 to 100.
    pub random_sampling_percentage: Option<f64>,
    /// Nothing is traced.
    pub disable_span_reporting: Option<bool>,
    /// Upstreams are not told of the trace.
    pub disable_context_propagation: Option<bool>,
    /// By name.
    pub custom_tags: Option<BTreeMap<String, CustomTag>>,
    /// Istio's own tags; true by default.
    pub enable_istio_tags: Option<bool>,
    /// `x-request-id` says whether a request is sampled; true by default.
    pub use_request_id_for_trace_sampling: Option<bool>,
}

/// Where a tag's value comes from: one of these.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CustomTag {
    /// It stands here.
    pub literal: Option<TagText>,
    /// A variable of the gateway's environment.
    pub environment: Option<TagSource>,
    /// A header of the request.
    pub header: Option<TagSource>,
    /// A format string of Envoy's access log.
    pub formatter: Option<TagText>,
}

/// A text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TagText {
    /// Required.
    pub value: String,
}

/// A variable or a header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TagSource {
    /// Required.
    pub name: String,
    /// When there is none.
    pub default_value: String,
}

/// Changes of metrics.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsEntry {
    /// Extension providers of the mesh configuration; absent means the default ones.
    pub providers: Vec<ProviderRef>,
    /// In order; later ones beat earlier ones.
    pub overrides: Vec<MetricsOverride>,
    /// Of no use: metrics are read when they are asked for.
    pub reporting_interval: Option<String>,
}

/// How some metrics differ.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsOverride {
    /// Which metrics; absent means all.
    #[serde(rename = "match")]
    pub matches: Option<MetricSelector>,
    /// Not kept.
    pub disabled: Option<bool>,
    /// By label.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Metrics by name and mode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricSelector {
    /// `ALL_METRICS` by default.
    pub metric: Option<String>,
    /// One that is not Istio's.
    pub custom_metric: Option<String>,
    /// As for access logs.
    pub mode: Option<String>,
}

/// A change of a label.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TagOverride {
    /// `UPSERT` by default, `REMOVE`.
    pub operation: Option<String>,
    /// CEL over Envoy's attributes; with `UPSERT`.
    pub value: Option<String>,
}

/// Traffic by mode.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogSelector {
    /// `CLIENT_AND_SERVER` by default, `CLIENT`, `SERVER`.
    pub mode: Option<String>,
}

/// An extension provider by name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProviderRef {
    /// Required.
    pub name: String,
}

/// Which requests have a line.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LogFilter {
    /// CEL over Envoy's attributes, e.g. `response.code >= 400`.
    pub expression: String,
}
