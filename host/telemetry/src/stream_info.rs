//! [`StreamInfo`]: what is told about one request when it has ended.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};

use crate::ResponseFlags;
use crate::trace::TraceId;
use crate::upstream_address::UpstreamAddress;

/// What a client's connection can be asked for by Envoy's words.
pub trait ConnectionWords: std::fmt::Debug + Send + Sync {
    /// Unique in the process.
    fn id(&self) -> u64;

    /// What its TLS has told by the name of a command, e.g. `DOWNSTREAM_TLS_VERSION`; none without.
    fn of_tls(&self, command: &str) -> Option<&str>;
}

/// Everything an access log line may name. Filled by the proxy, read once at the end of the request.
///
/// Header values, path and names are reference-counted, so that filling it copies no text. Absent values print as `-`.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// When the first byte of the request was seen; the Unix epoch by default.
    pub start: SystemTime,
    /// Absent when the request head could not be read.
    pub method: Option<Method>,
    /// Of the client's connection: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Path and query as the client sent them, before any rewrite.
    pub path: Option<PathAndQuery>,
    /// Path and query after a rewrite; none without one.
    pub rewritten_path: Option<PathAndQuery>,
    /// The client's protocol.
    pub protocol: Option<Version>,
    /// Status sent to the client; 0 when none was sent.
    pub response_code: u16,
    /// Status of the response's head, where it is told before it is sent; else that of `response_code`.
    pub head_status: Option<u16>,
    /// What went wrong.
    pub flags: ResponseFlags,
    /// Envoy's response code details, e.g. `via_upstream`, `route_not_found`; empty when unknown.
    pub details: Cow<'static, str>,
    /// Why the connection was ended by the gateway.
    pub connection_termination: Option<&'static str>,
    /// Why the upstream connection failed (`UPSTREAM_TRANSPORT_FAILURE_REASON`).
    pub cause: Option<String>,
    /// Body bytes of the request.
    pub bytes_received: u64,
    /// Body bytes of the response.
    pub bytes_sent: u64,
    /// From the first byte received to the last byte sent.
    pub duration: Duration,
    /// From the request sent to the response head received: what `x-envoy-upstream-service-time` says.
    pub upstream_service_time: Option<Duration>,
    /// `x-forwarded-for` as sent upstream.
    pub x_forwarded_for: Option<HeaderValue>,
    /// `user-agent` of the request.
    pub user_agent: Option<HeaderValue>,
    /// `x-request-id` as sent upstream.
    pub request_id: Option<HeaderValue>,
    /// `:authority` or `Host` as sent upstream, or of the request when nothing is sent.
    pub authority: Option<HeaderValue>,
    /// The endpoint that answered, or was tried last.
    pub upstream_host: Option<UpstreamAddress>,
    /// Name of the cluster, e.g. `outbound|8080|v1|reviews.default.svc.cluster.local`.
    pub upstream_cluster: Option<Arc<str>>,
    /// Protocol of the upstream connection.
    pub upstream_protocol: Option<Version>,
    /// How often the request was sent upstream, retries included.
    pub attempts: u32,
    /// From the first byte received to the head of the upstream's answer.
    pub response_duration: Option<Duration>,
    /// Our address on the upstream connection.
    pub upstream_local: Option<SocketAddr>,
    /// Our address on the client's connection.
    pub downstream_local: Option<SocketAddr>,
    /// The client's address.
    pub downstream_remote: Option<SocketAddr>,
    /// What the client's connection is known by besides.
    pub connection: Option<Arc<dyn ConnectionWords>>,
    /// Whoever has opened the connection: the client, or a proxy in front of the gateway.
    pub downstream_direct: Option<SocketAddr>,
    /// SNI of the client's TLS hello.
    pub requested_server_name: Option<Arc<str>>,
    /// The trace that the request belongs to; none when it is not traced.
    pub trace_id: Option<TraceId>,
    /// Name of the route; none when no route was found or it has no name.
    pub route_name: Option<Arc<str>>,
    /// The request's headers as sent upstream; only for a log that [`crate::Format::wants_headers`].
    pub request_headers: Option<HeaderMap>,
    /// The response's headers as sent to the client, likewise.
    pub response_headers: Option<HeaderMap>,
    /// The response's trailers, likewise.
    pub response_trailers: Option<HeaderMap>,
    /// What filters have told, by `NAMESPACE:KEY`, likewise.
    pub dynamic_metadata: Option<Box<[(String, String)]>>,
}

impl Default for StreamInfo {
    fn default() -> Self {
        Self {
            start: SystemTime::UNIX_EPOCH,
            method: None,
            scheme: None,
            path: None,
            rewritten_path: None,
            protocol: None,
            response_code: 0,
            head_status: None,
            flags: ResponseFlags::NONE,
            details: Cow::Borrowed(""),
            connection_termination: None,
            cause: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_service_time: None,
            x_forwarded_for: None,
            user_agent: None,
            request_id: None,
            authority: None,
            upstream_host: None,
            upstream_cluster: None,
            upstream_protocol: None,
            attempts: 0,
            response_duration: None,
            upstream_local: None,
            downstream_local: None,
            downstream_remote: None,
            connection: None,
            downstream_direct: None,
            requested_server_name: None,
            trace_id: None,
            route_name: None,
            request_headers: None,
            response_headers: None,
            response_trailers: None,
            dynamic_metadata: None,
        }
    }
}

impl StreamInfo {
    /// Path and query as the upstream is asked for them.
    pub(crate) fn sent_path(&self) -> Option<&PathAndQuery> {
        self.rewritten_path.as_ref().or(self.path.as_ref())
    }

    /// What filters have told under `NAMESPACE:KEY`.
    pub(crate) fn metadata(&self, name: &str) -> Option<&str> {
        let told = self.dynamic_metadata.iter().flatten().find(|(known, _)| known == name);
        told.map(|(_, value)| value.as_str())
    }

    /// Path and query before a rewrite; none without one.
    pub(crate) fn original_path(&self) -> Option<&PathAndQuery> {
        self.path.as_ref().filter(|_| self.rewritten_path.is_some())
    }
}
