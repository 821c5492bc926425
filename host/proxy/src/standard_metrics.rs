//! Istio's standard metrics: [`StandardPlan`] is what a snapshot keeps of them, [`StandardCounts`] a worker's handles.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Cluster, MISSING_CLUSTER, StandardMetrics};
use portolan_telemetry::{
    Key, Metrics, Reporter, ResponseFlags, STANDARD_METRICS, StandardDestination, StandardMetric, StandardOptions,
    StandardSeries,
};
use portolan_wasm::{Condition, StreamState};

use crate::context::StreamContext;
use crate::{principals, workload};

/// Handles that a worker keeps; with more it forgets them all and asks for them again.
const MAX_HANDLES: usize = 4096;

/// What Istio says of an expression without a value.
const UNKNOWN: &str = "unknown";

/// What is kept, for all workers.
pub(crate) struct StandardPlan {
    metrics: Arc<Metrics>,
    /// Expressions whose values are labels; none for one that is no CEL.
    values: Vec<Option<Condition>>,
    /// By cluster.
    destinations: Vec<Arc<StandardDestination>>,
}

/// What of an outcome makes a series, besides the cluster and the values of expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ended {
    pub(crate) tcp: bool,
    pub(crate) status: u16,
    pub(crate) flags: ResponseFlags,
    pub(crate) grpc: bool,
    pub(crate) grpc_status: Option<u32>,
    /// Of the endpoint, as [`workload`] numbers it.
    pub(crate) workload: u32,
    /// Of the connection to it, as [`principals`] numbers them.
    pub(crate) principals: u32,
}

/// What a request is counted with.
pub(crate) struct Sizes {
    pub(crate) duration: Duration,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// An outcome and its series.
type Found = (Ended, Arc<StandardSeries>);

/// A worker's handles.
#[derive(Default)]
pub(crate) struct StandardCounts {
    /// The last outcome of each cluster, which is mostly the next one's too.
    last: RefCell<Vec<Option<Found>>>,
    known: RefCell<HashMap<(u32, Ended), Arc<StandardSeries>>>,
    known_by_value: RefCell<HashMap<Key, Arc<StandardSeries>>>,
}

impl StandardPlan {
    /// None when nothing is kept.
    pub(crate) fn new(
        written: &StandardMetrics,
        clusters: &[Cluster],
        reporter: &Reporter,
        metrics: &Arc<Metrics>,
    ) -> Option<Self> {
        if written.off {
            metrics.configure_standard(None);
            return None;
        }
        let mut expressions: Vec<&str> = Vec::new();
        let mut options = StandardOptions { reporter: reporter.clone(), ..StandardOptions::default() };
        for (name, metric) in STANDARD_METRICS.iter().zip(&mut options.metrics) {
            let Some(change) = written.overrides.get(*name) else { continue };
            let mut index = |text| {
                expressions.iter().position(|known| *known == text).unwrap_or_else(|| {
                    expressions.push(text);
                    expressions.len() - 1
                })
            };
            let set = change.set.iter().map(|(label, text)| (label.clone(), index(text.as_str()))).collect();
            *metric =
                StandardMetric { disabled: change.disabled, removed: change.removed.iter().cloned().collect(), set };
        }
        let values = expressions.into_iter().map(Condition::compile).collect();
        metrics.configure_standard(Some(options));
        let destinations = clusters.iter().map(|cluster| Arc::new(destination(cluster))).collect();
        Some(Self { metrics: metrics.clone(), values, destinations })
    }

    /// True when heads must be kept to the end of a stream.
    pub(crate) fn wants_heads(&self) -> bool {
        !self.values.is_empty()
    }

    fn key(&self, cluster: u32, ended: Ended, values: Box<[Box<str>]>) -> Key {
        Key {
            destination: self.destinations.get(cluster as usize).cloned(),
            workload: workload::of(ended.workload),
            principals: principals::of(ended.principals),
            tcp: ended.tcp,
            response_code: ended.status,
            flags: ended.flags.key(),
            grpc: ended.grpc,
            grpc_status: ended.grpc_status,
            values,
            other: false,
        }
    }
}

impl StandardCounts {
    /// Counts a request that has ended.
    pub(crate) fn request(
        &self,
        plan: &StandardPlan,
        stream: &StreamState<StreamContext>,
        ended: Ended,
        sizes: &Sizes,
    ) {
        let cluster = stream.host.choice.map_or(MISSING_CLUSTER, |choice| choice.cluster);
        let count = |series: &StandardSeries| series.request(sizes.duration, sizes.received, sizes.sent);
        if !plan.values.is_empty() {
            let value = |condition: &Option<Condition>| {
                let text = condition.as_ref().and_then(|condition| condition.text(stream));
                text.filter(|text| !text.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned()).into_boxed_str()
            };
            return count(&self.by_value(plan, plan.key(cluster, ended, plan.values.iter().map(value).collect())));
        }
        let at = cluster as usize;
        if let Some(Some((last, series))) = self.last.borrow().get(at)
            && *last == ended
        {
            return count(series);
        }
        let series = self.series(plan, cluster, ended);
        count(&series);
        if at < plan.destinations.len() {
            let mut last = self.last.borrow_mut();
            last.resize(plan.destinations.len(), None);
            last[at] = Some((ended, series));
        }
    }

    /// The series of an outcome that no expression is asked about: of connections they know no attributes.
    pub(crate) fn series(&self, plan: &StandardPlan, cluster: u32, ended: Ended) -> Arc<StandardSeries> {
        let mut known = self.known.borrow_mut();
        if let Some(series) = known.get(&(cluster, ended)) {
            return series.clone();
        }
        if known.len() >= MAX_HANDLES {
            known.clear();
        }
        let series = plan.metrics.standard(plan.key(cluster, ended, Box::default()));
        known.insert((cluster, ended), series.clone());
        series
    }

    fn by_value(&self, plan: &StandardPlan, key: Key) -> Arc<StandardSeries> {
        let mut known = self.known_by_value.borrow_mut();
        if let Some(series) = known.get(&key) {
            return series.clone();
        }
        if known.len() >= MAX_HANDLES {
            known.clear();
        }
        let series = plan.metrics.standard(key.clone());
        known.insert(key, series.clone());
        series
    }
}

/// As Istio names a service: a Kubernetes one by its parts, another by its host, in the namespace that defines it.
fn destination(cluster: &Cluster) -> StandardDestination {
    let service = cluster.name.rsplit('|').next().unwrap_or_default();
    let mut parts = service.splitn(4, '.');
    let (name, namespace) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(namespace), Some("svc")) => (name, namespace),
        _ => (service, cluster.origin.name().split('/').next().unwrap_or_default()),
    };
    StandardDestination { service: service.to_owned(), name: name.to_owned(), namespace: namespace.to_owned() }
}
