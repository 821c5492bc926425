//! [`PluginGeneration`]: one version of one filter with one configuration, its ready VMs, and what became of failed ones.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::AcqRel, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portolan_model::{FailPolicy, Origin};
use portolan_telemetry::metrics::{FilterMetrics, Gauge};
use portolan_wasm::{
    AbiVersion, Callback, Callbacks, CostObserver, PluginModule, PluginVm, Shared, StartError, VmError, VmSettings,
};

use crate::containment::{Containment, Failure, Leave, leash};
use crate::context::StreamContext;
use crate::failure_log::{FailureLog, LastFailure};

/// A start that takes no longer is done by the worker itself when no spare is ready: that is sooner than a thread is woken.
const QUICK_START: Duration = Duration::from_millis(3);

/// What such a start may take; beyond it the filter counts as failed.
const QUICK_START_DEADLINE: Duration = Duration::from_millis(20);

/// What a plugin does in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `route-match`.
    RouteMatch,
    /// `traffic-split`.
    TrafficSplit,
    /// A filter of the user.
    User,
    /// `fault` of the library, for the faults of routes.
    Fault,
    /// `cors` of the library, for the CORS policies of routes.
    Cors,
    /// `circuit-breaker`.
    CircuitBreaker,
}

impl Role {
    /// True when the filter may hold a stream and let it go from a tick or a callout.
    pub(crate) fn may_hold(self) -> bool {
        matches!(self, Self::User | Self::Fault)
    }
}

/// One version of one filter with one configuration. Workers take a started VM each; a spare replaces one that failed.
pub struct PluginGeneration {
    /// The plugin's name.
    pub name: Arc<str>,
    /// Where it stands in the chain.
    pub role: Role,
    /// Digest of the module's bytes.
    pub digest: String,
    /// The WasmPlugin that brought it; none for the gateway's own.
    pub origin: Option<Origin>,
    /// What requests get when it cannot run.
    pub fail_policy: FailPolicy,
    pub(crate) metrics: Arc<FilterMetrics>,
    pub(crate) settings: Arc<VmSettings>,
    /// The quickest of its first starts, and the linear memory of a VM then.
    trial: (Duration, u64),
    /// What workers start VMs with themselves, where they may.
    quick_start: Option<Arc<VmSettings>>,
    module: Arc<PluginModule>,
    shared: Arc<Shared>,
    ready: Mutex<Vec<PluginVm<StreamContext>>>,
    callbacks: Callbacks,
    observer: Arc<Costs>,
    /// VMs that workers use, their linear memory in bytes, and their streams, as workers have noted them last.
    taken: AtomicI64,
    memory: AtomicI64,
    streams: AtomicI64,
    containment: Mutex<Containment>,
    /// Not every call is granted: [`Containment`] says more.
    held: AtomicBool,
    /// Some callback was cut at its deadline: from then on it is looked at what time callbacks have.
    leashed: AtomicBool,
    /// The longest good callback in nanoseconds.
    longest: AtomicU64,
    failures: Mutex<FailureLog>,
    refilling: AtomicBool,
}

/// What a generation does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterState {
    /// It is called.
    Running,
    /// It kept failing and is not called for this long; then one worker tries.
    BackingOff(Duration),
}

/// What one worker's VM uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    vms: i64,
    memory: i64,
    streams: i64,
    dropped: u64,
}

/// Hands a meter's findings to the metrics.
struct Costs(Arc<FilterMetrics>);

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
    /// A thread without a VM starts one, however long that takes: nobody else waits for what it does.
    pub(crate) patient: bool,
}

