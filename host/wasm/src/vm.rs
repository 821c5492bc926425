//! `PluginVm`: one instance of a module, its root context, and its streams' contexts.

use std::mem;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::callbacks::Callbacks;
use crate::context::{ContextId, Phase, VmToken};
use crate::exports::Exports;
use crate::module::PluginModule;
use crate::settings::VmSettings;
use crate::shared::Shared;
use crate::stream::{StreamHost, StreamState};
use crate::trap::VmError;

mod callouts;
mod cost;
mod l4;
mod retire;
mod running;
mod start;

pub use l4::Peer;
use running::{Called, Running};
pub use start::{LogTail, StartError};

/// Most calls of `on_queue_ready` in a row, so that a flooded queue does not keep the worker from its streams.
const QUEUE_CALLS: u32 = 64;

/// A plugin that runs. Many streams of one VM are alive at once; callbacks run one at a time. After a [`VmError`] the
/// VM answers only [`VmError::Ended`] and is to be dropped.
pub struct PluginVm<H: StreamHost> {
    exports: Exports,
    callbacks: Callbacks,
    running: Running<H>,
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
        let id = self.running.store.data_mut().contexts.open();
        let Some(callback) = &self.exports.context_create else { return (stream, Ok(id)) };
        let (stream, result) = self.running.with_stream(id, stream, Phase::Other, |store| {
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
        let Some(callback) = &self.exports.request_headers else { return (stream, Ok(FilterAction::Continue)) };
        // `:authority` is among the headers, as `host`.
        let count = stream.request.headers.len() as u32 + 3;
        self.running
            .act(id, stream, Phase::RequestHeaders, |store| callback.call(store, id.number(), count, end_of_stream))
    }

    /// Runs `on_request_body`. `size` is what the buffer holds; `end_of_stream` when no more follows, trailers neither.
    pub fn on_request_body(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        size: usize,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.request_body else { return (stream, Ok(FilterAction::Continue)) };
        let (size, end) = (guest_size(size), u32::from(end_of_stream));
        self.running.act(id, stream, Phase::RequestBody { end_of_stream }, |store| {
            callback.call(store, (id.number(), size, end))
        })
    }

    /// Runs `on_request_trailers`.
    pub fn on_request_trailers(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.request_trailers else { return (stream, Ok(FilterAction::Continue)) };
        let count = stream.request_trailers.as_ref().map_or(0, |map| map.len() as u32);
        self.running.act(id, stream, Phase::RequestTrailers, |store| callback.call(store, (id.number(), count)))
    }

    /// Runs `on_response_headers`. `end_of_stream` when neither body nor trailers follow.
    pub fn on_response_headers(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.response_headers else { return (stream, Ok(FilterAction::Continue)) };
        let count = stream.response.as_ref().map_or(0, |response| response.headers.len() as u32 + 1);
        self.running
            .act(id, stream, Phase::ResponseHeaders, |store| callback.call(store, id.number(), count, end_of_stream))
    }

    /// Runs `on_response_body`, as for the request.
    pub fn on_response_body(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        size: usize,
        end_of_stream: bool,
    ) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.response_body else { return (stream, Ok(FilterAction::Continue)) };
        let (size, end) = (guest_size(size), u32::from(end_of_stream));
        self.running.act(id, stream, Phase::ResponseBody { end_of_stream }, |store| {
            callback.call(store, (id.number(), size, end))
        })
    }

