//! Runs plugins over a stream's head, body, trailers and end: requests forwards, responses backwards.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, response};
use portolan_model::FailPolicy;
use portolan_wasm::{Callbacks, ContextId, FilterAction, PluginVm, Resumed, StreamState, VmError};

use crate::context::StreamContext;
use crate::generation::Role;
use crate::local_reply::Reply;
use crate::stream::Stream;
use crate::view::WorkerPlugin;

/// How long a filter may hold a request's or response's head.
const PAUSE_LIMIT: Duration = Duration::from_secs(15);

/// Which way a part of a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// A plugin's context for one stream, in one of its VMs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) id: ContextId,
    pub(crate) incarnation: u32,
}

/// What the chain decided. Boxed: answers of the gateway's own are rare, and large.
pub(crate) enum Outcome {
    Continue,
    Reply(Box<Reply>),
}

/// How far a run over the request's head came without waiting.
enum Run {
    Through,
    Reply(Box<Reply>),
    Paused,
}

/// The plugin could not do its part; the fail policy decides.
struct Unavailable;

type State = Box<StreamState<StreamContext>>;

impl Stream {
    /// All plugins over the request's head. The two decision filters run again whenever a later one cleared the route.
    pub(crate) async fn on_request_headers(self: &Rc<Self>, end: bool) -> Outcome {
        let mut at = 0;
        loop {
            match self.run_request_headers(&mut at, end) {
                Run::Through => return Outcome::Continue,
                Run::Reply(reply) => return Outcome::Reply(reply),
                Run::Paused => {
                    if let Some(reply) = self.paused(Direction::Request).await {
                        return Outcome::Reply(reply);
                    }
                }
            }
        }
    }

    /// Runs on from plugin `at` until one pauses: nearly always to the end, so the common way waits for nothing.
    fn run_request_headers(&self, at: &mut usize, end: bool) -> Run {
        while let Some(plugin) = self.view.plugins.get(*at) {
            let here = *at;
            *at += 1;
            match self.request_headers_of(here, end) {
                Run::Through => {}
                stopped => return stopped,
            }
            if plugin.role == Role::User && self.route_was_cleared() {
                match self.decide_again(here, end) {
                    Run::Through => {}
                    stopped => return stopped,
                }
            }
        }
        Run::Through
    }

    fn decide_again(&self, before: usize, end: bool) -> Run {
        for again in 0..before {
            if matches!(self.view.plugins[again].role, Role::RouteMatch | Role::TrafficSplit) {
                match self.request_headers_of(again, end) {
                    Run::Through => {}
                    stopped => return stopped,
                }
            }
        }
        Run::Through
    }

    fn route_was_cleared(&self) -> bool {
        self.with_state(|state| {
            let cleared = std::mem::take(&mut state.route_cleared);
            if cleared {
                state.host.clear_decisions();
            }
            cleared
        })
    }

    fn request_headers_of(&self, at: usize, end: bool) -> Run {
        let callbacks = self.view.plugins[at].callbacks;
        if !callbacks.request_headers && !is_asked_later(callbacks) {
            return Run::Through;
        }
        // Without that export the call only opens the context, which the later callbacks need.
        let called = self.call(at, true, |vm, id, state| vm.on_request_headers(id, state, end));
        match self.carried_out(at, called) {
            Ok(FilterAction::Continue) => Run::Through,
            Ok(FilterAction::Reply) => self.taken_reply(at).map_or(Run::Through, Run::Reply),
            Ok(FilterAction::Pause) => Run::Paused,
            Err(reply) => Run::Reply(reply),
        }
    }

    /// All plugins that have seen the request over the response's head, last one first.
    pub(crate) async fn on_response_headers(&self, end: bool) -> Outcome {
        for at in (0..self.opened()).rev() {
            match self.response_headers_of(at, end) {
                Ok(FilterAction::Continue) => {}
                Ok(FilterAction::Reply) => match self.taken_reply(at) {
                    Some(reply) => return Outcome::Reply(reply),
                    None => continue,
                },
                Ok(FilterAction::Pause) => {
                    if let Some(reply) = self.paused(Direction::Response).await {
                        return Outcome::Reply(reply);
                    }
                }
                Err(reply) => return Outcome::Reply(reply),
            }
        }
        Outcome::Continue
    }

    fn response_headers_of(&self, at: usize, end: bool) -> Result<FilterAction, Box<Reply>> {
        if !self.view.plugins[at].callbacks.response_headers || !self.has_seen(at) {
            return Ok(FilterAction::Continue);
        }
        if self.view.plugins[at].role == Role::CircuitBreaker && self.is_ignored_by_breaker() {
            return Ok(FilterAction::Continue);
        }
        let called = self.call(at, false, |vm, id, state| vm.on_response_headers(id, state, end));
        self.carried_out(at, called)
    }