impl PluginGeneration {
    /// Starts one VM for each worker and a spare. The first start is the trial: its failure is the generation's.
    pub(crate) fn start(parts: GenerationParts, workers: usize) -> Result<Arc<Self>, StartError> {
        let mut ready = Vec::with_capacity(workers + 1);
        let mut quickest = Duration::MAX;
        for _ in 0..=workers {
            let started = Instant::now();
            ready.push(PluginVm::start(&parts.module, &parts.settings, &parts.shared)?);
            quickest = quickest.min(started.elapsed());
        }
        let quick = || {
            let mut settings = VmSettings::clone(&parts.settings);
            settings.limits.start_deadline = settings.limits.start_deadline.min(QUICK_START_DEADLINE);
            Arc::new(settings)
        };
        let quick_start =
            if parts.patient { Some(parts.settings.clone()) } else { (quickest <= QUICK_START).then(quick) };
        let callbacks = ready.first().map(PluginVm::callbacks).unwrap_or_default();
        let observer = Arc::new(Costs(parts.metrics.clone()));
        for vm in &mut ready {
            vm.observe(observer.clone());
        }
        parts.metrics.generations.inc();
        Ok(Arc::new(Self {
            digest: parts.module.digest().to_owned(),
            name: parts.name,
            role: parts.role,
            origin: parts.origin,
            fail_policy: parts.fail_policy,
            metrics: parts.metrics,
            settings: parts.settings,
            trial: (quickest, ready.first().map_or(0, |vm| vm.memory_bytes() as u64)),
            quick_start,
            module: parts.module,
            shared: parts.shared,
            ready: Mutex::new(ready),
            callbacks,
            observer,
            taken: AtomicI64::new(0),
            memory: AtomicI64::new(0),
            streams: AtomicI64::new(0),
            containment: Mutex::default(),
            held: AtomicBool::new(false),
            leashed: AtomicBool::new(false),
            longest: AtomicU64::new(0),
            failures: Mutex::default(),
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

    /// The ABI that its module speaks.
    pub fn abi(&self) -> AbiVersion {
        self.module.abi()
    }

    /// What its module imports, each as `module.name`.
    pub fn imports(&self) -> Vec<String> {
        self.module.imports()
    }

    /// How long the start of a VM takes.
    pub fn start_time(&self) -> Duration {
        self.trial.0
    }

    /// Linear memory of a VM after its start, in bytes.
    pub fn start_memory(&self) -> u64 {
        self.trial.1
    }

    /// What it does at the moment.
    pub fn state(&self) -> FilterState {
        match lock(&self.containment).held_for(Instant::now()) {
            Some(time) => FilterState::BackingOff(time),
            None => FilterState::Running,
        }
    }

    /// Its last failure.
    pub fn last_failure(&self) -> Option<LastFailure> {
        lock(&self.failures).last()
    }

    /// VMs that workers use, their linear memory in bytes, and their streams.
    pub fn in_use(&self) -> (i64, i64, i64) {
        (self.taken.load(Relaxed), self.memory.load(Relaxed), self.streams.load(Relaxed))
    }

    /// VMs that wait to replace a failed one.
    pub fn spares(&self) -> usize {
        lock(&self.ready).len()
    }

    /// A started VM, for a worker that begins with this generation or has none.
    pub(crate) fn take(self: &Arc<Self>) -> Option<PluginVm<StreamContext>> {
        if self.held.load(Relaxed) && !self.is_granted() {
            return None;
        }
        // The lock is given back before a start.
        let ready = lock(&self.ready).pop();
        let mut vm = ready.or_else(|| self.started(self.quick_start.as_ref()?))?;
        self.set_deadline(&mut vm);
        Some(vm)
    }

    /// Gives a VM the time for a callback that the filter has earned.
    pub(crate) fn set_deadline(&self, vm: &mut PluginVm<StreamContext>) {
        self.learn(vm);
        if self.leashed.load(Relaxed) {
            let deadline = self.settings.limits.callback_deadline;
            let on_leash = lock(&self.containment).is_on_leash(Instant::now());
            vm.set_callback_deadline(if on_leash {
                leash(deadline, Duration::from_nanos(self.longest.load(Relaxed)))
            } else {
                deadline
            });
        }
    }

    /// Takes note of what a worker's VM uses now, given what it has noted last, and says how many log lines it dropped.
    pub(crate) fn note(&self, last: Usage, now: Usage) {
        let add = |total: &AtomicI64, gauge: &Gauge, difference: i64| {
            if difference != 0 {
                total.fetch_add(difference, Relaxed);
                gauge.add(difference);
            }
        };
        add(&self.taken, &self.metrics.vms, now.vms - last.vms);
        add(&self.memory, &self.metrics.memory_bytes, now.memory - last.memory);
        add(&self.streams, &self.metrics.streams, now.streams - last.streams);
        self.metrics.log_dropped_total.inc_by(now.dropped.saturating_sub(last.dropped));
    }

    /// Remembers how long good callbacks take.
    fn learn(&self, vm: &PluginVm<StreamContext>) {
        self.longest.fetch_max(u64::try_from(vm.longest_callback().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether a call may be made now: not while the filter is put aside, and not when the worker's CPU time is used up.
    pub(crate) fn admits(&self, vm: &mut PluginVm<StreamContext>) -> bool {
        if self.held.load(Relaxed) && !self.is_granted() {
            return false;
        }
        if vm.is_overdrawn() {
            self.metrics.budget_exhausted_total.inc();
            return false;
        }
        true
    }

    /// True while not every call is granted on all workers.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    fn is_granted(&self) -> bool {
        let mut containment = lock(&self.containment);
        let leave = containment.ask(std::thread::current().id(), Instant::now());
        self.held.store(containment.is_held(), Relaxed);
        leave == Leave::Granted
    }

    /// Counts and says how a VM failed, and gives the one that takes over.
    pub(crate) fn replace(
        self: &Arc<Self>,
        failed: Option<PluginVm<StreamContext>>,
        error: &VmError,
    ) -> Option<PluginVm<StreamContext>> {
        let now = Instant::now();
        let failure = self.count(error);
        if let Some(unsaid) = lock(&self.failures).add(error, now) {
            tracing::error!(plugin = %self.name, %error, unsaid, "the filter failed; its VM is replaced");
        }
        if let Some(failed) = &failed {
            self.learn(failed);
        }
        let calls = failed.as_ref().map_or(0, PluginVm::calls);
        self.fail(failure, calls, now);
        let next = self.take().map(|mut next| {
            if let Some(failed) = &failed {
                next.inherit_budget(failed);
            }
            next
        });
        self.refill();
        next
    }

    fn count(&self, error: &VmError) -> Failure {
        match error {
            VmError::Deadline { .. } => {
                self.metrics.deadlines_total.inc();
                self.leashed.store(true, Relaxed);
                return Failure::Deadline;
            }
            VmError::Memory { .. } => self.metrics.memory_limit_total.inc(),
            _ => self.metrics.traps_total.inc(),
        }
        Failure::Trap
    }

    fn fail(&self, failure: Failure, calls: u64, now: Instant) {
        let mut containment = lock(&self.containment);
        if containment.fail(failure, calls, now) {
            self.metrics.back_offs_total.inc();
            let time = containment.held_for(now).unwrap_or_default();
            tracing::error!(plugin = %self.name, ?time, "the filter keeps failing and is put aside");
        }
        self.held.store(containment.is_held(), Relaxed);
    }

    /// Starts spares in place of those taken, on a thread of its own. A request that meets no VM asks again.
    pub(crate) fn refill(self: &Arc<Self>) {
        // What is put aside needs no spare before its time.
        let waits = self.held.load(Relaxed) && self.state() != FilterState::BackingOff(Duration::ZERO);
        if waits || self.refilling.swap(true, AcqRel) {
            return;
        }
        let generation = self.clone();
        let thread = std::thread::Builder::new().name("filter-refill".to_owned());
        let spawned = thread.spawn(move || {
            while generation.wants_spare() {
                let Some(vm) = generation.started(&generation.settings) else { break };
                lock(&generation.ready).push(vm);
            }
            generation.refilling.store(false, Release);
            // A failure between the last look and the line above found the thread still at work.
            if generation.wants_spare() {
                generation.refill();
            }
        });
        if let Err(error) = spawned {
            self.refilling.store(false, Release);
            tracing::error!(plugin = %self.name, %error, "no thread to start the filter again");
        }
    }

    fn wants_spare(&self) -> bool {
        let wanted = lock(&self.containment).spares(Instant::now());
        lock(&self.ready).len() < wanted
    }

    /// Another VM; none when it does not start, which counts as a failure.
    fn started(&self, settings: &Arc<VmSettings>) -> Option<PluginVm<StreamContext>> {
        match PluginVm::start(&self.module, settings, &self.shared) {
            Ok(mut vm) => {
                vm.observe(self.observer.clone());
                self.metrics.restarts_total.inc();
                Some(vm)
            }
            Err(error) => {
                tracing::error!(plugin = %self.name, %error, "the filter does not start again");
                self.fail(Failure::Start, 0, Instant::now());
                None
            }
        }
    }
}

impl Usage {
    /// What this VM uses.
    pub(crate) fn of(vm: &PluginVm<StreamContext>) -> Self {
        Self {
            vms: 1,
            memory: i64::try_from(vm.memory_bytes()).unwrap_or(i64::MAX),
            streams: i64::try_from(vm.streams()).unwrap_or(i64::MAX),
            dropped: vm.dropped_log_lines(),
        }
    }

    /// What is left when the VM is gone.
    pub(crate) fn ended(self) -> Self {
        Self { dropped: self.dropped, ..Self::default() }
    }
}

impl CostObserver for Costs {
    fn called(&self, callback: Callback, count: u64) {
        self.0.calls_total.add(callback.name(), count);
    }

    fn took(&self, callback: Callback, time: Duration, weight: u64) {
        self.0.cpu_seconds.observe(callback.name(), time, weight);
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
    }
}

fn lock<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}