    /// Runs `on_response_trailers`.
    pub fn on_response_trailers(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, FilterAction> {
        let Some(callback) = &self.exports.response_trailers else {
            return (stream, Ok(FilterAction::Continue));
        };
        let count = stream.response_trailers.as_ref().map_or(0, |map| map.len() as u32);
        self.running.act(id, stream, Phase::ResponseTrailers, |store| callback.call(store, (id.number(), count)))
    }

    /// Runs `on_foreign_function` on the stream's context; `args` are in the foreign-function buffer.
    pub fn on_foreign_function(
        &mut self,
        id: ContextId,
        stream: Box<StreamState<H>>,
        function: u32,
        args: &[u8],
    ) -> Called<H, ()> {
        let Some(callback) = &self.exports.foreign_function else { return (stream, Ok(())) };
        let buffer = &mut self.running.store.data_mut().foreign_args;
        buffer.clear();
        buffer.extend_from_slice(args);
        let size = args.len() as u32;
        self.running
            .with_stream(id, stream, Phase::Foreign, |store| callback.call(store, (id.number(), function, size)))
    }

    /// Ends a stream: runs `on_log`, `on_done`, `on_delete` in this order, and closes the context. What `on_done`
    /// answers counts for the root context only, as in Envoy.
    pub fn end_stream(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, ()> {
        let called = if self.callbacks.end() { self.run_end(id, stream) } else { (stream, Ok(())) };
        self.running.store.data_mut().contexts.close(id);
        called
    }

    /// How often the filter wants [`PluginVm::on_tick`]; none when it does not.
    pub fn tick_period(&self) -> Option<Duration> {
        self.running.store.data().tick_period
    }

    /// Runs `on_tick` of the root context.
    pub fn on_tick(&mut self) -> Result<(), VmError> {
        let Some(callback) = &self.exports.tick else { return Ok(()) };
        self.running.with_root(Phase::Other, |store| callback.call(store, ContextId::ROOT.number()))
    }

    /// Runs `on_queue_ready` for entries that came into queues of which this VM is the one that hears, once for each
    /// entry as in Envoy; some at a time, and wakes the worker again for the rest. See [`PluginVm::set_queue_waker`].
    pub fn on_queues(&mut self) -> Result<(), VmError> {
        let Some(callback) = &self.exports.queue_ready else { return Ok(()) };
        let mut left = QUEUE_CALLS;
        for index in 0..self.running.store.data().queues.len() {
            let queue = self.running.store.data().queues[index];
            while self.running.store.data().hears(queue) {
                left -= 1;
                self.running
                    .with_root(Phase::Other, |store| callback.call(store, (ContextId::ROOT.number(), queue)))?;
                if left == 0 {
                    self.wake_for_queues();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn wake_for_queues(&self) {
        if let Some(waker) = &self.running.store.data().queue_waker {
            waker.wake_by_ref();
        }
    }

    /// This VM's name among all VMs; [`StreamHost::lend`] is asked with it.
    pub fn token(&self) -> VmToken {
        self.running.store.data().token
    }

    /// True when the guest has asked for something since the last call: another tick period, a callout. To be asked after
    /// each callback.
    pub fn take_asks(&mut self) -> bool {
        mem::take(&mut self.running.store.data_mut().asks)
    }

    /// Who is woken when a queue that this VM has registered, or registers from now on, gets an entry: then
    /// [`PluginVm::on_queues`] is due. Only the first call counts.
    pub fn set_queue_waker(&mut self, waker: Waker) {
        let state = self.running.store.data_mut();
        if state.queue_waker.is_some() {
            return;
        }
        for queue in &state.queues {
            state.shared.queues.listen(*queue, state.token, &waker);
        }
        state.queue_waker = Some(waker);
    }

    /// Calls that were not honoured, as `FUNCTION: REASON`, with how often; empty but in strict mode
    /// ([`VmSettings::strict`]). At most 256 reasons, the rest counts as `others`.
    pub fn unhonoured(&self) -> Vec<(String, u64)> {
        self.running.store.data().unhonoured.counts()
    }

    /// Size of the guest's memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.running.store.data().memory.map_or(0, |memory| memory.data_size(&self.running.store))
    }

    /// Number of streams alive in this VM.
    pub fn streams(&self) -> usize {
        self.running.store.data().contexts.streams()
    }

    /// Log lines of this VM that were dropped because there were too many.
    pub fn dropped_log_lines(&self) -> u64 {
        self.running.store.data().log.dropped()
    }

    fn run_end(&mut self, id: ContextId, stream: Box<StreamState<H>>) -> Called<H, ()> {
        let Exports { log, done, delete, .. } = &self.exports;
        self.running.with_stream(id, stream, Phase::End, |store| {
            if let Some(log) = log {
                log.call(&mut *store, id.number())?;
            }
            if let Some(done) = done {
                done.call(&mut *store, id.number())?;
            }
            if let Some(delete) = delete {
                delete.call(&mut *store, id.number())?;
            }
            Ok(())
        })
    }
}

/// A number of bytes as the guest counts them.
fn guest_size(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}
