//! [`Chain`]: the filters of layer 4 over one connection. What a filter holds waits with that filter and comes to it again,
//! as a whole, with the next bytes; the filters before it do not see those a second time. Semantics: Envoy's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use portolan_wasm::{BodyBuffer, ContextId, FilterAction, Peer, PluginVm, Resumed, StreamState, VmError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::pump::Direction;
use crate::context::{ConnectionInfo, StreamContext};
use crate::lend::{self, Lends};
use crate::view::View;
use crate::worker_plugin::WorkerPlugin;

type State = Box<StreamState<StreamContext>>;

/// All filters of one connection.
pub(crate) struct Chain {
    view: Rc<View>,
    state: Cell<Option<State>>,
    links: RefCell<Vec<Link>>,
    /// A filter wants the connection closed.
    closing: Cell<bool>,
    /// Somebody has resumed or closed, or a VM has ended.
    woken: [Notify; 2],
}

/// One filter's part.
#[derive(Default)]
struct Link {
    /// Its context, and which VM that is in.
    live: Option<(ContextId, u32)>,
    /// It has been told of the connection.
    begun: bool,
    /// Other contexts of its VM may name the connection.
    entered: bool,
    /// It has failed, and its policy lets bytes pass.
    passed_by: bool,
    /// What it has called for and the connection has not carried out.
    resumed: Resumed,
    upload: Held,
    download: Held,
}

/// What a filter holds of one direction.
#[derive(Default)]
struct Held {
    data: BodyBuffer,
    /// Nothing follows.
    end: bool,
    /// Since when; each callback that holds on begins anew.
    since: Option<Instant>,
    /// The filter holds the connection and has not been asked about these bytes.
    unseen: bool,
}

/// What became of a piece.
pub(crate) enum Passed {
    /// All filters have let these bytes go; true when they are the last.
    Through(Bytes, bool),
    /// A filter holds it.
    Held,
    /// The connection is to be closed.
    Closed(Closed),
}

/// Why filters end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// A filter has closed it.
    ByFilter,
    /// A filter could not run, and nothing may pass without it.
    FilterFailed,
    /// More waits for a filter than may.
    Overflow,
    /// A filter has held it for too long.
    Late,
}

impl Closed {
    /// As the access log names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ByFilter => "wasm_close_stream",
            Self::FilterFailed => "wasm_fail_stream",
            Self::Overflow => "wasm_buffer_overflow",
            Self::Late => "wasm_paused_too_long",
        }
    }
}

/// The filter could not do its part.
struct Unavailable;

impl Chain {
    /// The filters for a connection; none when there are no filters.
    pub(super) fn new(view: &Rc<View>, info: &Arc<ConnectionInfo>) -> Option<Rc<Self>> {
        if view.network.is_empty() {
            return None;
        }
        let context = StreamContext::of_connection(view.snapshot.clone(), info.clone());
        let links = view.network.iter().map(|_| Link::default()).collect();
        Some(Rc::new(Self {
            view: view.clone(),
            state: Cell::new(Some(Box::new(StreamState::connection(context)))),
            links: RefCell::new(links),
            closing: Cell::new(false),
            woken: [Notify::new(), Notify::new()],
        }))
    }

    /// Changes what filters are told of the connection.
    pub(super) fn note(&self, change: impl FnOnce(&mut StreamContext)) {
        if let Some(mut state) = self.state.take() {
            change(&mut state.host);
            self.state.set(Some(state));
        }
    }

    /// A piece on its way: through all filters, or to the one that holds it. An empty one that is not the end only makes
    /// the connection known to filters that have not seen it.
    pub(super) fn pass(self: &Rc<Self>, direction: Direction, data: Bytes, end: bool) -> Passed {
        self.pass_from(direction, 0, data, end)
    }

