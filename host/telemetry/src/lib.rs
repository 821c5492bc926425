//! What is told about a request: the access log, the metrics page, and the process's own log.
//!
//! The proxy fills one [`StreamInfo`] per request and hands it to [`AccessLog::record`]; it counts through handles that
//! [`Metrics`] resolved when the configuration was loaded, so that no name is looked up while a request runs.

pub mod access_log;
pub mod format;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod response_flags;
pub mod stream_info;
pub mod trace;
pub mod upstream_address;
pub mod zipkin;

pub use access_log::{AccessLog, AccessLogError};
pub use format::{DEFAULT_FORMAT, DEFAULT_JSON_FORMAT, Format, FormatError};
pub use logging::{LogControl, LogError};
pub use metrics::{
    AccessLogMetrics, CertificateMetrics, ClusterMetrics, ConfigMetrics, Counter, EdgeMetrics, FilterMetrics, Gauge,
    HealthCheckMetrics, Histogram, Http2Metrics, HttpMetrics, Key, ListenerMetrics, Metrics, PluginValue,
    PluginValueKind, Reporter, ResponseClasses, ResponseCodes, RouteMetrics, STANDARD_METRICS, ServerMetrics,
    StandardDestination, StandardMetric, StandardOptions, StandardPrincipals, StandardSeries, StandardWorkload,
    TcpMetrics, TracerMetrics, UdpMetrics,
};
pub use response_flags::ResponseFlags;
pub use stream_info::{ConnectionWords, StreamInfo};
pub use trace::{SpanId, TraceContext, TraceReason};
pub use upstream_address::UpstreamAddress;