    fn is_ignored_by_breaker(&self) -> bool {
        self.with_state(|state| {
            let status = state.response.as_ref().map(|response| response.status.as_u16());
            status.is_some_and(|status| state.host.breaker_ignores(status))
        })
    }

    /// A local reply takes the way of a response: filters see and change it, but cannot hold or replace it again.
    pub(crate) fn reply_through_filters(&self, parts: response::Parts, body: Bytes) -> (response::Parts, Bytes) {
        if !self.has_contexts() {
            return (parts, body);
        }
        let kept = parts.clone();
        self.with_state(|state| state.response = Some(parts));
        for at in (0..self.opened()).rev() {
            // A filter that fails on a local reply changes nothing: the request has its answer.
            let _ = self.response_headers_of(at, body.is_empty());
        }
        let parts = self.with_state(|state| {
            state.local_reply = None;
            state.response.take()
        });
        (parts.unwrap_or(kept), body)
    }

    /// Tells the circuit breaker that a try ended and another follows.
    pub(crate) fn on_try_ended(&self, status: u16) {
        for (at, plugin) in self.view.plugins.iter().enumerate() {
            if plugin.role == Role::CircuitBreaker && plugin.callbacks.foreign_function && self.has_seen(at) {
                let args = status.to_le_bytes();
                let function = portolan_model::filter::TRY_ENDED;
                let called = self.call(at, false, |vm, id, state| vm.on_foreign_function(id, state, function, &args));
                // A breaker that fails here has not counted one try; the request goes on.
                let _ = called;
            }
        }
    }

    /// All plugins over what waits of a body.
    pub(crate) fn on_body(&self, direction: Direction, end: bool) -> Result<FilterAction, Box<Reply>> {
        let count = self.view.plugins.len();
        for step in 0..count {
            let at = if direction == Direction::Request { step } else { count - 1 - step };
            let callbacks = &self.view.plugins[at].callbacks;
            let wanted = if direction == Direction::Request { callbacks.request_body } else { callbacks.response_body };
            if !wanted || !self.has_seen(at) {
                continue;
            }
            let called = self.call(at, false, |vm, id, state| match direction {
                Direction::Request => {
                    let size = state.request_body.len();
                    vm.on_request_body(id, state, size, end)
                }
                Direction::Response => {
                    let size = state.response_body.len();
                    vm.on_response_body(id, state, size, end)
                }
            });
            match self.carried_out(at, called)? {
                FilterAction::Continue => {}
                other => return Ok(other),
            }
        }
        Ok(FilterAction::Continue)
    }

    /// All plugins over trailers.
    pub(crate) fn on_trailers(&self, direction: Direction, trailers: HeaderMap) -> Result<HeaderMap, Box<Reply>> {
        self.with_state(|state| match direction {
            Direction::Request => state.request_trailers = Some(trailers),
            Direction::Response => state.response_trailers = Some(trailers),
        });
        let count = self.view.plugins.len();
        for step in 0..count {
            let at = if direction == Direction::Request { step } else { count - 1 - step };
            let callbacks = &self.view.plugins[at].callbacks;
            let wanted = match direction {
                Direction::Request => callbacks.request_trailers,
                Direction::Response => callbacks.response_trailers,
            };
            if wanted && self.has_seen(at) {
                let called = self.call(at, false, |vm, id, state| match direction {
                    Direction::Request => vm.on_request_trailers(id, state),
                    Direction::Response => vm.on_response_trailers(id, state),
                });
                self.carried_out(at, called)?;
            }
        }
        Ok(self
            .with_state(|state| match direction {
                Direction::Request => state.request_trailers.take(),
                Direction::Response => state.response_trailers.take(),
            })
            .unwrap_or_default())
    }

    /// Adds a chunk to what waits of a body; tells how much waits.
    pub(crate) fn push_body(&self, direction: Direction, data: Bytes) -> usize {
        self.with_state(|state| {
            let buffer = match direction {
                Direction::Request => &mut state.request_body,
                Direction::Response => &mut state.response_body,
            };
            buffer.push(data);
            buffer.len()
        })
    }

    /// Takes what waits of a body.
    pub(crate) fn take_body(&self, direction: Direction) -> Bytes {
        self.with_state(|state| match direction {
            Direction::Request => state.request_body.take(),
            Direction::Response => state.response_body.take(),
        })
    }

    /// Runs `on_log`, `on_done` and `on_delete` where exported, and frees the contexts.
    pub(crate) fn end_contexts(&self) {
        for at in 0..self.opened() {
            if self.has_seen(at) && !self.view.plugins[at].is_stateless() {
                // What fails at the end cannot change the answer any more; the VM is replaced all the same.
                let _ = self.call(at, false, |vm, id, state| vm.end_stream(id, state));
            }
        }
    }

