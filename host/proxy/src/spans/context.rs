//! [`Context`]: the trace that a request belongs to, read from its headers and told to upstreams in the form of the tracer:
//! W3C's for OpenTelemetry, B3 for Zipkin.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use portolan_model::{SAMPLED_OF, TraceExport, Tracing};
use portolan_telemetry::trace::{B3, B3Trace, SpanId, TraceId, number_of};
use portolan_telemetry::{TraceContext, TraceReason};

use crate::head::REQUEST_ID;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");

/// The trace, and the span of the request.
pub(super) struct Context {
    pub(super) trace: TraceContext,
    pub(super) id: SpanId,
    /// The trace's number has 64 bits.
    pub(super) is_short: bool,
    state: Option<HeaderValue>,
    /// How Zipkin's headers came.
    b3: Option<B3>,
    /// W3C's headers are told.
    tells_w3c: bool,
}

impl Context {
    /// None when what the client tells is malformed.
    pub(super) fn begin(
        wanted: &Tracing,
        headers: &mut HeaderMap,
        draw: impl FnOnce() -> (TraceId, SpanId),
    ) -> Option<Self> {
        let sampled = decide(wanted, headers);
        let (trace, id) = draw();
        match &wanted.export {
            TraceExport::Grpc | TraceExport::Http(_) => Self::of_w3c(headers, trace, id, sampled),
            TraceExport::Zipkin { w3c, short_trace_ids, .. } => {
                let b3 = B3::read(headers).ok()?;
                if *w3c && b3.ids.is_none() && headers.contains_key(TRACEPARENT) {
                    return Some(Self { b3: Some(b3), ..Self::of_w3c(headers, trace, id, sampled)? });
                }
                Some(Self::of_b3(b3, trace, id, (sampled, *short_trace_ids, *w3c)))
            }
        }
    }

    fn of_w3c(headers: &HeaderMap, trace: TraceId, id: SpanId, sampled: bool) -> Option<Self> {
        let (trace, state) = match headers.get(TRACEPARENT) {
            None => (TraceContext { trace, parent: None, sampled }, None),
            Some(told) => (TraceContext::parse(told.as_bytes())?, headers.get(TRACESTATE).cloned()),
        };
        Some(Self { trace, id, is_short: false, state, b3: None, tells_w3c: true })
    }

    /// The first span of a trace has the trace's number, as far as it fits.
    fn of_b3(b3: B3, mut trace: TraceId, id: SpanId, (sampled, is_short, tells_w3c): (bool, bool, bool)) -> Self {
        let sampled = b3.sampled.unwrap_or(sampled);
        let (trace, id, is_short) = match b3.ids {
            Some((told, parent)) => (TraceContext { trace: told.id, parent: Some(parent), sampled }, id, told.is_short),
            None => {
                if is_short {
                    trace[..8].fill(0);
                }
                trace[8..].copy_from_slice(&id);
                (TraceContext { trace, parent: None, sampled }, id, is_short)
            }
        };
        Self { trace, id, is_short, state: None, b3: Some(b3), tells_w3c }
    }

    /// `tracestate` as it came.
    pub(super) fn state(&self) -> &str {
        self.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default()
    }

    /// Tells of `span`, which is below the request's.
    pub(super) fn inject(&self, span: SpanId, sampled: bool, headers: &mut HeaderMap) {
        if let Some(b3) = &self.b3 {
            let trace = B3Trace { id: self.trace.trace, is_short: self.is_short };
            b3.write(trace, span, self.id, sampled, headers);
        }
        if self.tells_w3c {
            let text = Bytes::from_owner(TraceContext { sampled, ..self.trace }.traceparent(span));
            if let Ok(told) = HeaderValue::from_maybe_shared(text) {
                headers.insert(TRACEPARENT, told);
            }
        }
        if self.tells_w3c && (self.b3.is_none() || self.state.is_some()) {
            headers.insert(TRACESTATE, self.state.clone().unwrap_or(HeaderValue::from_static("")));
        }
    }
}

/// Decides whether a request without a parent is sampled, and lets its `x-request-id` tell it.
fn decide(wanted: &Tracing, headers: &mut HeaderMap) -> bool {
    if !wanted.sample_by_request_id {
        return true;
    }
    // Without a readable id nothing is sampled; one that the gateway has not made may tell the decision already.
    let Some(id) = headers.get(REQUEST_ID) else { return false };
    let Some(number) = number_of(id.as_bytes(), SAMPLED_OF) else { return false };
    if id.as_bytes().get(TraceReason::POSITION).is_some_and(|digit| TraceReason::TOLD.contains(digit)) {
        return true;
    }
    let reason = if headers.contains_key(CLIENT_TRACE_ID) {
        Some(TraceReason::Client)
    } else {
        (number < wanted.random_sampling).then_some(TraceReason::Sampling)
    };
    if let Some(reason) = reason {
        mark(headers, reason);
    }
    reason.is_some()
}

/// Writes why a request is sampled into its id, where a UUID has its version.
fn mark(headers: &mut HeaderMap, reason: TraceReason) {
    let id = headers.get(REQUEST_ID).and_then(|id| <[u8; 36]>::try_from(id.as_bytes()).ok());
    if let Some(mut id) = id {
        id[TraceReason::POSITION] = reason.digit();
        if let Ok(id) = HeaderValue::from_maybe_shared(Bytes::from_owner(id)) {
            headers.insert(REQUEST_ID, id);
        }
    }
}
