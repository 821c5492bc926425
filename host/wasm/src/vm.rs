//! `PluginVm`: one instance of a module, its root context, and its streams' contexts.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, TypedFunc};

use crate::callbacks::Callbacks;
use crate::context::{ContextId, Phase};
use crate::engine::ticks;
use crate::exports::Exports;
use crate::host_state::HostState;
use crate::module::PluginModule;
use crate::settings::VmSettings;
use crate::shared::Shared;
use crate::stream::{Resumed, StreamHost, StreamState};
use crate::trap::VmError;

mod start;

pub use start::{LogTail, StartError};

/// A plugin that runs. Many streams of one VM are alive at once; callbacks run one at a time. After a [`VmError`] the
/// VM answers only [`VmError::Ended`] and is to be dropped.
pub struct PluginVm<H: StreamHost> {
    store: Store<HostState<H>>,
    exports: Exports,
    callbacks: Callbacks,
    /// What a callback may take, in ticks of the engine's clock.
    deadline: u64,
    ended: bool,
}

/// What a callback wants to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// Go on with the next filter.
    Continue,
    /// Wait until the filter resumes the stream.
    Pause,
    /// Answer with [`StreamState::local_reply`], which this callback has set. Take it out when carrying it out.
    Reply,
}

/// A stream on its way back, and what became of the callback.
type Called<H, R> = (Box<StreamState<H>>, Result<R, VmError>);

impl<H: StreamHost> PluginVm<H> {
    /// Starts an instance: runs its initialisers, then `on_context_create` of the root, `on_vm_start`, `on_configure`.
    pub fn start(
        module: &Arc<PluginModule>,
        settings: &Arc<VmSettings>,
        shared: &Arc<Shared>,
    ) -> Result<Self, StartError> {
        start::start(module, settings, shared)
    }

    /// Which callbacks the module exports; calling an absent one does nothing and says [`FilterAction::Continue`].
    pub fn callbacks(&self) -> Callbacks {
        self.callbacks
    }

    /// Opens a context for a stream and runs `on_context_create`. To be called right before the first callback.
    pub fn new_stream(&mut self, stream: Box<StreamState<H>>) -> Called<H, ContextId> {
        let id = self.store.data_mut().contexts.open();
        let Some(callback) = &self.exports.context_create else { return (stream, Ok(id)) };
        let callback = callback.clone();
        let (stream, result) = self.with_stream(id, stream, Phase::Other, |store| {
            callback.call(store, (id.number(), ContextId::ROOT.number()))
        });
        (stream, result.map(|()| id))
    }

    /// Runs `on_request_headers`. `end_of_stream` when neither body nor trailers follow.
    pub fn on_request_headers(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = self.exports.request_headers.clone() else { return (stream, Ok(FilterAction::Continue)) };
        // `:authority` is among the headers, as `host`.
        let count = stream.request.headers.len() as u32 + 3;
        self.act(id, stream, Phase::RequestHeaders, |store| callback.call(store, id.number(), count, end_of_stream))
    }

    /// Runs `on_request_body`. `size` is what the buffer holds; `end_of_stream` when no more follows, trailers neither.
    pub fn on_request_body(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        size: usize,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let callback = self.exports.request_body.clone();
        self.body(callback, id, stream, Phase::RequestBody { end_of_stream }, size, end_of_stream)
    }

