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

/// A stream that filters can name: a request, or a connection of TCP.
pub(crate) trait Lends {
    /// Its state, with the bodies that the plugin at this place holds; none when somebody uses it.
    fn lend(&self, at: usize) -> Option<Box<StreamState<StreamContext>>>;

    /// The state comes back; what the filter wants of the stream is to be carried out.
    fn take_back(&self, at: usize, state: Box<StreamState<StreamContext>>);

    /// The stream is to look again: it was resumed, or its VM has ended.
    fn wake(&self);
}

impl Lends for Stream {
    fn lend(&self, at: usize) -> Option<Box<StreamState<StreamContext>>> {
        let mut state = self.take_state()?;
        state.host.caller = self.plugin(at).role;
        self.swap_held(at, &mut state);
        Some(state)
    }

    fn take_back(&self, at: usize, mut state: Box<StreamState<StreamContext>>) {
        self.swap_held(at, &mut state);
        let resumed = mem::take(&mut state.resumed);
        let replied = state.local_reply.is_some();
        self.put_state(state);
        self.add_resumed(at, resumed);
        if replied || !resumed.is_nothing() {
            Lends::wake(self);
        }
    }

    fn wake(&self) {
        self.wake(Direction::Request);
        self.wake(Direction::Response);
    }
}

thread_local! {
    static PLUGINS: RefCell<HashMap<VmToken, Weak<WorkerPlugin>>> = RefCell::default();
}

/// The streams that one VM of one plugin may name.
#[derive(Default)]
pub(crate) struct Known {
    vm: Option<VmToken>,
    /// By context: the stream, and the plugin's place in its chain.
    streams: HashMap<ContextId, (Weak<dyn Lends>, usize)>,
}

impl Known {
    /// Takes all streams out and forgets the VM: it has ended.
    pub(crate) fn clear(&mut self) -> Vec<(Weak<dyn Lends>, usize)> {
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
pub(crate) fn enter(plugin: &Rc<WorkerPlugin>, vm: VmToken, id: ContextId, stream: &Rc<dyn Lends>, at: usize) {
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
    stream.lend(at)
}

/// Gives the state back, and wakes the stream when the filter wants something of it.
pub(crate) fn take_back(vm: VmToken, id: ContextId, state: Box<StreamState<StreamContext>>) {
    // The stream cannot have ended: nothing else has run since it was lent.
    let Some((stream, at)) = find(vm, id) else { return };
    stream.take_back(at, state);
}

fn find(vm: VmToken, id: ContextId) -> Option<(Rc<dyn Lends>, usize)> {
    let plugin = PLUGINS.with_borrow(|plugins| plugins.get(&vm)?.upgrade())?;
    let known = plugin.known.borrow();
    let (stream, at) = known.streams.get(&id)?;
    Some((stream.upgrade()?, *at))
}
