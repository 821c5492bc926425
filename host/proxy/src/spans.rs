//! [`SpanPlan`]: which requests a snapshot traces and what their spans say; [`Spans`]: those of one request, which are
//! written when it has ended. Semantics: Envoy's connection manager, router and tracers as Istio sets them up:
//! one span for the request, and below it one for each try.

mod context;
mod exporter;

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Version, header};
use portolan_model::{Route, RouteAction, StringMatch, TagValue, TraceExport, Tracing};
use portolan_telemetry::format::{Format, protocol_name};
use portolan_telemetry::otlp::{Origin, Span, SpanKind};
use portolan_telemetry::trace::{SpanId, TraceId};
use portolan_telemetry::zipkin::{self, Endpoint};
use portolan_telemetry::{Metrics, ResponseFlags, StreamInfo, TraceContext, TracerMetrics, UpstreamAddress};
use smallvec::SmallVec;

use self::context::{CLIENT_TRACE_ID, Context};
pub(crate) use self::exporter::Exporter;
use crate::local_reply::Failure;

const DECORATOR_OPERATION: HeaderName = HeaderName::from_static("x-envoy-decorator-operation");

/// Most tries of one request that have spans; those of further ones are left out.
const MAX_TRIES: usize = 32;

/// What is traced, for all workers.
pub(crate) struct SpanPlan {
    pub(crate) wanted: Tracing,
    /// What all spans have in common.
    origin: Origin,
    endpoint: Endpoint,
    node_id: String,
    tags: Vec<(String, Tag)>,
}

/// Where a tag's value comes from.
enum Tag {
    Literal(String),
    Header(HeaderName, String),
    Format(Format),
}

/// A name that no header has, or what is no format: the tag is left out.
#[derive(Debug, thiserror::Error)]
#[error("tag `{0}` has a value that cannot be made")]
struct TagError(String);

impl SpanPlan {
    /// The plan of the last snapshot when it wants the same, so that spans of both go together.
    pub(crate) fn new(wanted: &Tracing, last: Option<&Arc<Self>>, namespace: &str) -> Arc<Self> {
        if let Some(last) = last.filter(|last| last.wanted == *wanted) {
            return last.clone();
        }
        let tag = |(name, value): (&String, &TagValue)| match Tag::new(name, value) {
            Ok(tag) => Some((name.clone(), tag)),
            Err(error) => {
                tracing::warn!(%error, "a tag of spans is left out");
                None
            }
        };
        Arc::new(Self {
            origin: Origin::of_service(&wanted.service_name),
            endpoint: Endpoint { service: wanted.service_name.clone(), ipv4: variable("INSTANCE_IP") },
            node_id: node_id(namespace),
            tags: wanted.tags.iter().map(|wanted| (&wanted.name, &wanted.value)).filter_map(tag).collect(),
            wanted: wanted.clone(),
        })
    }

