//! [`PluginGeneration`]: one version of one filter with one configuration, and its ready VMs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_model::{FailPolicy, Origin};
use portolan_telemetry::FilterMetrics;
use portolan_wasm::{Callbacks, PluginModule, PluginVm, Shared, StartError, VmSettings};

use crate::context::StreamContext;

/// Restarts without a pause; further ones within [`TRAP_WINDOW`] wait for [`BACK_OFF`] each.
const FREE_RESTARTS: usize = 20;
const TRAP_WINDOW: Duration = Duration::from_secs(10);
const BACK_OFF: Duration = Duration::from_millis(500);

/// What a plugin does in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `route-match`.
    RouteMatch,
    /// `traffic-split`.
    TrafficSplit,
    /// A filter of the user.
    User,
    /// `circuit-breaker`.
    CircuitBreaker,
}

/// One version of one filter with one configuration. Workers take a started VM each; a spare replaces one that trapped.
pub struct PluginGeneration {
    /// The plugin's name.
    pub name: Arc<str>,
    /// Where it stands in the chain.
    pub role: Role,
    /// Digest of the module's bytes.
    pub digest: String,
    /// The WasmPlugin that brought it; none for the bundled three.
    pub origin: Option<Origin>,
    /// What requests get when it cannot run.
    pub fail_policy: FailPolicy,
    pub(crate) metrics: Arc<FilterMetrics>,
    pub(crate) settings: Arc<VmSettings>,
    module: Arc<PluginModule>,
    shared: Arc<Shared>,
    ready: Mutex<Vec<PluginVm<StreamContext>>>,
    callbacks: Callbacks,
    /// Linear memory of all its VMs at their start, in bytes.
    memory: i64,
    restarts: Mutex<VecDeque<Instant>>,
    refilling: AtomicBool,
}

/// What a generation is started from.
pub(crate) struct GenerationParts {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) origin: Option<Origin>,
    pub(crate) fail_policy: FailPolicy,
    pub(crate) metrics: Arc<FilterMetrics>,
    pub(crate) settings: Arc<VmSettings>,
    pub(crate) module: Arc<PluginModule>,
    pub(crate) shared: Arc<Shared>,
}

impl PluginGeneration {
    /// Starts one VM for each worker and a spare. The first start is the trial: its failure is the generation's.
    pub(crate) fn start(parts: GenerationParts, workers: usize) -> Result<Arc<Self>, StartError> {
        let mut ready = Vec::with_capacity(workers + 1);
        for _ in 0..=workers {
            ready.push(PluginVm::start(&parts.module, &parts.settings, &parts.shared)?);
        }
        let callbacks = ready.first().map(PluginVm::callbacks).unwrap_or_default();
        let memory = ready.iter().map(|vm| i64::try_from(vm.memory_bytes()).unwrap_or(0)).sum();
        parts.metrics.generations.inc();
        parts.metrics.memory_bytes.add(memory);
        Ok(Arc::new(Self {
            digest: parts.module.digest().to_owned(),
            name: parts.name,
            role: parts.role,
            origin: parts.origin,
            fail_policy: parts.fail_policy,
            metrics: parts.metrics,
            settings: parts.settings,
            module: parts.module,
            shared: parts.shared,
            ready: Mutex::new(ready),
            callbacks,
            memory,
            restarts: Mutex::default(),
            refilling: AtomicBool::new(false),
        }))
    }

    /// The stream callbacks that the module exports.
    pub(crate) fn callbacks(&self) -> Callbacks {
        self.callbacks
    }

    pub(crate) fn module(&self) -> &Arc<PluginModule> {
        &self.module
    }

    /// True when a generation of these parts would do the same.
    pub(crate) fn is_same(&self, module: &Arc<PluginModule>, settings: &VmSettings, fail_policy: FailPolicy) -> bool {
        self.digest == module.digest() && *self.settings == *settings && self.fail_policy == fail_policy
    }

    /// A started VM, for a worker that begins with this generation or whose VM trapped.
    pub(crate) fn take(self: &Arc<Self>) -> Option<PluginVm<StreamContext>> {
        self.ready.lock().ok()?.pop()
    }

    /// Starts another VM in place of one that trapped: on a thread of its own, after a pause when it keeps trapping, one
    /// at a time. A request that meets the missing VM asks again.
    pub(crate) fn refill(self: &Arc<Self>) {
        if self.refilling.swap(true, AcqRel) {
            return;
        }
        let generation = self.clone();
        let thread = std::thread::Builder::new().name("filter-refill".to_owned());
        let spawned = thread.spawn(move || {
            generation.restart();
            generation.refilling.store(false, Release);
        });
        if let Err(error) = spawned {
            self.refilling.store(false, Release);
            tracing::error!(plugin = %self.name, %error, "no thread to start the filter again");
        }
    }

    fn restart(&self) {
        if let Some(pause) = self.back_off() {
            std::thread::sleep(pause);
        }
        match PluginVm::start(&self.module, &self.settings, &self.shared) {
            Ok(vm) => {
                self.metrics.restarts_total.inc();
                if let Ok(mut ready) = self.ready.lock() {
                    ready.push(vm);
                }
            }
            Err(error) => tracing::error!(plugin = %self.name, %error, "the filter does not start again"),
        }
    }

    fn back_off(&self) -> Option<Duration> {
        let mut restarts = self.restarts.lock().ok()?;
        let now = Instant::now();
        restarts.retain(|at| now.duration_since(*at) < TRAP_WINDOW);
        restarts.push_back(now);
        (restarts.len() > FREE_RESTARTS).then_some(BACK_OFF)
    }
}

impl std::fmt::Debug for PluginGeneration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginGeneration").field("name", &self.name).field("digest", &self.digest).finish()
    }
}

impl Drop for PluginGeneration {
    fn drop(&mut self) {
        self.metrics.generations.dec();
        self.metrics.memory_bytes.add(-self.memory);
    }
}