    /// Goes on with what a filter has let go in the meantime; waits until there is such a thing.
    pub(super) async fn resumed(self: &Rc<Self>, direction: Direction) -> Passed {
        loop {
            if let Some(passed) = self.go_on(direction) {
                return passed;
            }
            let woken = self.woken[direction as usize].notified();
            match self.deadline(direction) {
                None => woken.await,
                Some(deadline) => tokio::select! {
                    () = woken => {}
                    () = sleep_until(deadline) => {}
                },
            }
        }
    }

    /// The upstream sends no more.
    pub(super) fn upstream_closed(self: &Rc<Self>, peer: Peer) {
        for at in 0..self.view.network.len() {
            if self.view.network[at].callbacks.upstream_close && self.links.borrow()[at].live.is_some() {
                let _ = self.call(at, None, |vm, id, state| vm.on_upstream_connection_close(id, state, peer));
            }
        }
    }

    /// The end: filters are told, and their contexts are closed.
    pub(super) fn end(self: &Rc<Self>, peer: Peer) {
        for at in 0..self.view.network.len() {
            // What fails at the end changes nothing any more; the VM is replaced all the same.
            let _ = self.call(at, None, |vm, id, state| vm.end_connection(id, state, peer));
            if let Some((id, _)) = self.links.borrow_mut()[at].live.take() {
                self.view.network[at].known.borrow_mut().remove(id);
            }
        }
    }

    fn pass_from(self: &Rc<Self>, direction: Direction, step: usize, mut data: Bytes, end: bool) -> Passed {
        let count = self.view.network.len();
        for step in step..count {
            let at = place(direction, step, count);
            match self.pass_one(at, direction, data, end) {
                Ok(Some(passed)) => data = passed,
                Ok(None) => return Passed::Held,
                Err(closed) => return Passed::Closed(closed),
            }
        }
        Passed::Through(data, end)
    }

    /// One filter over a piece, and over what it holds already. None when it holds that now.
    fn pass_one(
        self: &Rc<Self>,
        at: usize,
        direction: Direction,
        data: Bytes,
        end: bool,
    ) -> Result<Option<Bytes>, Closed> {
        if self.links.borrow()[at].passed_by {
            return Ok(Some(data));
        }
        let says_nothing = data.is_empty() && !end;
        self.with_held(at, direction, |held| {
            held.data.push(data);
            held.end |= end;
        });
        if !std::mem::replace(&mut self.links.borrow_mut()[at].begun, true) {
            let called = self.call(at, Some(direction), |vm, id, state| vm.on_new_connection(id, state));
            match self.carried_out(at, direction, called)? {
                Some(data) if says_nothing || self.links.borrow()[at].passed_by => return Ok(Some(data)),
                Some(data) => self.with_held(at, direction, |held| held.data.push(data)),
                None => {
                    self.with_held(at, direction, |held| held.unseen = !says_nothing);
                    return Ok(None);
                }
            }
        }
        self.ask(at, direction)
    }

    /// The data callback of one filter on all that it holds.
    fn ask(self: &Rc<Self>, at: usize, direction: Direction) -> Result<Option<Bytes>, Closed> {
        let end = self.with_held(at, direction, |held| {
            held.unseen = false;
            held.end
        });
        let called = self.call(at, Some(direction), |vm, id, state| match direction {
            Direction::Upload => vm.on_downstream_data(id, state, end),
            Direction::Download => vm.on_upstream_data(id, state, end),
        });
        self.carried_out(at, direction, called)
    }

    /// What the filter lets go after a callback; none when it holds on.
    fn carried_out(
        self: &Rc<Self>,
        at: usize,
        direction: Direction,
        called: Result<FilterAction, Unavailable>,
    ) -> Result<Option<Bytes>, Closed> {
        let resumed = self.take_resumed(at, direction);
        if self.closing.get() {
            return Err(Closed::ByFilter);
        }
        match called {
            Err(Unavailable) => self.without(at, Closed::FilterFailed)?,
            Ok(FilterAction::Pause) if !resumed => {
                let limit = self.view.network[at].limits().buffer_bytes;
                if self.with_held(at, direction, |held| held.data.len()) > limit {
                    return Err(Closed::Overflow);
                }
                self.with_held(at, direction, |held| held.since = Some(Instant::now()));
                self.enter(at);
                return Ok(None);
            }
            Ok(_) => {}
        }
        Ok(Some(self.with_held(at, direction, Held::take)))
    }

