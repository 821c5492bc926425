//! [`WorkerPlugin`]: one plugin on one worker: its VM, and the one way in.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use portolan_model::FailPolicy;
use portolan_telemetry::FilterMetrics;
use portolan_wasm::{Callbacks, PluginVm, VmError, VmLimits};

use crate::callout::InFlight;
use crate::context::StreamContext;
use crate::filter_chain::Live;
use crate::generation::{PluginGeneration, Role};
use crate::lend::Known;
use crate::plugin_task::{self, Attention};
use crate::snapshot::Attached;
use crate::vm_slot::VmSlot;
use crate::worker::Worker;

/// One plugin on one worker.
pub(crate) struct WorkerPlugin {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) fail_policy: FailPolicy,
    pub(crate) callbacks: Callbacks,
    pub(crate) metrics: Option<Arc<FilterMetrics>>,
    /// Streams that its VM may name in callbacks of other contexts, and those that it holds.
    pub(crate) known: RefCell<Known>,
    /// Wakes the task that runs what belongs to no stream: ticks, queues.
    pub(crate) attention: Arc<Attention>,
    /// What carries out its callouts.
    pub(crate) callouts: InFlight,
    /// None for a plugin that could not be started.
    slot: Option<VmSlot>,
    incarnation: Cell<u32>,
    shared: Cell<Option<Live>>,
    begun: Cell<bool>,
}

impl WorkerPlugin {
    /// The plugin on this worker: the one that serves already, else one with a VM of its generation's.
    pub(crate) fn attach(plugin: &Attached, last: &[Rc<Self>]) -> Rc<Self> {
        let generation = match plugin {
            Attached::Ready(generation) => generation,
            Attached::Failed { name, fail_policy } => return Rc::new(Self::failed(name, *fail_policy)),
        };
        let same = |known: &&Rc<Self>| known.generation().is_some_and(|g| Arc::ptr_eq(g, generation));
        if let Some(known) = last.iter().find(same) {
            return known.clone();
        }
        Rc::new(Self {
            name: generation.name.clone(),
            role: generation.role,
            fail_policy: generation.fail_policy,
            callbacks: generation.callbacks(),
            metrics: Some(generation.metrics.clone()),
            slot: Some(VmSlot::new(generation.clone())),
            known: RefCell::default(),
            attention: Arc::default(),
            callouts: InFlight::default(),
            incarnation: Cell::new(0),
            shared: Cell::new(None),
            begun: Cell::new(false),
        })
    }

    fn failed(name: &Arc<str>, fail_policy: FailPolicy) -> Self {
        Self {
            name: name.clone(),
            role: Role::User,
            fail_policy,
            callbacks: Callbacks { request_headers: true, ..Callbacks::default() },
            metrics: None,
            slot: None,
            known: RefCell::default(),
            attention: Arc::default(),
            callouts: InFlight::default(),
            incarnation: Cell::new(0),
            shared: Cell::new(None),
            begun: Cell::new(false),
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

    /// True when the module may name streams in callbacks of other contexts.
    pub(crate) fn reaches_streams(&self) -> bool {
        self.callbacks.effective_context && self.role.may_hold()
    }

    /// True when body callbacks run while the filter holds the head: Higress's ABI 0.2.100, or its WasmPlugin says so.
    pub(crate) fn runs_body_while_headers_wait(&self) -> bool {
        self.generation().is_some_and(|generation| {
            let abi = generation.module().abi();
            abi.runs_body_while_headers_wait() || generation.settings.headers_stop_iteration
        })
    }

    /// What its VMs may use up.
    pub(crate) fn limits(&self) -> VmLimits {
        self.generation().map(|generation| generation.settings.limits).unwrap_or_default()
    }

    /// Starts what runs beside the streams: ticks, queues, and callouts that the VM has asked for while it started.
    pub(crate) fn begin(self: &Rc<Self>, worker: &Rc<Worker>) {
        if self.slot.is_none() || !self.role.may_hold() || self.begun.replace(true) {
            return;
        }
        plugin_task::spawn(worker, self);
    }

    /// Runs a callback that belongs to no stream; none when there is no VM, or it failed.
    pub(crate) fn enter<R>(
        self: &Rc<Self>,
        call: impl FnOnce(&mut PluginVm<StreamContext>) -> Result<R, VmError>,
    ) -> Option<R> {
        let (result, asks) = self.with_vm(|vm| (call(vm), vm.take_asks()))?;
        if asks {
            self.attend();
        }
        result.inspect_err(|error| self.replace(error)).ok()
    }

    /// Sees to what the VM has asked for in its last callback.
    pub(crate) fn attend(self: &Rc<Self>) {
        self.attention.notify();
    }

    /// Name and place, for people: `wasmplugin/default/auth (plugin.yaml:1)`.
    pub(crate) fn named(&self) -> String {
        match self.generation().and_then(|generation| generation.origin.as_ref()) {
            Some(origin) => origin.to_string(),
            None => format!("the filter {}", self.name),
        }
    }

    /// Which VM of this plugin runs: contexts of an earlier one are gone.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.get()
    }

    /// Runs `call` on the VM; none while there is no VM.
    pub(crate) fn with_vm<R>(&self, call: impl FnOnce(&mut PluginVm<StreamContext>) -> R) -> Option<R> {
        // A new VM has a tick period and queues of its own.
        self.slot.as_ref()?.with(call, || self.attention.notify())
    }

    /// Whether it may be called now. The bundled filters are never put aside: no request goes anywhere without them.
    pub(crate) fn is_available(&self) -> bool {
        self.role != Role::User || self.slot.as_ref().is_none_or(VmSlot::is_available)
    }

    /// True when what can wait should wait, as [`WorkerPlugin::is_available`] would not always say yes.
    pub(crate) fn is_put_off(&self) -> bool {
        self.slot.as_ref().is_some_and(VmSlot::is_put_off)
    }

    /// Brings the plugin's metrics up to date.
    pub(crate) fn note(&self) {
        if let Some(slot) = &self.slot {
            slot.note();
        }
    }

    fn generation(&self) -> Option<&Arc<PluginGeneration>> {
        self.slot.as_ref().map(VmSlot::generation)
    }

    /// Drops the VM after a trap or a deadline and takes the spare.
    pub(crate) fn replace(&self, error: &VmError) {
        self.incarnation.set(self.incarnation.get().wrapping_add(1));
        self.callouts.clear();
        // Whoever waits for the VM that is gone learns it now, and is dealt with as the fail policy says.
        let orphans = self.known.borrow_mut().clear();
        for (stream, _) in orphans {
            if let Some(stream) = stream.upgrade() {
                stream.wake();
            }
        }
        let Some(slot) = &self.slot else { return };
        slot.replace(error);
        // The new VM has a tick period and queues of its own.
        self.attention.notify();
    }
}

impl Drop for WorkerPlugin {
    fn drop(&mut self) {
        self.attention.notify();
    }
}
