//! Where spans may go, and what the settings of proxies say of them: parts of the mesh configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use super::telemetry::CustomTag;

/// A collector of traces by OpenTelemetry's protocol: over gRPC, or over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTelemetryProvider {
    /// `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Required.
    pub port: u32,
    /// Longest path in `http.url`, in bytes; 256 by default.
    pub max_tag_length: Option<u32>,
    /// Sends over HTTP.
    pub http: Option<OpenTelemetryHttp>,
    /// Details of gRPC.
    pub grpc: Option<OpenTelemetryGrpc>,
    /// More attributes of the resource; not served.
    pub resource_detectors: Option<Value>,
    /// Dynatrace's choice of requests; not served.
    pub dynatrace_sampler: Option<Value>,
}

/// A collector of traces that speaks Zipkin's JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ZipkinProvider {
    /// `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Required.
    pub port: u32,
    /// Longest path in `http.url`, in bytes; 256 by default.
    pub max_tag_length: Option<u32>,
    /// Traces that begin here have numbers of 64 bits; 128 by default.
    #[serde(rename = "enable64bitTraceId")]
    pub enable_64bit_trace_id: Option<bool>,
    /// `/api/v2/spans` by default.
    pub path: String,
    /// `USE_B3` by default, `USE_B3_WITH_W3C_PROPAGATION`.
    pub trace_context_option: Option<String>,
    /// Duration, 5 s by default.
    pub timeout: Option<String>,
    /// Sent besides.
    pub headers: Vec<SentHeader>,
}

/// Details of OTLP over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTelemetryHttp {
    /// `/v1/traces` for instance.
    pub path: String,
    /// Duration.
    pub timeout: Option<String>,
    /// Sent besides.
    pub headers: Vec<SentHeader>,
}

/// Details of OTLP over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OpenTelemetryGrpc {
    /// Duration.
    pub timeout: Option<String>,
    /// Sent besides.
    pub initial_metadata: Vec<SentHeader>,
}

/// A header with its value, or with the variable that has it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SentHeader {
    /// Required.
    pub name: String,
    /// The value itself.
    pub value: Option<String>,
    /// A variable of the environment.
    pub env_name: Option<String>,
}

/// What of traces the proxy's settings say.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyTracing {
    /// Percent; 0 means the default, 1.
    pub sampling: Option<f64>,
    /// By name; where no Telemetry has any.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Where the provider does not say it.
    pub max_path_tag_length: Option<u32>,
    // Tracers without a provider are not served, and Istio's tags are the Telemetry's choice.
    pub enable_istio_tags: Option<Value>,
    pub zipkin: Option<Value>,
    pub lightstep: Option<Value>,
    pub datadog: Option<Value>,
    pub stackdriver: Option<Value>,
    pub open_census_agent: Option<Value>,
    pub tls_settings: Option<Value>,
}
