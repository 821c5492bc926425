//! [`View`]: a worker's own side of a snapshot: its VMs and its pools, found by index.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use http::request;
use rand::Rng;

use crate::filter_chain::is_asked_later;
use crate::generation::Role;
use crate::log_entry::LogEntry;
use crate::pool::ClusterPool;
use crate::rollout::Rollout;
use crate::snapshot::{Attached, Snapshot};
use crate::standard_metrics::{StandardCounts, StandardPlan};
use crate::worker_plugin::WorkerPlugin;

/// What one worker serves with. A request holds the one that it began with.
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    /// As in [`Snapshot::http_plugins`].
    pub(crate) plugins: Vec<Rc<WorkerPlugin>>,
    /// As in [`Snapshot::network_plugins`].
    pub(crate) network: Vec<Rc<WorkerPlugin>>,
    /// By cluster id.
    pub(crate) pools: Vec<Rc<ClusterPool>>,
    /// Handles of Istio's standard metrics.
    pub(crate) standard: Rc<StandardCounts>,
    /// What all plugins together want of a stream.
    pub(crate) wants: Wants,
    /// New versions on trial.
    pub(crate) rollouts: Vec<Trial>,
    /// Which of these are in the place of their plugin here, a bit for each.
    chosen: u32,
    /// Views for streams that new versions are tried on, by their `chosen`.
    variants: RefCell<HashMap<u32, Rc<View>>>,
}

/// A new version of a plugin on this worker.
#[derive(Clone)]
pub(crate) struct Trial {
    at: usize,
    rollout: Arc<Rollout>,
    pub(crate) plugin: Rc<WorkerPlugin>,
}

/// Versions on trial at once; further ones get no streams until others are decided.
const MAX_TRIALS: usize = 8;

/// Whether any plugin looks at a part of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    pub(crate) request_body: bool,
    pub(crate) response_body: bool,
    /// Some plugin has contexts of its own for each stream.
    pub(crate) contexts_end: bool,
    /// A user's filter has a part in the stream after the request was sent, where heads can be read again; or headers of
    /// responses are made of what is known of requests.
    pub(crate) request_head_later: bool,
    /// A user's filter can read heads when the stream ends.
    pub(crate) heads_at_end: bool,
    /// An access log names headers, or filters by attributes; or labels of metrics are made of attributes.
    pub(crate) heads_in_log: bool,
    /// A filter may end a stream from a callback of another context: a tick, an answer to a callout.
    pub(crate) interrupts: bool,
    /// A user's filter may ask how the stream has gone.
    pub(crate) course: bool,
}

impl View {
    /// A view of a snapshot; what the last view has and this one needs too is taken over.
    pub(crate) fn new(snapshot: Arc<Snapshot>, last: Option<&View>, rng: &mut impl Rng) -> Self {
        let mut attached: Vec<_> = last.map_or_else(Vec::new, View::all_plugins);
        let attach = |plugins: &[Attached]| -> Vec<_> {
            plugins.iter().map(|plugin| WorkerPlugin::attach(plugin, &attached)).collect()
        };
        let (plugins, network) = (attach(snapshot.http_plugins()), attach(snapshot.network_plugins()));
        attached.extend(plugins.iter().cloned());
        let trial = |(at, rollout): (usize, &Option<Arc<Rollout>>)| {
            let rollout = rollout.clone()?;
            let plugin = WorkerPlugin::attach(&Attached::Ready(rollout.next.clone()), &attached);
            Some(Trial { at, rollout, plugin })
        };
        let rollouts = snapshot.rollouts.iter().enumerate().filter_map(trial).take(MAX_TRIALS).collect();
        let known: HashMap<_, _> =
            last.iter().flat_map(|last| &last.pools).map(|pool| (Arc::as_ptr(&pool.state), pool)).collect();
        let pools = snapshot.clusters.iter().map(|cluster| match known.get(&Arc::as_ptr(&cluster.state)) {
            Some(pool) => Rc::clone(pool),
            None => ClusterPool::new(cluster.state.clone(), rng),
        });
        let pools = pools.collect();
        let wants = Wants::of(&plugins, &snapshot);
        let standard = Rc::default();
        Self { snapshot, plugins, network, pools, standard, wants, rollouts, chosen: 0, variants: RefCell::default() }
    }

