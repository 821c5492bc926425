//! The one table from what went wrong to status, flag, details and body. Texts are Envoy's, so that clients and
//! dashboards made for it work (istio.md section 6 names the states).

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, response};
use portolan_telemetry::ResponseFlags;
use portolan_wasm::{CallResponse, LocalReply};

use crate::connection::Fault;
use crate::generation::Role;
use crate::grpc_reply;
use crate::route_stats::count_answers;
use crate::snapshot::ClusterEntry;
use crate::stream::{NO_BODY, Stream};
use crate::worker_plugin::WorkerPlugin;

/// Of answers at a limit of a cluster.
const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// An answer of the gateway's own.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Bytes,
    headers: HeaderMap,
    flags: ResponseFlags,
    details: Cow<'static, str>,
    /// For the log: which address, which limit, which error.
    cause: Option<String>,
    /// The filter's own status for a gRPC request.
    grpc_status: Option<u32>,
    /// No answer at all: the stream is cut.
    reset: bool,
    /// The route's header operations do not apply.
    bare: bool,
}

/// Why a request is not taken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// HTTP/1.0 and older: Istio's gateways answer 426.
    #[error("low_version")]
    Version,
    /// RFC 9112 section 3.2: exactly one Host.
    #[error("missing_host_header")]
    NoHost,
    /// The Host is no host.
    #[error("http.invalid_authority")]
    BadHost,
    /// An absolute target with `https` on a connection without TLS.
    #[error("http1.https_url_on_plaintext_connection")]
    HttpsUrl,
    /// An absolute target that is neither `http` nor `https`.
    #[error("http1.invalid_scheme")]
    Scheme,
    /// `OPTIONS *`: no route is for it.
    #[error("absolute_path_rejected")]
    Asterisk,
    /// Both lengths, or an encoding that is not exactly `chunked`: RFC 9112 section 6.
    #[error("http1.codec_error")]
    Framing,
    /// A message of HTTP/2 that must not be (RFC 9113 section 8.1.1).
    #[error("http2.violation.of.messaging.rule")]
    Messaging,
    /// A field of HTTP/2 that must not be, or not so.
    #[error("http2.invalid.header.field")]
    Field,
    /// Not a message of HTTP/1 that can be read in one way only.
    #[error("{0}")]
    Malformed(Fault),
    /// A `*` that is not for OPTIONS, or the target of a CONNECT that is no host with a port and nothing else.
    #[error("http1.invalid_url")]
    NoUrl,
    /// A CONNECT with a body.
    #[error("http1.body_disallowed")]
    ConnectBody,
    /// TRACE is not served, and CONNECT where no Gateway asks for it.
    #[error("method_not_allowed")]
    Method,
    /// An upgrade to something else than a WebSocket.
    #[error("upgrade_failed")]
    Upgrade,
    /// More fields than a head may have.
    #[error("http2.too_many_headers")]
    TooManyFields,
    /// A `_` in a header's name, which a backend may read as `-`.
    #[error("http1.unexpected_underscore")]
    Underscore,
    /// The same over HTTP/2.
    #[error("http2.unexpected_underscore")]
    Http2Underscore,
    /// Memory is short.
    #[error("overload")]
    Overload,
    /// The body is larger than `--max-request-bytes`.
    #[error("request_payload_too_large")]
    TooLarge,
    /// A QUERY that does not say of what kind its body is.
    #[error("query_missing_content_type")]
    BareQuery,
    /// The target is neither a path nor a URL.
    #[error("path_normalization_failed")]
    BadPath,
}

/// Why the upstream gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The route's cluster does not exist.
    NoCluster,
    /// No endpoint, or none healthy.
    NoHealthyUpstream,
    /// No place to wait for a connection.
    Overflow,
    /// No connection could be made.
    Connect,
    /// No connection within `connectTimeout`.
    ConnectTimeout,
    /// The connection ended before the answer.
    Reset,
    /// The upstream has reset the HTTP/2 stream.
    StreamReset,
    /// The upstream has refused the HTTP/2 stream unseen.
    StreamRefused,
    /// The answer was not HTTP.
    Protocol,
    /// The route's timeout ran out.
    Timeout,
    /// The last try's `perTryTimeout` ran out.
    TryTimeout,
}