    /// Goes on without a filter, if its policy says so.
    fn without(&self, at: usize, otherwise: Closed) -> Result<(), Closed> {
        if !self.view.network[at].fail_policy.is_open() {
            return Err(otherwise);
        }
        self.links.borrow_mut()[at].passed_by = true;
        Ok(())
    }

    /// The next thing to carry out, in the order of the chain: a resumption, a filter that is gone, one that is late.
    fn go_on(self: &Rc<Self>, direction: Direction) -> Option<Passed> {
        if self.closing.get() {
            return Some(Passed::Closed(Closed::ByFilter));
        }
        let count = self.view.network.len();
        for step in 0..count {
            let at = place(direction, step, count);
            let Some(deadline) = self.deadline_of(at, direction) else { continue };
            let gone = if self.take_resumed(at, direction) {
                if self.with_held(at, direction, |held| held.unseen) {
                    return Some(match self.ask(at, direction) {
                        Ok(Some(data)) => self.pass_from(direction, step + 1, data, self.has_ended(at, direction)),
                        Ok(None) => Passed::Held,
                        Err(closed) => Passed::Closed(closed),
                    });
                }
                Ok(())
            } else if self.links.borrow()[at].passed_by {
                // It has failed in the other direction, and its policy lets bytes pass.
                Ok(())
            } else if !self.is_live(at) {
                self.without(at, Closed::FilterFailed)
            } else if deadline <= Instant::now() {
                self.without(at, Closed::Late)
            } else {
                continue;
            };
            let data = self.with_held(at, direction, Held::take);
            return Some(match gone {
                Ok(()) => self.pass_from(direction, step + 1, data, self.has_ended(at, direction)),
                Err(closed) => Passed::Closed(closed),
            });
        }
        None
    }

    /// When the first of the filters that hold this direction is late.
    fn deadline(&self, direction: Direction) -> Option<Instant> {
        (0..self.view.network.len()).filter_map(|at| self.deadline_of(at, direction)).min()
    }

    fn deadline_of(&self, at: usize, direction: Direction) -> Option<Instant> {
        let since = self.with_held(at, direction, |held| held.since)?;
        since.checked_add(self.view.network[at].limits().paused_deadline)
    }

    fn take_resumed(&self, at: usize, direction: Direction) -> bool {
        let resumed = &mut self.links.borrow_mut()[at].resumed;
        match direction {
            Direction::Upload => std::mem::take(&mut resumed.request),
            Direction::Download => std::mem::take(&mut resumed.response),
        }
    }

    fn has_ended(&self, at: usize, direction: Direction) -> bool {
        self.with_held(at, direction, |held| held.end)
    }

    fn with_held<R>(&self, at: usize, direction: Direction, use_it: impl FnOnce(&mut Held) -> R) -> R {
        let link = &mut self.links.borrow_mut()[at];
        use_it(match direction {
            Direction::Upload => &mut link.upload,
            Direction::Download => &mut link.download,
        })
    }

    fn is_live(&self, at: usize) -> bool {
        let live = self.links.borrow()[at].live;
        live.is_some_and(|(_, incarnation)| incarnation == self.view.network[at].incarnation())
    }