    /// True when heads must be kept to the end of a stream.
    pub(crate) fn wants_heads(&self) -> bool {
        self.tags.iter().any(|(_, tag)| matches!(tag, Tag::Format(format) if format.wants_headers()))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Istio's name of a proxy, by what the environment tells.
fn node_id(namespace: &str) -> String {
    let ip = variable("INSTANCE_IP").unwrap_or_else(|| "0.0.0.0".to_owned());
    let pod = variable("POD_NAME").or_else(|| variable("HOSTNAME")).unwrap_or_else(|| "portolan".to_owned());
    format!("router~{ip}~{pod}.{namespace}~{namespace}.svc.cluster.local")
}

impl Tag {
    fn new(name: &str, value: &TagValue) -> Result<Self, TagError> {
        let error = || TagError(name.to_owned());
        Ok(match value {
            TagValue::Literal(text) => Self::Literal(text.clone()),
            TagValue::Header { name, default } => {
                Self::Header(HeaderName::from_bytes(name.as_bytes()).map_err(|_| error())?, default.clone())
            }
            TagValue::Format(text) => Self::Format(Format::compile(text).map_err(|_| error())?.omitting_empty(true)),
        })
    }
}

/// How Istio names what a route does: `HOST:PORT` of the one destination, or the VirtualService's name, and the path. None
/// for routes that are not a VirtualService's.
pub(crate) fn operation(route: &Route, listener_port: u16) -> Option<String> {
    let origin = route.delegated_from.as_deref().unwrap_or(&route.origin);
    if origin.kind() != "VirtualService" {
        return None;
    }
    let (path, rest) = match &route.matches.uri {
        None => ("/", "*"),
        Some(StringMatch::Prefix(prefix)) => (prefix.as_str(), "*"),
        Some(StringMatch::Exact(text) | StringMatch::Regex(text)) => (text.as_str(), ""),
        Some(StringMatch::Present) => ("/", "*"),
    };
    let single = match &route.action {
        RouteAction::Forward(forward) if forward.destinations.len() == 1 => forward.destinations.first(),
        _ => None,
    };
    let of_cluster = single.and_then(|destination| {
        let mut parts = destination.cluster_name.split('|');
        let (_, port, _, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{host}:{port}{path}{rest}"))
    });
    let name = || origin.name().rsplit('/').next().unwrap_or_default().to_owned();
    Some(of_cluster.unwrap_or_else(|| format!("{}:{listener_port}{path}{rest}", name())))
}

/// The spans of one request.
pub(crate) struct Spans {
    context: Context,
    client_trace_id: Option<HeaderValue>,
    /// What the route does, once somebody has asked.
    pub(crate) operation: Option<Arc<str>>,
    /// What the upstream says that it has done.
    name: Option<HeaderValue>,
    /// The request's headers that tags name, as they were sent, by tag.
    values: Option<Vec<Option<HeaderValue>>>,
    tries: SmallVec<[Try; 1]>,
}

/// One try.
struct Try {
    id: SpanId,
    /// From 1.
    number: u32,
    cluster: Arc<str>,
    address: UpstreamAddress,
    start: SystemTime,
    end: Option<SystemTime>,
    /// 0 without an answer.
    status: u16,
    version: Option<Version>,
    failure: Option<Failure>,
}

/// What of a request's end only the stream knows.
pub(crate) struct Told<'a> {
    pub(crate) operation: Option<&'a str>,
    /// As the client sees it.
    pub(crate) scheme: &'a str,
    pub(crate) grpc_status: Option<u32>,
    /// The request's, if nobody was sent it.
    pub(crate) headers: &'a HeaderMap,
}

impl Spans {
    /// Begins the span of a request whose head is prepared. None when what the client tells of its trace is malformed: as
    /// in Envoy nothing is traced then, and the headers go on as they are.
    pub(crate) fn begin(
        plan: &SpanPlan,
        headers: &mut HeaderMap,
        draw: impl FnOnce() -> (TraceId, SpanId),
    ) -> Option<Box<Self>> {
        let context = Context::begin(&plan.wanted, headers, draw)?;
        let client_trace_id = headers.get(CLIENT_TRACE_ID).cloned();
        let (operation, name, values, tries) = (None, None, None, SmallVec::new());
        Some(Box::new(Self { context, client_trace_id, operation, name, values, tries }))
    }

    pub(crate) fn trace(&self) -> TraceId {
        self.context.trace.trace
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.context.trace.sampled
    }

    /// The upstream says what it has done.
    pub(crate) fn rename(&mut self, name: HeaderValue) {
        self.name = Some(name).filter(|name| !name.is_empty());
    }

    /// Begins the span of a try; the one before has ended.
    pub(crate) fn begin_try(&mut self, number: u32, id: SpanId, cluster: &Arc<str>, address: UpstreamAddress) {
        let start = SystemTime::now();
        self.end_try(start);
        if self.tries.len() < MAX_TRIES {
            let cluster = cluster.clone();
            let (end, status, version, failure) = (None, 0, None, None);
            self.tries.push(Try { id, number, cluster, address, start, end, status, version, failure });
        }
    }

    /// The last try was none: nobody has seen it.
    pub(crate) fn forget_try(&mut self) {
        self.tries.pop();
    }

    fn end_try(&mut self, now: SystemTime) {
        if let Some(last) = self.tries.last_mut() {
            last.end.get_or_insert(now);
        }
    }

    /// The try has an answer; its span ends with the answer, or when the next try begins.
    pub(crate) fn answered(&mut self, status: u16, version: Version) {
        if let Some(last) = self.tries.last_mut() {
            last.status = status;
            last.version = Some(version);
        }
    }

    /// The try has failed.
    pub(crate) fn failed(&mut self, failure: Failure) {
        if let Some(last) = self.tries.last_mut() {
            last.failure = Some(failure);
            last.end = Some(SystemTime::now());
        }
    }

    /// Tells the upstream of the trace: `fallback` is the span when the try has none.
    pub(crate) fn inject(&mut self, plan: &SpanPlan, headers: &mut HeaderMap, fallback: SpanId) {
        if self.is_sampled() && self.values.is_none() {
            self.values = Some(plan.values(headers));
        }
        if plan.wanted.propagate {
            let span = self.tries.last().map_or(fallback, |last| last.id);
            self.context.inject(span, self.is_sampled(), headers);
        }
    }

    /// Tells a mirror of the trace. Its span is never sampled, whatever the request's is: Istio sets `trace_sampled: false`.
    pub(crate) fn inject_copy(&self, plan: &SpanPlan, headers: &mut HeaderMap, span: SpanId) {
        if plan.wanted.propagate {
            self.context.inject(span, false, headers);
        }
    }

    /// Writes all spans, the request's last.
    pub(crate) fn end(mut self, plan: &SpanPlan, info: &StreamInfo, told: &Told<'_>) -> SmallVec<[Vec<u8>; 2]> {
        let now = info.start + info.duration;
        self.end_try(now);
        let values = self.values.take().unwrap_or_else(|| plan.values(told.headers));
        let tags = plan.attributes(info, &values);
        let mut written: SmallVec<[Vec<u8>; 2]> =
            self.tries.iter().map(|attempt| attempt.write(plan, &self.context, &tags)).collect();
        let mut attributes = self.attributes(plan, info, told);
        attributes.extend(tags);
        let authority = info.authority.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = match (self.name.as_ref().and_then(|name| name.to_str().ok()), told.operation) {
            (Some(name), _) | (None, Some(name)) => name.to_owned(),
            (None, None) => format!("egress {authority}"),
        };
        let span = Span {
            context: self.context.trace,
            parent_is_remote: true,
            id: self.context.id,
            state: self.context.state(),
            name: &name,
            kind: SpanKind::Server,
            start: info.start,
            end: now,
            error: info.response_code >= 500,
        };
        written.push(plan.write(&span, self.context.is_short, &attributes));
        written
    }

    fn attributes<'a>(&self, plan: &'a SpanPlan, info: &StreamInfo, told: &Told<'_>) -> Attributes<'a> {
        let text = |value: &Option<HeaderValue>| {
            value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let dash = || "-".to_owned();
        let host = text(&info.authority).unwrap_or_default();
        let path = info.path.as_ref().map_or("", |path| path.as_str());
        let length = plan.wanted.max_path_tag_length as usize;
        let path = &path[..path.floor_char_boundary(length)];
        let mut all: Attributes<'a> = vec![("node_id", plan.node_id.clone()), ("zone", String::new())];
        all.extend(text(&info.request_id).map(|id| ("guid:x-request-id", id)));
        all.push(("http.url", format!("{}://{host}{path}", told.scheme)));
        all.push(("http.method", info.method.as_ref().map_or_else(dash, ToString::to_string)));
        all.push(("downstream_cluster", dash()));
        all.push(("user_agent", text(&info.user_agent).unwrap_or_else(dash)));
        all.push(("http.protocol", protocol(info.protocol).to_owned()));
        all.extend(info.downstream_direct.map(|peer| ("peer.address", peer.ip().to_string())));
        all.extend(text(&self.client_trace_id).map(|id| ("guid:x-client-trace-id", id)));
        all.extend(told.grpc_status.map(|status| ("grpc.status_code", status.to_string())));
        all.push(("request_size", info.bytes_received.to_string()));
        all.push(("response_size", info.bytes_sent.to_string()));
        all.push(("component", "proxy".to_owned()));
        if let Some(cluster) = info.upstream_cluster.as_ref().filter(|_| !info.flags.contains(ResponseFlags::NC)) {
            push_cluster(cluster, &mut all);
        }
        all.push(("http.status_code", info.response_code.to_string()));
        all.push(("response_flags", info.flags.to_string()));
        if info.response_code == 0 || info.response_code >= 500 {
            all.push(("error", "true".to_owned()));
        }
        all
    }
}

/// Names and values.
type Attributes<'a> = Vec<(&'a str, String)>;

impl SpanPlan {
    /// The values of headers that tags name, by tag.
    fn values(&self, headers: &HeaderMap) -> Vec<Option<HeaderValue>> {
        let value = |(_, tag): &(String, Tag)| match tag {
            Tag::Header(name, _) if *name == header::HOST => headers.get(header::HOST).cloned(),
            Tag::Header(name, _) => headers.get(name).cloned(),
            Tag::Literal(_) | Tag::Format(_) => None,
        };
        self.tags.iter().map(value).collect()
    }

    /// A span as the collector takes it. Of a name that is there twice the last value counts, at the first one's place.
    fn write(&self, span: &Span<'_>, is_short: bool, attributes: &Attributes<'_>) -> Vec<u8> {
        let last =
            |name: &str| attributes.iter().rfind(|(other, _)| *other == name).map_or("", |(_, value)| value.as_str());
        let is_first = |at: usize, name: &str| !attributes[..at].iter().any(|(earlier, _)| *earlier == name);
        let all = attributes.iter().enumerate().filter(|(at, (name, _))| is_first(*at, name));
        let all = all.map(|(_, (name, _))| (*name, last(name)));
        if let TraceExport::Zipkin { .. } = self.wanted.export {
            return zipkin::span(span, is_short, &self.endpoint, all);
        }
        let mut out = Vec::with_capacity(1024);
        span.write(all, &mut out);
        out
    }

    /// These spans as one message.
    fn message(&self, spans: &[Vec<u8>]) -> Vec<u8> {
        match self.wanted.export {
            TraceExport::Zipkin { .. } => zipkin::message(spans),
            TraceExport::Grpc | TraceExport::Http(_) => self.origin.request(spans),
        }
    }

    /// What is counted of them.
    fn counters<'a>(&self, metrics: &'a Metrics) -> &'a TracerMetrics {
        match self.wanted.export {
            TraceExport::Zipkin { .. } => &metrics.zipkin,
            TraceExport::Grpc | TraceExport::Http(_) => &metrics.tracing,
        }
    }