    /// Runs `on_request_trailers`.
    pub fn on_request_trailers(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, FilterAction> {
        let Some(callback) = self.exports.request_trailers.clone() else { return (stream, Ok(FilterAction::Continue)) };
        let count = stream.request_trailers.as_ref().map_or(0, |map| map.len() as u32);
        self.act(id, stream, Phase::RequestTrailers, |store| callback.call(store, (id.number(), count)))
    }

    /// Runs `on_response_headers`. `end_of_stream` when neither body nor trailers follow.
    pub fn on_response_headers(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = self.exports.response_headers.clone() else { return (stream, Ok(FilterAction::Continue)) };
        let count = stream.response.as_ref().map_or(0, |response| response.headers.len() as u32 + 1);
        self.act(id, stream, Phase::ResponseHeaders, |store| callback.call(store, id.number(), count, end_of_stream))
    }

    /// Runs `on_response_body`, as for the request.
    pub fn on_response_body(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        size: usize,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let callback = self.exports.response_body.clone();
        self.body(callback, id, stream, Phase::ResponseBody { end_of_stream }, size, end_of_stream)
    }

    /// Runs `on_response_trailers`.
    pub fn on_response_trailers(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, FilterAction> {
        let Some(callback) = self.exports.response_trailers.clone() else {
            return (stream, Ok(FilterAction::Continue));
        };
        let count = stream.response_trailers.as_ref().map_or(0, |map| map.len() as u32);
        self.act(id, stream, Phase::ResponseTrailers, |store| callback.call(store, (id.number(), count)))
    }

    /// Runs `on_foreign_function` on the stream's context; `args` are in the foreign-function buffer.
    pub fn on_foreign_function(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        function: u32,
        args: &[u8],
    ) -> Called<H, ()> {
        let Some(callback) = self.exports.foreign_function.clone() else { return (stream, Ok(())) };
        let buffer = &mut self.store.data_mut().foreign_args;
        buffer.clear();
        buffer.extend_from_slice(args);
        let size = args.len() as u32;
        self.with_stream(id, stream, Phase::Foreign, |store| callback.call(store, (id.number(), function, size)))
    }

    /// Ends a stream: runs `on_log`, `on_done`, `on_delete` in this order, and closes the context. What `on_done`
    /// answers counts for the root context only, as in Envoy.
    pub fn end_stream(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, ()> {
        let called = if self.callbacks.end() { self.run_end(id, stream) } else { (stream, Ok(())) };
        self.store.data_mut().contexts.close(id);
        called
    }

    /// How often the filter wants [`PluginVm::on_tick`]; none when it does not.
    pub fn tick_period(&self) -> Option<Duration> {
        self.store.data().tick_period
    }

    /// Runs `on_tick` of the root context.
    pub fn on_tick(&mut self) -> Result<(), VmError> {
        let Some(callback) = self.exports.tick.clone() else { return Ok(()) };
        self.with_root(Phase::Other, |store| callback.call(store, ContextId::ROOT.number()))
    }

    /// Runs `on_queue_ready` for each queue that this VM has registered and that holds something. Any VM may put
    /// entries in, so this is to be asked from time to time, like [`PluginVm::on_tick`].
    pub fn on_queues(&mut self) -> Result<(), VmError> {
        let Some(callback) = self.exports.queue_ready.clone() else { return Ok(()) };
        for index in 0..self.store.data().queues.len() {
            let state = self.store.data();
            let queue = state.queues[index];
            if state.shared.queues.waiting(queue) > 0 {
                self.with_root(Phase::Other, |store| callback.call(store, (ContextId::ROOT.number(), queue)))?;
            }
        }
        Ok(())
    }

    /// Streams which a callback of another context (`on_tick`, `on_queue_ready`) has resumed or closed since the last
    /// call, by `set_effective_context` and `continue_stream` or `close_stream`.
    pub fn take_resumed(&mut self) -> Vec<(ContextId, Resumed)> {
        mem::take(&mut self.store.data_mut().resumed)
    }

    /// Size of the guest's memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Number of streams alive in this VM.
    pub fn streams(&self) -> usize {
        self.store.data().contexts.streams()
    }

    /// Log lines of this VM that were dropped because there were too many.
    pub fn dropped_log_lines(&self) -> u64 {
        self.store.data().log.dropped()
    }

    fn run_end(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, ()> {
        let Exports { log, done, delete, .. } = &self.exports;
        let (log, done, delete) = (log.clone(), done.clone(), delete.clone());
        let deadline = self.deadline;
        self.with_stream(id, stream, Phase::End, |store| {
            if let Some(log) = log {
                log.call(&mut *store, id.number())?;
            }
            if let Some(done) = done {
                store.set_epoch_deadline(deadline);
                done.call(&mut *store, id.number())?;
            }
            if let Some(delete) = delete {
                store.set_epoch_deadline(deadline);
                delete.call(&mut *store, id.number())?;
            }
            Ok(())
        })
    }

    /// A body callback of either direction.
    fn body(
        &mut self,
        callback: Option<TypedFunc<(u32, u32, u32), u32>>,
        id: ContextId,
        stream: Box<StreamState<H>>,
        phase: Phase,
        size: usize,
        end: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = callback else { return (stream, Ok(FilterAction::Continue)) };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.act(id, stream, phase, |store| callback.call(store, (id.number(), size, u32::from(end))))
    }

    /// A callback that answers with an action. Any number but 0 is a pause: Envoy's further ones are its variants.
    fn act(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        phase: Phase,
        call: impl FnOnce(&mut Store<HostState<H>>) -> wasmtime::Result<u32>,
    ) -> Called<H, FilterAction> {
        let replied = stream.local_reply.is_some();
        let (stream, result) = self.with_stream(id, stream, phase, call);
        let action = result.map(|action| match action {
            _ if !replied && stream.local_reply.is_some() => FilterAction::Reply,
            0 => FilterAction::Continue,
            _ => FilterAction::Pause,
        });
        (stream, action)
    }

    /// Moves the stream in, calls the guest, moves the stream out.
    fn with_stream<R>(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        phase: Phase,
        call: impl FnOnce(&mut Store<HostState<H>>) -> wasmtime::Result<R>,
    ) -> Called<H, R> {
        let state = self.store.data_mut();
        state.stream = Some(stream);
        state.enter(id, phase);
        let result = self.run(call);
        let stream =
            self.store.data_mut().stream.take().expect("the stream was put in above and no host function takes it");
        (stream, result)
    }

    /// Calls the guest on its root context.
    fn with_root<R>(
        &mut self,
        phase: Phase,
        call: impl FnOnce(&mut Store<HostState<H>>) -> wasmtime::Result<R>,
    ) -> Result<R, VmError> {
        self.store.data_mut().enter(ContextId::ROOT, phase);
        self.run(call)
    }

    /// Calls the guest under the deadline. A failure ends the VM.
    fn run<R>(&mut self, call: impl FnOnce(&mut Store<HostState<H>>) -> wasmtime::Result<R>) -> Result<R, VmError> {
        if self.ended {
            return Err(VmError::Ended);
        }
        self.store.set_epoch_deadline(self.deadline);
        call(&mut self.store).map_err(|error| {
            self.ended = true;
            VmError::new(&error, self.store.data().limiter.refused())
        })
    }

    /// From now on callbacks have the time that requests' callbacks have.
    fn end_start(&mut self, limit: Duration) {
        self.deadline = ticks(limit);
        self.store.data_mut().log.end_start();
    }
}
