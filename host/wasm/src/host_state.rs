//! `HostState`: what the host keeps in a VM's store.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use wasmtime::{Memory, TypedFunc};

use crate::abi::AbiVersion;
use crate::callout::Callout;
use crate::callouts::Callouts;
use crate::context::{ContextId, Contexts, Direction, Phase, VmToken};
use crate::engine::Clock;
use crate::filter_log::FilterLog;
use crate::guest::Area;
use crate::hostcalls::{Declared, Expressions};
use crate::limiter::Limiter;
use crate::meter::Meter;
use crate::settings::VmSettings;
use crate::shared::{Metric, Shared};
use crate::stream::{StreamHost, StreamState};
use crate::strict::Unhonoured;
use crate::trace::Recorder;

/// The host's side of one VM: its plugin's settings, its contexts, and the stream of the callback that runs.
pub(crate) struct HostState<H> {
    /// The stream of the callback that runs, moved in for its duration.
    pub(crate) stream: Option<Box<StreamState<H>>>,
    /// Which callback runs.
    pub(crate) phase: Phase,
    /// The context of the callback that runs.
    pub(crate) current: ContextId,
    /// The context that host functions mean; `set_effective_context` changes it.
    pub(crate) effective: ContextId,
    /// The stream of the effective context, when that is not the callback's own.
    pub(crate) lent: Option<Box<StreamState<H>>>,
    /// This VM's name among all VMs.
    pub(crate) token: VmToken,
    /// The guest has asked for something that the proxy must see to after the callback.
    pub(crate) asks: bool,
    /// The guest's memory; none until its initialisers have run.
    pub(crate) memory: Option<Memory>,
    /// The same while the initialisers run, where imports are wrapped.
    pub(crate) early_memory: Option<Memory>,
    /// Calls that were not honoured, in strict mode.
    pub(crate) unhonoured: Unhonoured,
    /// What takes note of callbacks and calls, where somebody wants a trace.
    pub(crate) trace: Option<Box<Recorder>>,
    /// An initialiser has called a function that is not for initialisers.
    pub(crate) called_early: bool,
    /// How far the root context has come on its way out.
    pub(crate) retirement: Retirement,
    /// The guest's allocator, for answers; none while it runs.
    pub(crate) malloc: Option<TypedFunc<u32, u32>>,
    /// Where answers go without asking the allocator; only guests on our SDK have one.
    pub(crate) area: Option<Area>,
    /// Where answers are put together.
    pub(crate) scratch: Vec<u8>,
    /// What `on_foreign_function` can read.
    pub(crate) foreign_args: Vec<u8>,
    /// Zero of the guest's monotonic clock.
    pub(crate) started: Instant,
    pub(crate) settings: Arc<VmSettings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) abi: AbiVersion,
    pub(crate) limiter: Limiter,
    pub(crate) meter: Meter,
    pub(crate) log: FilterLog,
    pub(crate) contexts: Contexts,
    /// Metrics that this VM has defined; a guest knows them by their place plus 1.
    pub(crate) metrics: Vec<Arc<Metric>>,
    /// None: no ticks.
    pub(crate) tick_period: Option<Duration>,
    /// Expressions that this VM has made.
    pub(crate) expressions: Expressions,
    /// Properties that this VM has declared.
    pub(crate) declared: Vec<Declared>,
    /// Queues that this VM has registered.
    pub(crate) queues: Vec<u32>,
    /// Wakes the worker when one of them gets an entry; none before a worker has taken the VM.
    pub(crate) queue_waker: Option<Waker>,
    /// What it has asked of other hosts.
    pub(crate) callouts: Callouts,
}

/// How far a root context has come on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Retirement {
    /// Nobody has asked it to go.
    #[default]
    Serving,
    /// `on_done` has answered false: it goes when it calls `proxy_done`.
    Waiting,
    /// It may be deleted.
    Done,
    /// `on_delete` has run.
    Deleted,
}

impl<H> HostState<H> {
    pub(crate) fn new(settings: &Arc<VmSettings>, shared: &Arc<Shared>, abi: AbiVersion, clock: &Arc<Clock>) -> Self {
        let token = VmToken::next();
        let recorder = |tracer| Box::new(Recorder::new(tracer, &settings.plugin_name, token));
        Self {
            stream: None,
            phase: Phase::Other,
            current: ContextId::ROOT,
            effective: ContextId::ROOT,
            lent: None,
            token,
            asks: false,
            memory: None,
            early_memory: None,
            unhonoured: Unhonoured::default(),
            trace: settings.trace.clone().map(recorder),
            called_early: false,
            retirement: Retirement::default(),
            malloc: None,
            area: None,
            scratch: Vec::new(),
            foreign_args: Vec::new(),
            started: Instant::now(),
            limiter: Limiter::new(&settings.limits),
            meter: Meter::new(&settings.limits, clock),
            log: FilterLog::new(settings.plugin_name.clone(), settings.limits.log_lines_per_second),
            settings: settings.clone(),
            shared: shared.clone(),
            abi,
            contexts: Contexts::default(),
            metrics: Vec::new(),
            tick_period: None,
            expressions: Expressions::default(),
            declared: Vec::new(),
            queues: Vec::new(),
            queue_waker: None,
            callouts: Callouts::default(),
        }
    }

    /// Sets the scene for a callback.
    pub(crate) fn enter(&mut self, id: ContextId, phase: Phase) {
        self.current = id;
        self.effective = id;
        self.phase = phase;
        self.limiter.refused_memory = false;
    }

    /// Hands a callout to the proxy.
    pub(crate) fn ask(&mut self, callout: Callout) {
        self.asks = true;
        self.callouts.ask(callout);
    }

    /// The stream that host functions mean.
    pub(crate) fn stream(&self) -> Option<&StreamState<H>> {
        if self.effective == self.current { self.stream.as_deref() } else { self.lent.as_deref() }
    }

    /// The same, to change it.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut StreamState<H>> {
        if self.effective == self.current { self.stream.as_deref_mut() } else { self.lent.as_deref_mut() }
    }

    /// Takes note of one entry that came into a queue, if this VM is the one that hears of it.
    pub(crate) fn hears(&self, queue: u32) -> bool {
        self.shared.queues.take_notice(queue, self.token)
    }

    /// Which callback decides what may be done to a direction of the effective stream: the one that runs, or, for another
    /// context, the one that holds it.
    #[inline]
    pub(crate) fn phase_of(&self, direction: Direction) -> Phase {
        if self.effective == self.current {
            return self.phase;
        }
        self.contexts.held(self.effective, direction).unwrap_or(Phase::Other)
    }
}

impl<H: StreamHost> HostState<H> {
    /// Makes another context the one that host functions mean; its stream is lent by the proxy.
    pub(crate) fn set_effective(&mut self, id: ContextId) {
        if id == self.effective {
            return;
        }
        self.give_back();
        self.effective = id;
        if id != self.current && id != ContextId::ROOT {
            self.lent = H::lend(self.token, id);
        }
    }

    /// Gives the lent stream back.
    pub(crate) fn give_back(&mut self) {
        if let Some(stream) = self.lent.take() {
            H::take_back(self.token, self.effective, stream);
        }
    }
}