impl Reply {
    fn new(status: StatusCode, flags: ResponseFlags, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            body: NO_BODY,
            headers: HeaderMap::new(),
            flags,
            details: details.into(),
            cause: None,
            grpc_status: None,
            reset: false,
            bare: false,
        }
    }

    fn with_text(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Version | Refusal::Malformed(Fault::Version) => StatusCode::UPGRADE_REQUIRED,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Upgrade | Refusal::HttpsUrl => StatusCode::FORBIDDEN,
            Refusal::Asterisk => StatusCode::NOT_FOUND,
            Refusal::TooManyFields | Refusal::Malformed(Fault::HeadTooLarge | Fault::TooManyFields) => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Refusal::Malformed(Fault::TargetTooLarge) => StatusCode::URI_TOO_LONG,
            Refusal::Malformed(Fault::Encoding) => StatusCode::NOT_IMPLEMENTED,
            Refusal::Overload => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        let flags = match refusal {
            Refusal::Overload => ResponseFlags::OM,
            // As in Envoy, whose codec takes these and whose connection manager refuses them.
            Refusal::TooLarge
            | Refusal::NoHost
            | Refusal::BadPath
            | Refusal::BareQuery
            | Refusal::Asterisk
            | Refusal::Upgrade
            | Refusal::Malformed(Fault::Fragment) => ResponseFlags::NONE,
            _ => ResponseFlags::DPE,
        };
        let reply = Self::new(status, flags, refusal.to_string()).closing();
        match refusal {
            Refusal::Overload => reply.with_text("envoy overloaded"),
            Refusal::TooLarge => reply.with_text("Payload Too Large"),
            // What Envoy's codec refuses says its status in words.
            _ if flags == ResponseFlags::DPE => reply.with_text(status.canonical_reason().unwrap_or_default()),
            _ => reply,
        }
    }

    /// The request has not come in within its time.
    pub(crate) fn request_timeout() -> Self {
        let details = "request_overall_timeout";
        Self::new(StatusCode::REQUEST_TIMEOUT, ResponseFlags::NONE, details).with_text("request timeout").closing()
    }

    /// Nothing went either way for too long: of the client, when it owes a part of its body, else of the upstream.
    pub(crate) fn stream_idle(waits_for_client: bool) -> Self {
        let status = if waits_for_client { StatusCode::REQUEST_TIMEOUT } else { StatusCode::GATEWAY_TIMEOUT };
        Self::new(status, ResponseFlags::SI, "stream_idle_timeout").with_text("stream timeout").closing()
    }

    fn closing(mut self) -> Self {
        self.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        self
    }

    /// No host or no route.
    pub(crate) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, ResponseFlags::NR, "route_not_found")
    }

    /// DNS does not know the host that the request names, or may not be asked for it.
    pub(crate) fn unresolved(cause: String) -> Self {
        let reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, ResponseFlags::DF, "dns_resolution_failure");
        Self { cause: Some(cause), ..reply.with_text("DNS resolution failure") }
    }

    pub(crate) fn failed(failure: Failure, cause: Option<String>) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let connect = "upstream connect error or disconnect/reset before headers. reset reason: ";
        let before = "upstream_reset_before_response_started";
        let reply = match failure {
            Failure::NoCluster => Self::new(unavailable, ResponseFlags::NC, "cluster_not_found"),
            Failure::NoHealthyUpstream => {
                Self::new(unavailable, ResponseFlags::UH, "no_healthy_upstream").with_text("no healthy upstream")
            }
            Failure::Overflow => Self::overflow_reply(),
            Failure::Connect => {
                Self::new(unavailable, ResponseFlags::UF, format!("{before}{{remote_connection_failure}}"))
                    .with_text(format!("{connect}remote connection failure"))
            }
            Failure::ConnectTimeout => {
                Self::new(unavailable, ResponseFlags::UF, format!("{before}{{connection_timeout}}"))
                    .with_text(format!("{connect}connection timeout"))
            }
            Failure::Reset => Self::new(unavailable, ResponseFlags::UC, format!("{before}{{connection_termination}}"))
                .with_text(format!("{connect}connection termination")),
            Failure::StreamReset => Self::new(unavailable, ResponseFlags::UR, format!("{before}{{remote_reset}}"))
                .with_text(format!("{connect}remote reset")),
            Failure::StreamRefused => {
                Self::new(unavailable, ResponseFlags::UR, format!("{before}{{remote_refused_stream_reset}}"))
                    .with_text(format!("{connect}remote refused stream reset"))
            }
            Failure::Protocol => {
                Self::new(StatusCode::BAD_GATEWAY, ResponseFlags::UPE, format!("{before}{{protocol_error}}"))
                    .with_text(format!("{connect}protocol error"))
            }
            Failure::Timeout => Self::new(StatusCode::GATEWAY_TIMEOUT, ResponseFlags::UT, "response_timeout")
                .with_text("upstream request timeout"),
            Failure::TryTimeout => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, ResponseFlags::UT, "upstream_per_try_timeout")
                    .with_text("upstream request timeout")
            }
        };
        Self { cause, ..reply }
    }

    /// Why no connection could be made, as Envoy tells it: without spaces.
    pub(crate) fn for_reason(mut self, reason: &str) -> Self {
        let reason = reason.replace(' ', "_");
        self.details = format!("upstream_reset_before_response_started{{remote_connection_failure|{reason}}}").into();
        self
    }

    /// The last of several tries failed this way: Envoy's text says so.
    pub(crate) fn after_retries(mut self) -> Self {
        const REASON: &str = "headers. reset reason: ";
        if let Ok(text) = std::str::from_utf8(&self.body)
            && text.contains(REASON)
        {
            self.body = text.replacen(REASON, "headers. retried and the latest reset reason: ", 1).into();
        }
        self
    }

    /// With flags besides its own.
    pub(crate) fn with_flags(mut self, flags: ResponseFlags) -> Self {
        self.flags |= flags;
        self
    }

    fn overflow_reply() -> Self {
        let details = "upstream_reset_before_response_started{overflow}";
        let text = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        let mut reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, ResponseFlags::UO, details).with_text(text);
        reply.headers.insert(OVERLOADED, HeaderValue::from_static("true"));
        reply
    }

    /// A filter's answer, as it counts for the filter's place in the chain.
    pub(crate) fn of_plugin(stream: &Stream, plugin: &WorkerPlugin, reply: LocalReply) -> Self {
        match plugin.role {
            Role::CircuitBreaker => Self::overflow(stream, reply),
            Role::Fault => Self::from_filter(reply),
            // As of Envoy's filter, which passes the route's header operations by.
            Role::Cors => Self { bare: true, ..Self::from_filter(reply) },
            _ => Self::from_filter(reply).because(format!("answered by {}", plugin.named())),
        }
    }

    /// The circuit breaker refused the request.
    fn overflow(stream: &Stream, reply: LocalReply) -> Self {
        stream.note_cluster(|cluster| {
            let metrics = &cluster.state.metrics;
            metrics.upstream_rq_pending_overflow.inc();
            count_answers(metrics, stream.route_stats().as_deref(), reply.status.as_u16());
        });
        let details = "upstream_reset_before_response_started{overflow}";
        Self { flags: ResponseFlags::UO, details: details.into(), ..Self::from_filter(reply) }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn flags(&self) -> ResponseFlags {
        self.flags
    }

    /// True when the route's header operations do not apply.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare
    }

    pub(crate) fn from_filter(reply: LocalReply) -> Self {
        let details: Cow<'static, str> =
            if reply.details.is_empty() { "wasm_local_reply".into() } else { reply.details.into() };
        let mut made = Self::new(reply.status, ResponseFlags::NONE, details);
        made.headers = reply.headers;
        made.grpc_status = reply.grpc_status;
        made.body = reply.body;
        made
    }

    /// What the log says of it: who caused it, and which line asked for that.
    pub(crate) fn because(self, cause: String) -> Self {
        Self { cause: Some(cause), ..self }
    }

    /// A filter that fails closed could not run.
    pub(crate) fn filter_failed(plugin: &str) -> Self {
        let mut reply = Self::new(StatusCode::SERVICE_UNAVAILABLE, ResponseFlags::NONE, "wasm_fail_stream");
        reply.cause = Some(format!("{plugin} could not run"));
        reply
    }

    /// More waits for a filter than may.
    pub(crate) fn body_too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ResponseFlags::NONE, "request_payload_too_large")
            .with_text("Payload Too Large")
    }

    /// A filter wants the stream closed without an answer.
    pub(crate) fn reset() -> Self {
        Self::unanswered(ResponseFlags::LR, "wasm_close_stream")
    }

    /// The stream ends without an answer.
    pub(crate) fn unanswered(flags: ResponseFlags, details: &'static str) -> Self {
        Self { reset: true, ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, flags, details) }
    }

    /// What such a stream is logged with.
    pub(crate) fn into_details(self) -> (ResponseFlags, Cow<'static, str>) {
        (self.flags, self.details)
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset
    }

    /// The route's timeout ran out while a filter held the head.
    pub(crate) fn route_timeout() -> Self {
        Self::failed(Failure::Timeout, None)
    }

    /// A filter held the stream for longer than it may.
    pub(crate) fn paused_too_long() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, ResponseFlags::NONE, "wasm_paused_too_long")
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
        let mut reply = Self::new(status, ResponseFlags::NONE, "direct_response");
        if let Ok(location) = HeaderValue::from_str(location) {
            reply.headers.insert(header::LOCATION, location);
        }
        reply
    }

    pub(crate) fn direct(status: StatusCode, body: Bytes, location: Option<&str>) -> Self {
        let mut reply = Self::new(status, ResponseFlags::NONE, "direct_response");
        if let Some(location) = location.and_then(|text| HeaderValue::from_str(text).ok()) {
            reply.headers.insert(header::LOCATION, location);
        }
        if body.is_empty() { reply } else { reply.with_text(body) }
    }

    /// A reply with a status, details and a text.
    pub(crate) fn text(status: StatusCode, details: &'static str, text: &'static str) -> Self {
        Self::new(status, ResponseFlags::NONE, details).with_text(text)
    }

    /// What a filter gets that has made the call itself.
    pub(crate) fn into_call_response(self) -> CallResponse {
        let mut headers = self.headers;
        name_type(&mut headers, &self.body);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        CallResponse { status: self.status, headers, body: self.body, trailers: HeaderMap::new() }
    }

    /// The response's head and body; flags and details go to the stream. A gRPC request gets them in gRPC's form.
    ///
    /// `change` is what the route does to the head. As in Envoy, the type of the body is none of its business unless it
    /// names another.
    pub(crate) fn into_parts(
        self,
        stream: &Stream,
        change: impl FnOnce(&mut response::Parts),
    ) -> (response::Parts, Bytes) {
        stream.flag(self.flags, self.details);
        if self.cause.is_some() {
            stream.note(|info| info.cause = self.cause);
        }
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.headers;
        if !stream.view.snapshot.own_headers.debug {
            parts.headers.remove(OVERLOADED);
        }
        if let Some(web) = stream.grpc_web() {
            web.reply(&mut parts, &self.body);
            change(&mut parts);
            return (parts, NO_BODY);
        }
        if stream.is_grpc() {
            grpc_reply::convert(&mut parts, &self.body, self.grpc_status);
            change(&mut parts);
            grpc_reply::name_type(&mut parts.headers);
            return (parts, NO_BODY);
        }
        change(&mut parts);
        name_type(&mut parts.headers, &self.body);
        (parts, self.body)
    }
}

/// A body without a type is a text.
fn name_type(headers: &mut HeaderMap, body: &Bytes) {
    if !body.is_empty() {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
    }
}

impl Stream {
    /// Tells the access log the chosen cluster, for answers that come from before the router.
    pub(crate) fn note_cluster(&self, also: impl FnOnce(&ClusterEntry)) {
        let choice = self.with_state(|state| state.host.choice);
        if let Some(cluster) = choice.and_then(|choice| self.view.snapshot.cluster(choice.cluster)) {
            also(cluster);
            self.note(|info| info.upstream_cluster = Some(cluster.state.name.clone()));
        }
    }
}
