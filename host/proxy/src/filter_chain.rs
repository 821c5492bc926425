//! Runs plugins over a stream's heads and its end: requests forwards, responses backwards. Bodies and trailers are in
//! `body_chain`, waiting in `hold`.

use std::rc::Rc;

use bytes::Bytes;
use http::response;
use portolan_model::FailPolicy;
use portolan_wasm::{Callbacks, ContextId, FilterAction, PluginVm, Resumed, StreamState, VmError};
use tokio::time::Instant;

use crate::body_filter::{Inflow, Whole};
use crate::context::StreamContext;
use crate::generation::Role;
use crate::lend::{self, Lends};
use crate::local_reply::Reply;
use crate::stream::Stream;
use crate::worker_plugin::WorkerPlugin;

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
    /// What the filter has called for and the stream has not carried out yet.
    pub(crate) resumed: Resumed,
}

/// What the chain decided. Boxed: answers of the gateway's own are rare, and large.
pub(crate) enum Outcome {
    Continue,
    Reply(Box<Reply>),
}

/// How far a run over a head came without waiting.
enum Run {
    Through,
    Reply(Box<Reply>),
    /// The plugin at this place holds the head.
    Paused(usize),
}

/// The plugin could not do its part; the fail policy decides.
pub(crate) struct Unavailable;

type State = Box<StreamState<StreamContext>>;

impl Stream {
    /// The plugin at this place of the chain.
    pub(crate) fn plugin(&self, at: usize) -> &Rc<WorkerPlugin> {
        &self.view.plugins[at]
    }

    /// All plugins over the request's head. The two decision filters run again whenever a later one cleared the route.
    pub(crate) async fn on_request_headers(self: &Rc<Self>, end: bool, body: &mut dyn Inflow) -> Outcome {
        let mut at = 0;
        loop {
            match self.run_request_headers(&mut at, end) {
                Run::Through => return Outcome::Continue,
                Run::Reply(reply) => return Outcome::Reply(reply),
                Run::Paused(holder) => {
                    let deadline = self.deadline_of_hold(holder);
                    if let Some(reply) = self.hold_head(holder, Direction::Request, body, deadline).await {
                        return Outcome::Reply(reply);
                    }
                    if let Run::Reply(reply) = self.after_request_headers(holder, end) {
                        return Outcome::Reply(reply);
                    }
                }
            }
        }
    }

    /// Runs on from plugin `at` until one pauses: nearly always to the end, so the common way waits for nothing.
    fn run_request_headers(self: &Rc<Self>, at: &mut usize, end: bool) -> Run {
        while *at < self.view.plugins.len() {
            let here = *at;
            *at += 1;
            match self.request_headers_of(here, end) {
                Run::Through => {}
                stopped => return stopped,
            }
            if self.plugin(here).role == Role::User {
                match self.after_request_headers(here, end) {
                    Run::Through => {}
                    stopped => return stopped,
                }
            }
        }
        Run::Through
    }

    /// Decides again when a user's filter has cleared the route.
    fn after_request_headers(self: &Rc<Self>, at: usize, end: bool) -> Run {
        if self.plugin(at).role == Role::User && self.route_was_cleared() {
            return self.decide_again(at, end);
        }
        Run::Through
    }

    /// Runs the two decision filters alone, for whoever has no request to send.
    pub(crate) fn decide(self: &Rc<Self>) {
        // A refusal leaves the stream without a decision, which is all that is asked here.
        let _ = self.decide_again(self.view.plugins.len(), true);
    }

