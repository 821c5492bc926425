//! [`View`]: a worker's own side of a snapshot: its VMs and its pools, found by index.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rand::Rng;

use crate::filter_chain::is_asked_later;
use crate::generation::Role;
use crate::pool::ClusterPool;
use crate::snapshot::Snapshot;
use crate::worker_plugin::WorkerPlugin;

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
    /// A filter may end a stream from a callback of another context: a tick, an answer to a callout.
    pub(crate) interrupts: bool,
}

impl View {
    /// A view of a snapshot; what the last view has and this one needs too is taken over.
    pub(crate) fn new(snapshot: Arc<Snapshot>, last: Option<&View>, rng: &mut impl Rng) -> Self {
        let plugins: Vec<_> = snapshot
            .plugins
            .iter()
            .map(|plugin| WorkerPlugin::attach(plugin, last.map_or(&[], |last| &last.plugins)))
            .collect();
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
            interrupts: wants.interrupts || plugin.reaches_streams(),
        });
        Self { snapshot, plugins, pools, wants }
    }
}