    /// Makes the connection known to the filter's VM: other contexts may name it, and the VM's end must be told.
    fn enter(self: &Rc<Self>, at: usize) {
        if std::mem::replace(&mut self.links.borrow_mut()[at].entered, true) {
            return;
        }
        let plugin = &self.view.network[at];
        let live = self.links.borrow()[at].live;
        if let (Some((id, _)), Some(vm)) = (live, plugin.with_vm(|vm| vm.token())) {
            let chain: Rc<dyn Lends> = self.clone();
            lend::enter(plugin, vm, id, &chain, at);
        }
    }

    /// One call into one filter, with what it holds. Ends are told without a direction, and open no context.
    fn call<R>(
        self: &Rc<Self>,
        at: usize,
        direction: Option<Direction>,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<R, Unavailable> {
        let plugin = &self.view.network[at];
        let called = if direction.is_none() || plugin.is_available() {
            plugin.with_vm(|vm| (self.call_in(plugin, vm, at, direction.is_some(), call), vm.take_asks()))
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
            Ok(Some(value)) => {
                if plugin.reaches_streams() && direction.is_some() {
                    self.enter(at);
                }
                Ok(value)
            }
            Ok(None) => Err(Unavailable),
            Err(error) => {
                plugin.replace(&error);
                Err(Unavailable)
            }
        }
    }

    fn call_in<R>(
        self: &Rc<Self>,
        plugin: &WorkerPlugin,
        vm: &mut PluginVm<StreamContext>,
        at: usize,
        open: bool,
        call: impl FnOnce(&mut PluginVm<StreamContext>, ContextId, State) -> (State, Result<R, VmError>),
    ) -> Result<Option<R>, VmError> {
        let Some(mut state) = self.state.take() else { return Ok(None) };
        let live = self.links.borrow()[at].live;
        let id = match live {
            Some((id, incarnation)) if incarnation == plugin.incarnation() => id,
            None if open => {
                let (given_back, opened) = vm.new_stream(state);
                state = given_back;
                match opened {
                    Ok(id) => id,
                    Err(error) => {
                        self.state.set(Some(state));
                        return Err(error);
                    }
                }
            }
            // The VM that knew the connection is gone.
            _ => {
                self.state.set(Some(state));
                return Ok(None);
            }
        };
        self.links.borrow_mut()[at].live = Some((id, plugin.incarnation()));
        self.swap_held(at, &mut state);
        let (mut state, result) = call(vm, id, state);
        self.swap_held(at, &mut state);
        self.add_resumed(at, std::mem::take(&mut state.resumed));
        self.state.set(Some(state));
        result.map(Some)
    }

    /// Puts what the filter holds into the state, or back.
    fn swap_held(&self, at: usize, state: &mut State) {
        let link = &mut self.links.borrow_mut()[at];
        std::mem::swap(&mut link.upload.data, &mut state.request_body);
        std::mem::swap(&mut link.download.data, &mut state.response_body);
    }

    fn add_resumed(&self, at: usize, resumed: Resumed) {
        self.closing.set(self.closing.get() || resumed.close);
        self.links.borrow_mut()[at].resumed.add(resumed);
    }
}

impl Held {
    fn take(&mut self) -> Bytes {
        self.since = None;
        self.data.take()
    }
}

impl Lends for Chain {
    fn lend(&self, at: usize) -> Option<State> {
        let mut state = self.state.take()?;
        self.swap_held(at, &mut state);
        Some(state)
    }

    fn take_back(&self, at: usize, mut state: State) {
        self.swap_held(at, &mut state);
        let resumed = std::mem::take(&mut state.resumed);
        self.state.set(Some(state));
        self.add_resumed(at, resumed);
        if !resumed.is_nothing() {
            self.wake();
        }
    }

    fn wake(&self) {
        for woken in &self.woken {
            woken.notify_one();
        }
    }
}

/// Where the filter of this step stands: bytes of the upstream meet the filters backwards.
fn place(direction: Direction, step: usize, count: usize) -> usize {
    match direction {
        Direction::Upload => step,
        Direction::Download => count - 1 - step,
    }
}
