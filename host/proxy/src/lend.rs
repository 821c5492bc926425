//! Lends streams to filters: `set_effective_context` names a stream of the same VM from any callback.
//!
//! A worker's VMs and streams are on one thread, so a table of that thread finds them. Streams are entered when a filter
//! could name them or holds them, and taken out when they end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem;
use std::rc::{Rc, Weak};

use portolan_wasm::{ContextId, StreamState, VmToken};

use crate::context::StreamContext;
use crate::filter_chain::Direction;
use crate::stream::Stream;
use crate::worker_plugin::WorkerPlugin;

thread_local! {
    static PLUGINS: RefCell<HashMap<VmToken, Weak<WorkerPlugin>>> = RefCell::default();
}

/// The streams that one VM of one plugin may name.
#[derive(Default)]
pub(crate) struct Known {
    vm: Option<VmToken>,
    /// By context: the stream, and the plugin's place in its chain.
    streams: HashMap<ContextId, (Weak<Stream>, usize)>,
}

impl Known {
    /// Takes all streams out and forgets the VM: it has ended.
    pub(crate) fn clear(&mut self) -> Vec<(Weak<Stream>, usize)> {
        if let Some(vm) = self.vm.take() {
            PLUGINS.with_borrow_mut(|plugins| plugins.remove(&vm));
        }
        mem::take(&mut self.streams).into_values().collect()
    }

    pub(crate) fn remove(&mut self, id: ContextId) {
        self.streams.remove(&id);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(vm) = self.vm.take() {
            // While the thread ends, its table may be gone.
            let _ = PLUGINS.try_with(|plugins| plugins.borrow_mut().remove(&vm));
        }
    }
}

/// Enters a stream: from now on callbacks of other contexts of this VM can name it.
pub(crate) fn enter(plugin: &Rc<WorkerPlugin>, vm: VmToken, id: ContextId, stream: &Rc<Stream>, at: usize) {
    let mut known = plugin.known.borrow_mut();
    if known.vm != Some(vm) {
        known.vm = Some(vm);
        PLUGINS.with_borrow_mut(|plugins| plugins.insert(vm, Rc::downgrade(plugin)));
    }
    known.streams.insert(id, (Rc::downgrade(stream), at));
}

/// The state of the stream with this context, with the body that the plugin holds.
pub(crate) fn lend(vm: VmToken, id: ContextId) -> Option<Box<StreamState<StreamContext>>> {
    let (stream, at) = find(vm, id)?;
    let mut state = stream.take_state()?;
    stream.swap_held(at, &mut state);
    Some(state)
}

/// Gives the state back, and wakes the stream when the filter wants something of it.
pub(crate) fn take_back(vm: VmToken, id: ContextId, mut state: Box<StreamState<StreamContext>>) {
    // The stream cannot have ended: nothing else has run since it was lent.
    let Some((stream, at)) = find(vm, id) else { return };
    stream.swap_held(at, &mut state);
    let resumed = mem::take(&mut state.resumed);
    let replied = state.local_reply.is_some();
    stream.put_state(state);
    stream.add_resumed(at, resumed);
    if replied || !resumed.is_nothing() {
        stream.wake(Direction::Request);
        stream.wake(Direction::Response);
    }
}

fn find(vm: VmToken, id: ContextId) -> Option<(Rc<Stream>, usize)> {
    let plugin = PLUGINS.with_borrow(|plugins| plugins.get(&vm)?.upgrade())?;
    let known = plugin.known.borrow();
    let (stream, at) = known.streams.get(&id)?;
    Some((stream.upgrade()?, *at))
}
