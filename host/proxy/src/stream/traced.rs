//! The stream's part in traces: its spans begin with the prepared head, go upstream with each try, and are written at the
//! end.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Version};
use portolan_telemetry::trace::{SpanId, TraceId};
use portolan_telemetry::{StreamInfo, UpstreamAddress};
use rand::Rng;

use super::Stream;
use crate::local_reply::Failure;
use crate::spans::{self, SpanPlan, Spans, Told};

impl Stream {
    /// Decides whether the request is sampled.
    pub(crate) fn begin_spans(&self, plan: &SpanPlan, headers: &mut HeaderMap) {
        let draw = || self.worker.with_rng(|rng| (rng.random(), rng.random()));
        self.spans.replace(Spans::begin(plan, headers, draw));
    }

    fn draw_span(&self) -> SpanId {
        self.worker.with_rng(|rng| rng.random())
    }

    fn with_spans(&self, change: impl FnOnce(&mut Spans)) {
        if let Some(spans) = self.spans.borrow_mut().as_mut() {
            change(spans);
        }
    }

    /// A try begins.
    pub(crate) fn begin_try_span(&self, number: u32, cluster: &Arc<str>, address: UpstreamAddress) {
        self.with_spans(|spans| {
            if spans.is_sampled() {
                spans.begin_try(number, self.draw_span(), cluster, address);
            }
        });
    }

    /// Tells the upstream of the trace, and what the route does.
    pub(crate) fn tell_trace(&self, headers: &mut HeaderMap) {
        let Some(plan) = &self.view.snapshot.tracing else { return };
        self.with_spans(|spans| spans.inject(plan, headers, self.draw_span()));
        if let Some(operation) = self.operation() {
            spans::decorate(headers, &operation);
        }
    }

    /// Tells a mirror of the trace, and what the route does.
    pub(crate) fn tell_mirror(&self, headers: &mut HeaderMap) {
        let Some(plan) = &self.view.snapshot.tracing else { return };
        self.with_spans(|spans| spans.inject_copy(plan, headers, self.draw_span()));
        if let Some(operation) = self.operation() {
            spans::decorate(headers, &operation);
        }
    }

    /// The upstream's own word for what it has done, as Envoy takes it: the span's name, and nobody else's.
    pub(crate) fn take_operation(&self, headers: &mut HeaderMap) {
        if self.view.snapshot.tracing.is_some()
            && let Some(operation) = spans::take_operation(headers)
        {
            self.with_spans(|spans| spans.rename(operation));
        }
    }

    /// The try has an answer.
    pub(crate) fn answer_try_span(&self, status: u16, version: Version) {
        self.with_spans(|spans| spans.answered(status, version));
    }

    /// The try has failed.
    pub(crate) fn fail_try_span(&self, failure: Failure) {
        self.with_spans(|spans| spans.failed(failure));
    }

    /// The try was none: nobody has seen the request.
    pub(crate) fn forget_try_span(&self) {
        self.with_spans(Spans::forget_try);
    }

    /// For the access log.
    pub(super) fn trace_id(&self) -> Option<TraceId> {
        self.spans.borrow().as_ref().map(|spans| spans.trace())
    }

    /// What the route does, in Istio's words; made once for all tries.
    fn operation(&self) -> Option<Arc<str>> {
        let known = self.spans.borrow().as_ref().and_then(|spans| spans.operation.clone());
        if known.is_some() {
            return known;
        }
        let route = self.with_state(|state| state.host.route)?;
        let route = self.view.snapshot.model.routes.get(route as usize)?;
        let made: Arc<str> = spans::operation(route, self.slot.server_port())?.into();
        self.with_spans(|spans| spans.operation = Some(made.clone()));
        Some(made)
    }

    /// Hands the spans of a request that has ended over.
    pub(super) fn end_spans(self: &Rc<Self>, info: &StreamInfo) {
        let Some(plan) = &self.view.snapshot.tracing else { return };
        if !self.spans.borrow().as_ref().is_some_and(|spans| spans.is_sampled()) {
            return;
        }
        let operation = self.operation();
        let Some(spans) = self.spans.take() else { return };
        let written = self.with_state(|state| {
            let grpc_status = self.record.grpc_status.get();
            let told = Told {
                operation: operation.as_deref(),
                scheme: state.scheme,
                grpc_status,
                headers: &state.request.headers,
            };
            Some(spans.end(plan, info, &told))
        });
        self.worker.exporter.push(&self.worker, plan, written.into_iter().flatten());
    }
}