    /// Tags with their values; an empty value is none.
    fn attributes(&self, info: &StreamInfo, values: &[Option<HeaderValue>]) -> Attributes<'_> {
        let value = |tag: &Tag, header: Option<&HeaderValue>| match tag {
            Tag::Literal(text) => text.clone(),
            Tag::Header(_, default) => {
                header.map_or_else(|| default.clone(), |value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
            Tag::Format(format) => {
                let mut out = Vec::new();
                format.write_header(info, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
        };
        let all = self
            .tags
            .iter()
            .enumerate()
            .map(|(index, (name, tag))| (name.as_str(), value(tag, values.get(index).and_then(Option::as_ref))));
        all.filter(|(_, value)| !value.is_empty()).collect()
    }
}

impl Try {
    fn write(&self, plan: &SpanPlan, context: &Context, tags: &Attributes<'_>) -> Vec<u8> {
        let address = self.address.to_string();
        let mut all: Attributes<'_> = Vec::with_capacity(12 + tags.len());
        if self.number > 1 {
            all.push(("retry.count", (self.number - 1).to_string()));
        }
        if self.status == 0 && self.failure.is_none() {
            all.push(("canceled", "true".to_owned()));
        }
        all.push(("http.protocol", protocol(self.version).to_owned()));
        all.extend([("upstream_address", address.clone()), ("peer.address", address)]);
        all.push(("component", "proxy".to_owned()));
        push_cluster(&self.cluster, &mut all);
        all.push(("http.status_code", self.status.to_string()));
        let (flags, reason) =
            self.failure.map_or((ResponseFlags::NONE, None), |failure| (flags(failure), reason(failure)));
        all.push(("response_flags", flags.to_string()));
        if self.status == 0 || self.status >= 500 {
            all.push(("error", "true".to_owned()));
        }
        all.extend(reason.map(|reason| ("error.reason", reason.to_owned())));
        all.extend(tags.iter().cloned());
        let span = Span {
            context: TraceContext { parent: Some(context.id), ..context.trace },
            parent_is_remote: false,
            id: self.id,
            state: context.state(),
            name: &format!("router {}; egress", self.cluster),
            kind: SpanKind::Client,
            start: self.start,
            end: self.end.unwrap_or(self.start),
            // What a client's span says of answers, by OpenTelemetry's conventions.
            error: self.status >= 400,
        };
        plan.write(&span, context.is_short, &all)
    }
}

/// The name, and the one of its statistics, which Istio ends with a semicolon.
fn push_cluster(cluster: &str, all: &mut Attributes<'_>) {
    all.push(("upstream_cluster", cluster.to_owned()));
    all.push(("upstream_cluster.name", format!("{cluster};")));
}

fn protocol(version: Option<Version>) -> &'static str {
    protocol_name(version).unwrap_or("-")
}

fn flags(failure: Failure) -> ResponseFlags {
    match failure {
        Failure::Overflow => ResponseFlags::UO,
        Failure::Connect | Failure::ConnectTimeout => ResponseFlags::UF,
        Failure::Reset => ResponseFlags::UC,
        Failure::StreamReset | Failure::StreamRefused => ResponseFlags::UR,
        Failure::Protocol => ResponseFlags::UPE,
        Failure::Timeout | Failure::TryTimeout => ResponseFlags::UT,
        Failure::NoCluster | Failure::NoHealthyUpstream => ResponseFlags::NONE,
    }
}

/// Envoy's words for what ended a try.
fn reason(failure: Failure) -> Option<&'static str> {
    Some(match failure {
        Failure::Overflow => "overflow",
        Failure::Connect => "remote connection failure",
        Failure::ConnectTimeout => "connection timeout",
        Failure::Reset => "connection termination",
        Failure::StreamReset => "remote reset",
        Failure::StreamRefused => "remote refused stream reset",
        Failure::Protocol => "protocol error",
        _ => return None,
    })
}

/// Takes what the upstream says that it has done.
pub(crate) fn take_operation(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(DECORATOR_OPERATION)
}

/// Adds what the route does, for the upstream's own span.
pub(crate) fn decorate(headers: &mut HeaderMap, operation: &str) {
    if let Ok(value) = HeaderValue::from_str(operation) {
        headers.insert(DECORATOR_OPERATION, value);
    }
}
