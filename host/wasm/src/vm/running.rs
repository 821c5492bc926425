//! `Running`: the store, and how the guest is entered and left.

use wasmtime::{Store, UpdateDeadline};

use super::FilterAction;
use crate::context::{ContextId, Phase};
use crate::host_state::HostState;
use crate::meter::Callback;
use crate::stream::{StreamHost, StreamState};
use crate::trap::VmError;

/// A stream on its way back, and what became of the callback.
pub(super) type Called<H, R> = (Box<StreamState<H>>, Result<R, VmError>);

/// One VM's store. Apart from the callbacks' handles, so that those can be borrowed during a call: a clone of a handle
/// counts references that all workers share.
pub(super) struct Running<H: StreamHost> {
    pub(super) store: Store<HostState<H>>,
    ended: bool,
    /// Some callback has paused: from then on it is noted which contexts hold their stream.
    paused: bool,
}

impl<H: StreamHost> Running<H> {
    /// A guest that has not been called yet.
    pub(super) fn new(store: Store<HostState<H>>) -> Self {
        Self { store, ended: false, paused: false }
    }

    /// A callback that answers with an action. Any number but 0 is a pause: Envoy's further ones are its variants.
    pub(super) fn act(
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
        if self.paused || !matches!(action, Ok(FilterAction::Continue)) {
            let pauses = matches!(action, Ok(FilterAction::Pause));
            self.paused |= pauses;
            self.store.data_mut().contexts.hold(id, phase, pauses);
        }
        (stream, action)
    }

    /// Moves the stream in, calls the guest, moves the stream out.
    pub(super) fn with_stream<R>(
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
        let stream = self.store.data_mut().stream.take();
        (stream.expect("the stream was put in above and no host function takes it"), result)
    }

    /// Calls the guest on its root context.
    pub(super) fn with_root<R>(
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
        self.store.set_epoch_deadline(1);
        let state = self.store.data_mut();
        state.meter.begin(Callback::of(state.phase));
        let result = call(&mut self.store);
        let state = self.store.data_mut();
        state.meter.end(result.is_ok());
        if state.lent.is_some() {
            state.give_back();
        }
        result.map_err(|error| {
            self.ended = true;
            VmError::new(&error, self.store.data().limiter.refused())
        })
    }
}

/// At each tick of the clock the meter says whether the guest may go on.
pub(super) fn set_deadlines<H>(store: &mut Store<HostState<H>>) {
    store.epoch_deadline_callback(|mut store| {
        Ok(if store.data_mut().meter.tick() { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
    });
    store.set_epoch_deadline(1);
}
