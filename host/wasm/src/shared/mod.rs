//! `Shared`: what filters share across VMs and workers. It lives as long as the process.

mod data;
mod metrics;
mod queues;

use std::sync::Arc;

pub(crate) use data::SharedData;
pub(crate) use metrics::Metric;
pub(crate) use metrics::MetricRegistry;
pub use metrics::{FilterHistogram, FilterMetric, MetricKind};
pub(crate) use queues::SharedQueues;

/// Shared data, shared queues and the metrics that filters have defined.
#[derive(Default)]
pub struct Shared {
    pub(crate) data: SharedData,
    pub(crate) queues: SharedQueues,
    pub(crate) metrics: MetricRegistry,
}

impl Shared {
    /// Nothing shared yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// All metrics that filters have defined, sorted by name.
    pub fn metrics(&self) -> Vec<FilterMetric> {
        self.metrics.snapshot()
    }
}
