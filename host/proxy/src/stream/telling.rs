//! What is told of a request, on its way and at its end: access log, spans, trace, Istio's standard metrics.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use portolan_telemetry::UpstreamAddress;

use super::Stream;
use crate::grpc_reply;
use crate::standard_metrics::{Ended, Sizes};

impl Stream {
    /// Keeps of the prepared head what the access log tells.
    pub(super) fn note_head(&self) {
        let Some(log) = &self.log else { return };
        self.with_state(|state| {
            self.note_headers(&state.request.headers);
            let mut log = log.borrow_mut();
            log.method = Some(state.request.method.clone());
            if let Some(trace) = &self.view.snapshot.trace {
                trace.began(state.number(), &state.request);
            }
        });
    }

    /// Keeps of a head that is refused what can be told of it: what it says of the client's address is not believed.
    pub(super) fn note_refused(&self) {
        let Some(log) = &self.log else { return };
        self.with_state(|state| {
            let mut log = log.borrow_mut();
            log.method = Some(state.request.method.clone());
            log.user_agent = state.request.headers.get("user-agent").cloned();
        });
    }

    /// Keeps of the headers as they are sent upstream what every log tells.
    pub(crate) fn note_headers(&self, headers: &HeaderMap) {
        self.note(|log| {
            let header = |name: &str| headers.get(name).cloned();
            log.x_forwarded_for = header("x-forwarded-for");
            log.user_agent = header("user-agent");
            log.request_id = header("x-request-id");
        });
    }

    /// Keeps which endpoint is tried.
    pub(crate) fn set_upstream(&self, address: UpstreamAddress, cluster: &Arc<str>) {
        self.note(|info| {
            info.upstream_host = Some(address);
            info.upstream_cluster = Some(cluster.clone());
        });
    }

    /// Keeps what the access log tells of the upstream's answer.
    pub(crate) fn note_answer(&self, took: Option<Duration>, version: http::Version) {
        self.note(|info| {
            info.upstream_service_time = took.filter(|_| self.view.snapshot.own_headers.debug);
            info.upstream_protocol = Some(version);
            info.response_duration = self.started.map(|started| started.elapsed());
        });
    }

    /// When the request came, where that is told; else now.
    pub(crate) fn start(&self) -> SystemTime {
        self.log.as_ref().map_or_else(SystemTime::now, |log| log.borrow().start)
    }

    /// Counts the request in Istio's standard metrics.
    pub(super) fn count_standard(&self) {
        let Some(plan) = &self.view.snapshot.standard else { return };
        let record = &self.record;
        let sizes = Sizes {
            duration: self.started.map(|started| started.elapsed()).unwrap_or_default(),
            received: record.received.get(),
            sent: record.sent.get(),
        };
        self.with_state(|state| {
            let endpoint = state.host.endpoint.as_ref();
            let ended = Ended {
                tcp: false,
                status: record.status.get(),
                flags: state.host.flags,
                grpc: record.grpc.get(),
                grpc_status: record.grpc_status.get(),
                workload: endpoint.map_or(0, |endpoint| endpoint.workload),
                principals: endpoint.map_or(0, |endpoint| endpoint.seen.principals.load(Relaxed)),
            };
            self.view.standard.request(plan, state, ended, &sizes);
        });
    }

    /// Remembers that the request is gRPC's, where that is told.
    pub(super) fn note_grpc(&self) {
        if self.view.snapshot.standard.is_some() {
            self.record.grpc.set(self.with_state(|state| grpc_reply::is_grpc(&state.request.headers)));
        }
    }

    /// Keeps gRPC's status, which stands in the trailers, or in the head of an answer without a body.
    pub(super) fn note_grpc_status(&self, headers: &HeaderMap) {
        if self.record.grpc.get() {
            let status = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
            self.record.grpc_status.set(status.or(self.record.grpc_status.get()));
        }
    }

    pub(super) fn write_log(self: &Rc<Self>) {
        let Some(log) = &self.log else { return };
        let mut info = log.borrow_mut();
        let number = self.with_state(|state| {
            info.flags = state.host.flags;
            info.details = std::mem::take(&mut state.host.details);
            info.downstream_remote = Some(state.host.remote());
            let name = state.host.route.and_then(|id| Some(self.view.snapshot.route(id)?.name.clone()));
            info.route_name = name.filter(|name| !name.is_empty());
            info.attempts = state.host.attempts;
            if self.view.snapshot.trace.is_some() { state.number() } else { 0 }
        });
        info.response_code = self.record.status.get();
        info.bytes_received = self.record.received.get();
        info.bytes_sent = self.record.sent.get();
        info.duration = self.started.map(|started| started.elapsed()).unwrap_or_default();
        info.downstream_local = Some(self.connection.local);
        info.downstream_direct = Some(self.connection.direct);
        info.connection = Some(self.connection.clone());
        info.scheme = Some(self.connection.state.scheme());
        info.trace_id = self.trace_id();
        self.with_state(|state| {
            if self.view.wants.heads_in_log {
                info.request_headers = Some(state.request.headers.clone());
                info.response_headers = state.response.as_ref().map(|head| head.headers.clone());
                info.response_trailers = state.response_trailers.clone();
                info.dynamic_metadata = state.dynamic_metadata();
            }
            self.view.snapshot.access_logs.iter().for_each(|log| log.record(&info, state));
        });
        if let Some(trace) = &self.view.snapshot.trace {
            trace.ended(number, &info);
        }
        self.end_spans(&info);
    }
}