    fn decide_again(self: &Rc<Self>, before: usize, end: bool) -> Run {
        for again in 0..before {
            if matches!(self.plugin(again).role, Role::RouteMatch | Role::TrafficSplit) {
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

    fn request_headers_of(self: &Rc<Self>, at: usize, end: bool) -> Run {
        let callbacks = self.plugin(at).callbacks;
        if !callbacks.request_headers && !is_asked_later(callbacks) || !self.is_for(at) {
            return Run::Through;
        }
        // Without that export the call only opens the context, which the later callbacks need.
        let called =
            self.call(at, Some(Direction::Request), true, |vm, id, state| vm.on_request_headers(id, state, end));
        self.run_of(at, called)
    }

    /// All plugins that have seen the request over the response's head, last one first. `deadline` is the route's.
    pub(crate) async fn on_response_headers(
        self: &Rc<Self>,
        end: bool,
        body: &mut dyn Inflow,
        deadline: Option<Instant>,
    ) -> Outcome {
        for at in (0..self.opened()).rev() {
            match self.response_headers_of(at, end) {
                Run::Through => {}
                Run::Reply(reply) => return Outcome::Reply(reply),
                Run::Paused(holder) => {
                    if let Some(reply) = self.hold_head(holder, Direction::Response, body, deadline).await {
                        return Outcome::Reply(reply);
                    }
                }
            }
        }
        Outcome::Continue
    }

    fn response_headers_of(self: &Rc<Self>, at: usize, end: bool) -> Run {
        if !self.plugin(at).callbacks.response_headers || !self.has_seen(at) {
            return Run::Through;
        }
        if self.plugin(at).role == Role::CircuitBreaker && self.is_ignored_by_breaker() {
            return Run::Through;
        }
        let called =
            self.call(at, Some(Direction::Response), false, |vm, id, state| vm.on_response_headers(id, state, end));
        self.run_of(at, called)
    }

    fn run_of(&self, at: usize, called: Result<FilterAction, Unavailable>) -> Run {
        match self.carried_out(at, called) {
            Ok(FilterAction::Continue) => Run::Through,
            Ok(FilterAction::Reply) => self.taken_reply(at).map_or(Run::Through, Run::Reply),
            Ok(FilterAction::Pause) => Run::Paused(at),
            Err(reply) => Run::Reply(reply),
        }
    }

    fn is_ignored_by_breaker(&self) -> bool {
        self.with_state(|state| {
            let status = state.response.as_ref().map(|response| response.status.as_u16());
            status.is_some_and(|status| state.host.breaker_ignores(status))
        })
    }

    /// A local reply takes the way of a response: filters see and change it, and may hold it; an answer of theirs in its
    /// place comes too late, as in Envoy.
    pub(crate) async fn reply_through_filters(
        self: &Rc<Self>,
        parts: response::Parts,
        body: Bytes,
    ) -> (response::Parts, Whole) {
        let kept = parts.clone();
        let end = body.is_empty();
        let mut body = Whole(body);
        self.with_state(|state| state.response = Some(parts));
        for at in (0..self.opened()).rev() {
            // A filter that fails on a local reply changes nothing: the request has its answer.
            if let Run::Paused(holder) = self.response_headers_of(at, end) {
                let _ = self.hold_head(holder, Direction::Response, &mut body, None).await;
            }
            self.with_state(|state| state.local_reply = None);
        }
        (self.with_state(|state| state.response.take()).unwrap_or(kept), body)
    }

    /// Tells the circuit breaker that a try ended and another follows.
    pub(crate) fn on_try_ended(self: &Rc<Self>, status: u16, answered: bool) {
        for (at, plugin) in self.view.plugins.iter().enumerate() {
            if plugin.role == Role::CircuitBreaker && plugin.callbacks.foreign_function && self.has_seen(at) {
                let [low, high] = status.to_le_bytes();
                let args = [low, high, u8::from(!answered)];
                let function = portolan_model::filter::TRY_ENDED;
                let called =
                    self.call(at, None, false, |vm, id, state| vm.on_foreign_function(id, state, function, &args));
                // A breaker that fails here has not counted one try; the request goes on.
                let _ = called;
            }
        }
    }

    /// The body callback of one plugin on what it holds.
    pub(crate) fn call_body(
        self: &Rc<Self>,
        direction: Direction,
        at: usize,
        size: usize,
        end: bool,
    ) -> Result<FilterAction, Unavailable> {
        self.call(at, Some(direction), false, |vm, id, state| match direction {
            Direction::Request => vm.on_request_body(id, state, size, end),
            Direction::Response => vm.on_response_body(id, state, size, end),
        })
    }

    /// Runs `on_log`, `on_done` and `on_delete` where exported, and frees the contexts.
    pub(crate) fn end_contexts(self: &Rc<Self>) {
        for at in 0..self.opened() {
            if self.has_seen(at) && !self.plugin(at).is_stateless() {
                // What fails at the end cannot change the answer any more; the VM is replaced all the same.
                let _ = self.call(at, None, false, |vm, id, state| vm.end_stream(id, state));
                if let Some(live) = self.live(at) {
                    self.plugin(at).known.borrow_mut().remove(live.id);
                }
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

    pub(crate) fn has_seen(&self, at: usize) -> bool {
        self.contexts.borrow().get(at).is_some_and(Option::is_some)
    }

    fn live(&self, at: usize) -> Option<Live> {
        self.contexts.borrow().get(at).copied().flatten()
    }

    /// True while the VM that the plugin's context is in serves.
    pub(crate) fn is_live(&self, at: usize) -> bool {
        self.live(at).is_some_and(|live| live.incarnation == self.plugin(at).incarnation())
    }

    /// Notes what a filter has called for.
    pub(crate) fn add_resumed(&self, at: usize, resumed: Resumed) {
        self.closing.set(self.closing.get() || resumed.close);
        if let Some(Some(live)) = self.contexts.borrow_mut().get_mut(at) {
            live.resumed.add(resumed);
        }
    }

    /// The plugin lets go of a head from its body callback.
    pub(crate) fn resume_head(&self, at: usize, direction: Direction) {
        let request = direction == Direction::Request;
        self.add_resumed(at, Resumed { request, response: !request, close: false });
    }

    pub(crate) fn is_resumed(&self, at: usize, direction: Direction) -> bool {
        let resumed = self.live(at).map(|live| live.resumed).unwrap_or_default();
        match direction {
            Direction::Request => resumed.request,
            Direction::Response => resumed.response,
        }
    }

    /// True once for each time that the plugin has resumed this direction.
    pub(crate) fn take_resumed(&self, at: usize, direction: Direction) -> bool {
        let resumed = self.is_resumed(at, direction);
        if resumed {
            self.forget_resumed(at, direction);
        }
        resumed
    }

    fn forget_resumed(&self, at: usize, direction: Direction) {
        if let Some(Some(live)) = self.contexts.borrow_mut().get_mut(at) {
            match direction {
                Direction::Request => live.resumed.request = false,
                Direction::Response => live.resumed.response = false,
            }
        }
    }

    /// Makes the stream known to the plugin's VM, which holds it now: the VM's end must be told.
    pub(crate) fn hold_stream(self: &Rc<Self>, at: usize) {
        let plugin = self.plugin(at);
        let (Some(live), Some(vm)) = (self.live(at), plugin.with_vm(|vm| vm.token())) else { return };
        let stream: Rc<dyn Lends> = self.clone();
        lend::enter(plugin, vm, live.id, &stream, at);
    }

    /// One call into one plugin about a part of the stream that goes in this direction. `open` makes the context when there
    /// is none yet.
    pub(crate) fn call<R>(
        self: &Rc<Self>,
        at: usize,
        direction: Option<Direction>,
        open: bool,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<R, Unavailable> {
        let plugin = self.plugin(at);
        // Ends of streams are told all the same: the filter would keep their contexts for ever.
        let called = if direction.is_none() || plugin.is_available() {
            plugin.with_vm(|vm| {
                let result = self.call_in(plugin, vm, at, direction, open, call);
                (result, vm.take_asks())
            })
        } else {
            None
        };
        let Some((result, asks)) = called else {
            if let Some(metrics) = &plugin.metrics {
                metrics.unavailable_total.inc();
            }
            return Err(Unavailable);
        };
        if asks {
            plugin.attend();
        }
        match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Unavailable),
            Err(error) => {
                self.vm_failed(at, &error);
                Err(Unavailable)
            }
        }
    }

    #[cold]
    fn vm_failed(&self, at: usize, error: &VmError) {
        self.plugin(at).replace(error);
        self.filter_failed();
    }

    fn call_in<R>(
        self: &Rc<Self>,
        plugin: &Rc<WorkerPlugin>,
        vm: &mut PluginVm<StreamContext>,
        at: usize,
        direction: Option<Direction>,
        open: bool,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<Option<R>, VmError> {
        let Some(mut state) = self.take_state() else { return Ok(None) };
        state.host.caller = plugin.role;
        let known = self.live(at).filter(|live| live.incarnation == plugin.incarnation());
        let (id, mut state) = match known {
            Some(live) => {
                // Resuming is of the callback that asks for it, and of what it holds.
                if let Some(direction) = direction
                    && !live.resumed.is_nothing()
                {
                    self.forget_resumed(at, direction);
                }
                (live.id, state)
            }
            None if open || self.reopens(plugin, at, direction) => match plugin.shared_context() {
                Some(live) => {
                    self.remember(at, live);
                    (live.id, state)
                }
                None => self.open_context(plugin, vm, at, state)?,
            },
            None => {
                self.put_state(state);
                return Ok(None);
            }
        };
        state.resumed = Resumed::default();
        let (state, result) = call(vm, id, state);
        let resumed = state.resumed;
        self.put_state(state);
        if !resumed.is_nothing() {
            self.add_resumed(at, resumed);
        }
        result.map(Some)
    }

    /// True for a stream whose context was lost with a failed VM, when the strategy lets it go on in the next one.
    fn reopens(&self, plugin: &WorkerPlugin, at: usize, direction: Option<Direction>) -> bool {
        plugin.fail_policy == FailPolicy::FailReload && direction.is_some() && self.live(at).is_some()
    }

    /// A context for this stream, which all streams of a stateless filter will use.
    fn open_context(
        self: &Rc<Self>,
        plugin: &Rc<WorkerPlugin>,
        vm: &mut PluginVm<StreamContext>,
        at: usize,
        state: State,
    ) -> Result<(ContextId, State), VmError> {
        let (state, opened) = vm.new_stream(state);
        let id = match opened {
            Ok(id) => id,
            Err(error) => {
                self.put_state(state);
                return Err(error);
            }
        };
        let live = Live { id, incarnation: plugin.incarnation(), resumed: Resumed::default() };
        plugin.share_context(live);
        self.remember(at, live);
        if plugin.reaches_streams() {
            let stream: Rc<dyn Lends> = self.clone();
            lend::enter(plugin, vm.token(), id, &stream, at);
        }
        Ok((id, state))
    }

    fn remember(&self, at: usize, live: Live) {
        if let Some(context) = self.contexts.borrow_mut().get_mut(at) {
            *context = Some(live);
        }
    }

    pub(crate) fn carried_out(
        &self,
        at: usize,
        called: Result<FilterAction, Unavailable>,
    ) -> Result<FilterAction, Box<Reply>> {
        match called {
            Ok(_) if self.closing.get() => Err(Box::new(Reply::reset())),
            Ok(action) => Ok(action),
            Err(Unavailable) => {
                self.fail(at, || Reply::filter_failed(&self.plugin(at).named())).map(|()| FilterAction::Continue)
            }
        }
    }

    /// The plugin has failed the stream: it goes on without it, or gets this answer.
    pub(crate) fn fail(&self, at: usize, reply: impl FnOnce() -> Reply) -> Result<(), Box<Reply>> {
        match self.plugin(at).fail_policy {
            FailPolicy::FailOpen => Ok(()),
            FailPolicy::FailClose | FailPolicy::FailReload => Err(Box::new(reply())),
        }
    }

    /// What a filter has called for from a callback of another context: an answer, or the stream's end.
    pub(crate) fn take_interruption(&self) -> Option<Reply> {
        if self.closing.get() {
            return Some(Reply::reset());
        }
        self.with_state(|state| state.local_reply.take()).map(Reply::from)
    }

    pub(crate) fn taken_reply(&self, at: usize) -> Option<Box<Reply>> {
        let reply = self.with_state(|state| state.local_reply.take())?;
        Some(Box::new(Reply::of_plugin(self, self.plugin(at), reply)))
    }
}

/// True when a module has a part in a stream after the request's head.
pub(crate) fn is_asked_later(callbacks: Callbacks) -> bool {
    let Callbacks { request_body, request_trailers, response_headers, response_body, response_trailers, .. } =
        callbacks;
    let at_the_end = callbacks.log || callbacks.done || callbacks.delete;
    request_body || request_trailers || response_headers || response_body || response_trailers || at_the_end
}