    /// Every plugin of this worker, versions on trial included.
    pub(crate) fn all_plugins(&self) -> Vec<Rc<WorkerPlugin>> {
        let trials = self.rollouts.iter().map(|trial| &trial.plugin);
        self.plugins.iter().chain(&self.network).chain(trials).cloned().collect()
    }

    /// The view for a new stream: with the new versions that it is for. Only asked while there are some.
    pub(crate) fn for_stream(&self, request: &request::Parts, mut draw: impl FnMut() -> u8) -> Option<Rc<Self>> {
        let takes = |(bit, trial): (usize, &Trial)| u32::from(trial.rollout.takes(request, draw())) << bit;
        let chosen = self.rollouts.iter().enumerate().map(takes).sum();
        if chosen == 0 {
            return None;
        }
        let mut variants = self.variants.borrow_mut();
        Some(variants.entry(chosen).or_insert_with(|| Rc::new(self.variant(chosen))).clone())
    }

    /// Counts a stream of this view for the versions on trial.
    pub(crate) fn record(&self, failed: bool) {
        for (bit, trial) in self.rollouts.iter().enumerate() {
            trial.rollout.record(self.chosen & (1 << bit) != 0, failed);
        }
    }

    fn variant(&self, chosen: u32) -> Self {
        let mut plugins = self.plugins.clone();
        for (bit, trial) in self.rollouts.iter().enumerate() {
            if chosen & (1 << bit) != 0 {
                plugins[trial.at] = trial.plugin.clone();
            }
        }
        let wants = Wants::of(&plugins, &self.snapshot);
        let (snapshot, pools, rollouts) = (self.snapshot.clone(), self.pools.clone(), self.rollouts.clone());
        let network = self.network.clone();
        let standard = self.standard.clone();
        Self { snapshot, plugins, network, pools, standard, wants, rollouts, chosen, variants: RefCell::default() }
    }
}

impl Wants {
    /// What logs and header operations want, without any plugin: heads to the end, and how the stream has gone.
    fn of_logs(heads_in_log: bool, has_response_formats: bool) -> Self {
        Self {
            heads_in_log,
            request_head_later: heads_in_log || has_response_formats,
            heads_at_end: heads_in_log,
            course: heads_in_log,
            ..Self::default()
        }
    }

    fn of(plugins: &[Rc<WorkerPlugin>], snapshot: &Snapshot) -> Self {
        let of_metrics = snapshot.standard.as_ref().is_some_and(StandardPlan::wants_heads);
        let of_spans = snapshot.tracing.as_ref().is_some_and(|plan| plan.wants_heads());
        let heads_in_log = of_metrics || of_spans || snapshot.access_logs.iter().any(LogEntry::wants_heads);
        plugins.iter().fold(Self::of_logs(heads_in_log, snapshot.has_response_formats), |wants, plugin| Self {
            request_body: wants.request_body || plugin.callbacks.request_body || plugin.callbacks.request_trailers,
            response_body: wants.response_body || plugin.callbacks.response_body || plugin.callbacks.response_trailers,
            contexts_end: wants.contexts_end || !plugin.is_stateless(),
            request_head_later: wants.request_head_later
                || plugin.role == Role::User && plugin.callbacks.reads_heads && is_asked_later(plugin.callbacks),
            heads_at_end: wants.heads_at_end
                || plugin.role == Role::User && plugin.callbacks.reads_heads && plugin.callbacks.end(),
            heads_in_log,
            interrupts: wants.interrupts || plugin.reaches_streams(),
            course: wants.course || plugin.role == Role::User && plugin.callbacks.reads_properties,
        })
    }
}
