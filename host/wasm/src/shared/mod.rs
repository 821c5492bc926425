//! `Shared`: what filters share across VMs and workers. It lives as long as the process.

mod data;
mod metrics;
mod queues;
mod upstreams;

use std::sync::Arc;

pub(crate) use data::SharedData;
pub(crate) use metrics::Metric;
pub(crate) use metrics::MetricRegistry;
pub use metrics::{FilterHistogram, FilterMetric, MetricKind};
pub(crate) use queues::SharedQueues;

use crate::callout::Upstream;
use crate::strict::Reported;
use upstreams::Upstreams;

/// Shared data, shared queues and the metrics that filters have defined.
#[derive(Default)]
pub struct Shared {
    pub(crate) data: SharedData,
    pub(crate) queues: SharedQueues,
    pub(crate) metrics: MetricRegistry,
    upstreams: Upstreams,
    pub(crate) reported: Reported,
}

impl Shared {
    /// Nothing shared yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The clusters that callouts may name from now on. Addresses with a port need no cluster.
    pub fn set_upstreams(&self, names: impl IntoIterator<Item = Arc<str>>) {
        self.upstreams.set(names.into_iter().collect());
    }

    /// Where a callout to this name goes; none when there is no such cluster and the name is no `HOST:PORT`.
    pub(crate) fn upstream(&self, name: &str) -> Option<Upstream> {
        let cluster = self.upstreams.find(name).map(Upstream::Cluster);
        cluster.or_else(|| Upstream::of_address(name))
    }

    /// All metrics that filters have defined, sorted by name.
    pub fn metrics(&self) -> Vec<FilterMetric> {
        self.metrics.snapshot()
    }
}