    /// Plugins that may have a context. A number, so that no borrow is held over a call.
    fn opened(&self) -> usize {
        self.contexts.borrow().len()
    }

    /// True when some plugin has seen the request.
    pub(crate) fn has_contexts(&self) -> bool {
        self.contexts.borrow().iter().any(Option::is_some)
    }

    fn has_seen(&self, at: usize) -> bool {
        self.contexts.borrow().get(at).is_some_and(Option::is_some)
    }

    /// One call into one plugin. `open` makes the context when there is none yet.
    fn call<R>(
        &self,
        at: usize,
        open: bool,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<R, Unavailable> {
        let plugin = &self.view.plugins[at];
        let Some(result) = plugin.with_vm(|vm| self.call_in(plugin, vm, at, open, call)) else {
            if let Some(metrics) = &plugin.metrics {
                metrics.unavailable_total.inc();
            }
            return Err(Unavailable);
        };
        match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Unavailable),
            Err(error) => {
                plugin.replace(&error);
                Err(Unavailable)
            }
        }
    }

    fn call_in<R>(
        &self,
        plugin: &WorkerPlugin,
        vm: &mut PluginVm<StreamContext>,
        at: usize,
        open: bool,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<Option<R>, VmError> {
        let Some(mut state) = self.take_state() else { return Ok(None) };
        // Resuming is of the callback that asks for it: what an earlier filter resumed is no leave for this one.
        state.resumed = Resumed::default();
        let known = self.contexts.borrow().get(at).copied().flatten();
        let known = known.filter(|live| live.incarnation == plugin.incarnation());
        let (id, state) = match known {
            Some(live) => (live.id, state),
            None if open && plugin.is_stateless() && plugin.shared_context().is_some() => {
                let Some(live) = plugin.shared_context() else { return Ok(None) };
                self.remember(at, live);
                (live.id, state)
            }
            None if open => {
                let (state, opened) = vm.new_stream(state);
                let id = match opened {
                    Ok(id) => id,
                    Err(error) => {
                        self.put_state(state);
                        return Err(error);
                    }
                };
                let live = Live { id, incarnation: plugin.incarnation() };
                plugin.share_context(live);
                self.remember(at, live);
                (id, state)
            }
            None => {
                self.put_state(state);
                return Ok(None);
            }
        };
        if let Some(metrics) = &plugin.metrics {
            metrics.calls_total.inc();
        }
        let (state, result) = call(vm, id, state);
        self.put_state(state);
        result.map(Some)
    }

    fn remember(&self, at: usize, live: Live) {
        if let Some(context) = self.contexts.borrow_mut().get_mut(at) {
            *context = Some(live);
        }
    }

    fn carried_out(&self, at: usize, called: Result<FilterAction, Unavailable>) -> Result<FilterAction, Box<Reply>> {
        match (called, self.view.plugins[at].fail_policy) {
            (Ok(action), _) => Ok(action),
            (Err(Unavailable), FailPolicy::FailOpen) => Ok(FilterAction::Continue),
            (Err(Unavailable), FailPolicy::FailClose | FailPolicy::FailReload) => {
                Err(Box::new(Reply::filter_failed(&self.view.plugins[at].name)))
            }
        }
    }

    fn taken_reply(&self, at: usize) -> Option<Box<Reply>> {
        let reply = self.with_state(|state| state.local_reply.take())?;
        let is_breaker = self.view.plugins[at].role == Role::CircuitBreaker;
        Some(Box::new(if is_breaker { Reply::overflow(self, reply) } else { reply.into() }))
    }

    /// Nothing that runs between two callbacks of a stream can resume it yet, so a pause ends with its limit.
    async fn paused(&self, direction: Direction) -> Option<Box<Reply>> {
        let resumed = self.with_state(|state| match direction {
            Direction::Request => std::mem::take(&mut state.resumed.request),
            Direction::Response => std::mem::take(&mut state.resumed.response),
        });
        if resumed {
            return None;
        }
        tokio::time::sleep(PAUSE_LIMIT).await;
        Some(Box::new(Reply::paused_too_long()))
    }
}

/// True when a module has a part in a stream after the request's head.
pub(crate) fn is_asked_later(callbacks: Callbacks) -> bool {
    let Callbacks { request_body, request_trailers, response_headers, response_body, response_trailers, .. } =
        callbacks;
    let at_the_end = callbacks.log || callbacks.done || callbacks.delete;
    request_body || request_trailers || response_headers || response_body || response_trailers || at_the_end
}
