//! [`Tracing`]: which requests have spans, what the spans say, and where they are sent.

use serde::{Deserialize, Serialize, Serializer};

use crate::Origin;

/// Of how many requests [`Tracing::random_sampling`] counts.
pub const SAMPLED_OF: u32 = 10_000;

/// Traces by OpenTelemetry or Zipkin: a Telemetry's `tracing` with the provider of the mesh configuration, merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tracing {
    /// Name of the extension provider.
    pub provider: String,
    /// The collector's cluster, e.g. `outbound|4317||otel.example.com`.
    pub cluster_name: String,
    /// The collector's host: `:authority` of what is sent.
    pub authority: String,
    /// How spans are sent.
    pub export: TraceExport,
    /// Sent besides: metadata of gRPC, or headers. Values may be credentials: they are not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty", serialize_with = "redacted")]
    pub headers: Vec<(String, String)>,
    /// How long sending may take, in milliseconds.
    pub timeout_ms: u64,
    /// Who sends them: `service.name` of the resource.
    pub service_name: String,
    /// Requests without a parent that are sampled, of [`SAMPLED_OF`].
    pub random_sampling: u32,
    /// `x-request-id` decides and tells; else every request without a parent is sampled, as in Envoy.
    pub sample_by_request_id: bool,
    /// Upstreams are told of the trace.
    pub propagate: bool,
    /// Longest path in `http.url`, in bytes.
    pub max_path_tag_length: u32,
    /// By name, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TraceTag>,
    /// The Telemetry or the mesh configuration that named the provider.
    pub origin: Origin,
}

/// How spans are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceExport {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, binary, to this path.
    Http(String),
    /// Zipkin's JSON over HTTP.
    Zipkin {
        /// Where to.
        path: String,
        /// W3C's headers are read where there are none of B3, and told besides.
        w3c: bool,
        /// Traces that begin here have numbers of 64 bits.
        short_trace_ids: bool,
    },
}

/// An attribute that each span has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceTag {
    /// Its key.
    pub name: String,
    /// Its value; a span has no attribute whose value is empty.
    pub value: TagValue,
}

/// Where a tag's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagValue {
    /// It is this.
    Literal(String),
    /// A header of the request.
    Header {
        /// Its name in lower case.
        name: String,
        /// When the request has none.
        default: String,
    },
    /// A format string of the access log's language.
    Format(String),
}

fn redacted<S: Serializer>(headers: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, _)| (name, "[redacted]")))
}
