//! [`Round`]: one request on its way through the filter, with its response.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::HeaderMap;
use portolan_wasm::{Callout, ContextId, FilterAction, LocalReply, PluginVm, StreamState, VmError};

use super::{Bench, BenchRequest, Prepared, Samples};
use crate::context::StreamContext;
use crate::lend::{self, Lends};

/// Answers to callouts may ask for further callouts, this often.
const MAX_ROUNDS: usize = 16;

/// gRPC's UNAVAILABLE.
const UNAVAILABLE: u32 = 14;

/// The steps that are taken whether the filter exports them or not.
const CREATE: &str = "on_context_create";
/// `on_log`, `on_done` and `on_delete`, which are one step.
const END: &str = "on_done";

type State = Box<StreamState<StreamContext>>;

/// The state between two callbacks, where answers to callouts find it.
struct Parked(Cell<Option<State>>);

impl Lends for Parked {
    fn lend(&self, _: usize) -> Option<State> {
        self.0.take()
    }

    fn take_back(&self, _: usize, state: State) {
        self.0.set(Some(state));
    }

    fn wake(&self) {}
}

/// One request.
pub(super) struct Round<'a> {
    bench: &'a Bench,
    vm: &'a mut PluginVm<StreamContext>,
    samples: &'a mut Samples,
    request: &'a BenchRequest<'a>,
    parked: Rc<Parked>,
}

/// Which way a part of the stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request,
    Response,
}

/// What became of one part.
enum Passed {
    /// It goes on.
    On,
    /// The filter has answered.
    Answered(LocalReply),
    /// It is held for good.
    Held,
}

impl<'a> Round<'a> {
    /// A request at its beginning.
    pub(super) fn new(
        bench: &'a Bench,
        vm: &'a mut PluginVm<StreamContext>,
        samples: &'a mut Samples,
        request: &'a BenchRequest<'a>,
        prepared: &Prepared,
    ) -> Self {
        let state = Box::new(StreamState::new(prepared.request.clone(), "http", bench.context(prepared)));
        Self { bench, vm, samples, request, parked: Rc::new(Parked(Cell::new(Some(state)))) }
    }

    /// The whole way.
    pub(super) fn run(&mut self) -> Result<(), VmError> {
        let id = self.timed(CREATE, |vm, state| vm.new_stream(state))?;
        if self.bench.plugin.reaches_streams() {
            let stream: Rc<dyn Lends> = self.parked.clone();
            lend::enter(&self.bench.plugin, self.vm.token(), id, &stream, self.bench.at);
        }
        match self.request(id)? {
            Passed::On => {
                self.respond();
                let body = self.request.response_body.clone();
                let trailers = self.request.response_trailers.clone();
                self.response(id, body, trailers)?;
            }
            Passed::Answered(reply) => {
                self.samples.answered += 1;
                let body = reply.body.clone();
                self.reply(reply);
                self.response(id, body, None)?;
            }
            Passed::Held => self.samples.held += 1,
        }
        self.timed(END, |vm, state| vm.end_stream(id, state))?;
        self.bench.plugin.known.borrow_mut().remove(id);
        Ok(())
    }

    fn request(&mut self, id: ContextId) -> Result<Passed, VmError> {
        let callbacks = self.bench.plugin.callbacks;
        let (body, trailers) = (self.request.request_body.clone(), self.request.request_trailers.clone());
        let end = body.is_empty() && trailers.is_none();
        if callbacks.request_headers {
            let action = self.timed("on_request_headers", |vm, state| vm.on_request_headers(id, state, end))?;
            let passed = self.passed(action, Way::Request)?;
            let goes_on = matches!(passed, Passed::On)
                || matches!(passed, Passed::Held) && !end && self.bench.plugin.runs_body_while_headers_wait();
            if !goes_on {
                return Ok(passed);
            }
        }
        if callbacks.request_body && !body.is_empty() {
            let (size, end) = (body.len(), trailers.is_none());
            self.with_state(|state| state.request_body.push(body));
            let action = self.timed("on_request_body", |vm, state| vm.on_request_body(id, state, size, end))?;
            let passed = self.passed(action, Way::Request)?;
            if !matches!(passed, Passed::On) && end || matches!(passed, Passed::Answered(_)) {
                return Ok(passed);
            }
        }
        if callbacks.request_trailers && trailers.is_some() {
            self.with_state(|state| state.request_trailers = trailers);
            let action = self.timed("on_request_trailers", |vm, state| vm.on_request_trailers(id, state))?;
            return self.passed(action, Way::Request);
        }
        Ok(Passed::On)
    }

