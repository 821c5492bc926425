//! [`View`]: a worker's own side of a snapshot: its VMs and its pools, found by index.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use portolan_model::FailPolicy;
use portolan_telemetry::FilterMetrics;
use portolan_wasm::{Callbacks, PluginVm, VmError};
use rand::Rng;

use crate::context::StreamContext;
use crate::filter_chain::{Live, is_asked_later};
use crate::generation::{PluginGeneration, Role};
use crate::pool::ClusterPool;
use crate::snapshot::{Attached, Snapshot};

/// What one worker serves with. A request holds the one that it began with.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    /// As in [`Snapshot::plugins`].
    pub(crate) plugins: Vec<Rc<WorkerPlugin>>,
    /// By cluster id.
    pub(crate) pools: Vec<Rc<ClusterPool>>,
    /// What all plugins together want of a stream.
    pub(crate) wants: Wants,
}

/// Whether any plugin looks at a part of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) request_body: bool,
    pub(crate) response_body: bool,
    /// Some plugin has contexts of its own for each stream.
    pub(crate) contexts_end: bool,
    /// A user's filter has a part in the stream after the request was sent, where heads can be read again.
    pub(crate) request_head_later: bool,
}

/// One plugin on one worker.
pub(crate) struct WorkerPlugin {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) fail_policy: FailPolicy,
    pub(crate) callbacks: Callbacks,
    pub(crate) metrics: Option<Arc<FilterMetrics>>,
    generation: Option<Arc<PluginGeneration>>,
    vm: RefCell<Option<PluginVm<StreamContext>>>,
    incarnation: Cell<u32>,
    shared: Cell<Option<Live>>,
}

impl View {
    /// A view of a snapshot; what the last view has and this one needs too is taken over.
    pub(crate) fn new(snapshot: Arc<Snapshot>, last: Option<&View>, rng: &mut impl Rng) -> Self {
        let plugins: Vec<_> = snapshot.plugins.iter().map(|plugin| WorkerPlugin::attach(plugin, last)).collect();
        let known: HashMap<_, _> =
            last.iter().flat_map(|last| &last.pools).map(|pool| (Arc::as_ptr(&pool.state), pool)).collect();
        let pools = snapshot.clusters.iter().map(|cluster| match known.get(&Arc::as_ptr(&cluster.state)) {
            Some(pool) => Rc::clone(pool),
            None => ClusterPool::new(cluster.state.clone(), rng),
        });
        let pools = pools.collect();
        let wants = plugins.iter().fold(Wants::default(), |wants, plugin| Wants {
            request_body: wants.request_body || plugin.callbacks.request_body || plugin.callbacks.request_trailers,
            response_body: wants.response_body || plugin.callbacks.response_body || plugin.callbacks.response_trailers,
            contexts_end: wants.contexts_end || !plugin.is_stateless(),
            request_head_later: wants.request_head_later
                || plugin.role == Role::User && is_asked_later(plugin.callbacks),
        });
        Self { snapshot, plugins, pools, wants }
    }
}

impl WorkerPlugin {
    fn attach(plugin: &Attached, last: Option<&View>) -> Rc<Self> {
        let generation = match plugin {
            Attached::Ready(generation) => generation,
            Attached::Failed { name, fail_policy } => return Rc::new(Self::failed(name, *fail_policy)),
        };
        let same = |known: &&Rc<Self>| known.generation.as_ref().is_some_and(|g| Arc::ptr_eq(g, generation));
        if let Some(known) = last.and_then(|last| last.plugins.iter().find(same)) {
            return known.clone();
        }
        Rc::new(Self {
            name: generation.name.clone(),
            role: generation.role,
            fail_policy: generation.fail_policy,
            callbacks: generation.callbacks(),
            metrics: Some(generation.metrics.clone()),
            generation: Some(generation.clone()),
            vm: RefCell::new(generation.take()),
            incarnation: Cell::new(0),
            shared: Cell::new(None),
        })
    }

    fn failed(name: &Arc<str>, fail_policy: FailPolicy) -> Self {
        Self {
            name: name.clone(),
            role: Role::User,
            fail_policy,
            callbacks: Callbacks { request_headers: true, ..Callbacks::default() },
            metrics: None,
            generation: None,
            vm: RefCell::new(None),
            incarnation: Cell::new(0),
            shared: Cell::new(None),
        }
    }

    /// True when the module exports nothing that could tell one stream's context from another's: all streams may then use
    /// one.
    pub(crate) fn is_stateless(&self) -> bool {
        !self.callbacks.context_create && !self.callbacks.end() && self.role != Role::User
    }

    /// The context that all streams use, in the VM that runs now.
    pub(crate) fn shared_context(&self) -> Option<Live> {
        self.shared.get().filter(|live| live.incarnation == self.incarnation())
    }

    pub(crate) fn share_context(&self, live: Live) {
        if self.is_stateless() {
            self.shared.set(Some(live));
        }
    }

    /// Which VM of this plugin runs: contexts of an earlier one are gone.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.get()
    }

    /// Runs `call` on the VM; none while there is no VM.
    pub(crate) fn with_vm<R>(&self, call: impl FnOnce(&mut PluginVm<StreamContext>) -> R) -> Option<R> {
        // A second borrow would be a callback inside a callback, which the host never makes.
        let mut vm = self.vm.try_borrow_mut().ok()?;
        if vm.is_none() {
            *vm = self.generation.as_ref().and_then(PluginGeneration::take);
        }
        if let Some(vm) = vm.as_mut() {
            return Some(call(vm));
        }
        if let Some(generation) = &self.generation {
            generation.refill();
        }
        None
    }

    /// Drops the VM after a trap or a deadline and takes the spare.
    pub(crate) fn replace(&self, error: &VmError) {
        tracing::error!(plugin = %self.name, %error, "the filter failed; its VM is replaced");
        if let Some(metrics) = &self.metrics {
            match error {
                VmError::Deadline { .. } => metrics.deadlines_total.inc(),
                _ => metrics.traps_total.inc(),
            }
        }
        self.incarnation.set(self.incarnation.get().wrapping_add(1));
        let Some(generation) = &self.generation else { return };
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            *vm = generation.take();
        }
        generation.refill();
    }
}