    /// What the filter does with the response cannot change its way any more: an answer in place of an answer ends here.
    fn response(&mut self, id: ContextId, body: bytes::Bytes, trailers: Option<HeaderMap>) -> Result<(), VmError> {
        let callbacks = self.bench.plugin.callbacks;
        let end = body.is_empty() && trailers.is_none();
        if callbacks.response_headers {
            let action = self.timed("on_response_headers", |vm, state| vm.on_response_headers(id, state, end))?;
            if !matches!(self.passed(action, Way::Response)?, Passed::On)
                && !self.bench.plugin.runs_body_while_headers_wait()
            {
                return Ok(());
            }
        }
        if callbacks.response_body && !body.is_empty() {
            let (size, end) = (body.len(), trailers.is_none());
            self.with_state(|state| state.response_body.push(body));
            let action = self.timed("on_response_body", |vm, state| vm.on_response_body(id, state, size, end))?;
            self.passed(action, Way::Response)?;
        }
        if callbacks.response_trailers && trailers.is_some() {
            self.with_state(|state| state.response_trailers = trailers);
            let action = self.timed("on_response_trailers", |vm, state| vm.on_response_trailers(id, state))?;
            self.passed(action, Way::Response)?;
        }
        Ok(())
    }

    /// The upstream's answer.
    fn respond(&mut self) {
        let response = self.request.response.clone();
        self.with_state(|state| state.response = Some(response));
    }

    /// The filter's own.
    fn reply(&mut self, reply: LocalReply) {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        (parts.status, parts.headers) = (reply.status, reply.headers);
        self.with_state(|state| state.response = Some(parts));
    }

    /// Answers what the filter has asked of others, and says where that leaves the part that it has seen.
    fn passed(&mut self, action: FilterAction, way: Way) -> Result<Passed, VmError> {
        self.answer_callouts()?;
        let (reply, resumed) = self.with_state(|state| {
            let resumed = std::mem::take(&mut state.resumed);
            (state.local_reply.take(), if way == Way::Request { resumed.request } else { resumed.response })
        });
        Ok(match (reply, action) {
            (Some(reply), _) => Passed::Answered(reply),
            (None, FilterAction::Pause) if !resumed => Passed::Held,
            (None, _) => Passed::On,
        })
    }

    fn answer_callouts(&mut self) -> Result<(), VmError> {
        for _ in 0..MAX_ROUNDS {
            if !self.vm.take_asks() {
                return Ok(());
            }
            for callout in self.vm.take_callouts() {
                self.answer_callout(callout)?;
            }
        }
        Ok(())
    }

    fn answer_callout(&mut self, callout: Callout) -> Result<(), VmError> {
        match callout {
            Callout::Http(call) => {
                let response = (self.request.callout)(&call);
                self.timed_alone("on_http_call_response", |vm| vm.on_http_call_response(call.id, response))
            }
            Callout::Grpc(call) => {
                self.timed_alone("on_grpc_close", |vm| vm.on_grpc_close(call.id, UNAVAILABLE, bytes::Bytes::new()))
            }
            Callout::Redis(call) => {
                self.timed_alone("on_redis_call_response", |vm| vm.on_redis_response(call.id, None))
            }
            Callout::GrpcSend(_) | Callout::GrpcClose(_) | Callout::GrpcCancel(_) => Ok(()),
        }
    }

    /// It is always there: callbacks bring it back.
    fn with_state<R: Default>(&mut self, use_it: impl FnOnce(&mut StreamState<StreamContext>) -> R) -> R {
        let Some(mut state) = self.parked.0.take() else { return R::default() };
        let result = use_it(&mut state);
        self.parked.0.set(Some(state));
        result
    }

    /// Calls the filter about the stream. A callback that it does not export is none.
    fn timed<R>(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut PluginVm<StreamContext>, State) -> (State, Result<R, VmError>),
    ) -> Result<R, VmError> {
        let state = self.parked.0.take().ok_or(VmError::Ended)?;
        let begun = Instant::now();
        let (state, result) = call(self.vm, state);
        let took = begun.elapsed();
        self.parked.0.set(Some(state));
        let callbacks = self.bench.plugin.callbacks;
        let is_there = match callback {
            CREATE => callbacks.context_create,
            END => callbacks.end(),
            _ => true,
        };
        if is_there {
            self.samples.note(callback, took);
        }
        result
    }

    /// Calls the filter on its root context.
    fn timed_alone<R>(
        &mut self,
        callback: &'static str,
        call: impl FnOnce(&mut PluginVm<StreamContext>) -> Result<R, VmError>,
    ) -> Result<R, VmError> {
        let begun = Instant::now();
        let result = call(self.vm);
        self.samples.note(callback, begun.elapsed());
        result
    }
}
