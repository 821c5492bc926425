//! What the admin port shows of the configuration and the data plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use portolan_admin::{
    ClusterView, ConfigDump, EndpointView, HealthCheckView, ListenerView, NameView, ObjectView, RequestKey, TrafficView,
};
use portolan_config::{Diagnostic, ObjectState, ObjectStatus, ResourceSet};
use portolan_model::{Cluster, Listener, Model, UdpListener};
use portolan_proxy::{
    ActiveHealth, Attached, BuildProblem, ClusterEntry, EndpointState, NameAnswer, RequestKind, Snapshot, SnapshotCell,
};
use portolan_telemetry::PluginValue;
use portolan_telemetry::metrics::PluginValueKind;
use portolan_wasm::{FilterMetric, MetricKind};
use serde_json::{Value, json};

/// What `/config_dump` is made of, when somebody asks: of a large configuration it is larger than all the rest.
pub(crate) struct Dumped {
    /// What serves.
    pub(crate) snapshot: Arc<Snapshot>,
    /// What became of the objects.
    pub(crate) objects: Arc<[ObjectStatus]>,
    /// What is said about them.
    pub(crate) findings: Vec<Diagnostic>,
}

impl Dumped {
    /// The value of `/config_dump`: the model, its objects, its filters, and the findings.
    pub(crate) fn to_value(&self) -> Value {
        let told = |finding| serde_json::to_value(finding).unwrap_or_default();
        let dump = ConfigDump {
            version: env!("CARGO_PKG_VERSION"),
            generation: self.snapshot.generation,
            model: &self.snapshot.model,
            objects: self.objects.iter().map(object_view).collect(),
            diagnostics: self.findings.iter().map(told).collect(),
        };
        let mut value = dump.to_value();
        value["filters"] = self.snapshot.plugins().iter().map(filter).collect();
        value
    }
}

/// The name of an object's state as `/config_dump` and the metrics have it.
pub(crate) fn state_name(state: ObjectState) -> &'static str {
    match state {
        ObjectState::Active => "active",
        ObjectState::KeptOld => "kept_old",
        ObjectState::Rejected => "rejected",
        ObjectState::Ignored => "ignored",
    }
}

fn object_view(object: &ObjectStatus) -> ObjectView {
    ObjectView {
        origin: object.origin.clone(),
        state: state_name(object.state),
        reason: object.reason.as_deref().map(str::to_owned),
    }
}

/// Which code serves, by digest.
fn filter(plugin: &Attached) -> Value {
    match plugin {
        Attached::Ready(ready) => json!({
            "name": &*ready.name,
            "state": "active",
            "sha256": ready.digest,
            "fail_policy": ready.fail_policy,
            "origin": ready.origin,
        }),
        Attached::Failed { name, fail_policy } => {
            json!({ "name": &**name, "state": "failed", "fail_policy": fail_policy })
        }
    }
}

/// What keeps listeners from accepting, by the listener's address.
pub(crate) type ListenerErrors = BTreeMap<SocketAddr, String>;

/// The listeners among what could not be built.
pub(crate) fn listener_errors(model: &Model, problems: &[BuildProblem]) -> ListenerErrors {
    let error = |address: SocketAddr| {
        let subject = format!("listener {address}");
        problems.iter().find(|problem| problem.subject == subject).map(|problem| (address, problem.message.clone()))
    };
    model.listeners.iter().filter_map(|listener| error(listener.address)).collect()
}

/// The listeners of the current snapshot.
pub(crate) fn listeners(cell: &SnapshotCell, errors: &ListenerErrors) -> Vec<ListenerView> {
    let view = |listener: &Listener| ListenerView {
        error: errors.get(&listener.address).cloned(),
        ..ListenerView::from(listener)
    };
    let snapshot = cell.load();
    let bound: Vec<_> = snapshot.udp_addresses().collect();
    let of_udp = |listener: &UdpListener| {
        let error = (!bound.contains(&listener.address)).then(|| "its UDP address is not bound".to_owned());
        ListenerView { error, ..ListenerView::from(listener) }
    };
    let udp = snapshot.model.udp_listeners.iter().map(of_udp);
    snapshot.model.listeners.iter().map(view).chain(udp).collect()
}

/// The clusters of the current snapshot with their counters.
pub(crate) fn clusters(cell: &SnapshotCell) -> Vec<ClusterView> {
    let snapshot = cell.load();
    snapshot
        .model
        .clusters
        .iter()
        .zip(snapshot.clusters())
        .map(|(cluster, entry)| cluster_view(cluster, entry))
        .collect()
}

/// What the workers remember of requests.
pub(crate) fn traffic(cell: &SnapshotCell) -> TrafficView {
    let (kinds, unseen) = cell.traffic().read();
    let request = |(kind, count): (RequestKind, u64)| {
        let RequestKind { port, method, host, path, headers } = kind;
        RequestKey { count, port, method, host, path, headers }
    };
    TrafficView { requests: kinds.into_iter().map(request).collect(), unseen }
}

fn cluster_view(cluster: &Cluster, entry: &ClusterEntry) -> ClusterView {
    let (requests, pending, _connections, retries) = entry.state.in_flight();
    ClusterView {
        name: cluster.name.clone(),
        lb_policy: cluster.lb_policy.name(),
        circuit_breakers: cluster.circuit_breakers,
        active_requests: requests.into(),
        pending_requests: pending.into(),
        active_retries: retries.into(),
        origin: cluster.origin.place(),
        policy_origin: cluster.policy_origin.as_ref().map(portolan_model::Origin::place),
        names: entry.state.names().into_iter().map(name_view).collect(),
        endpoints: entry
            .state
            .endpoints()
            .endpoints
            .iter()
            .map(|endpoint| endpoint_view(cluster, entry, endpoint))
            .collect(),
    }
}

fn name_view(answer: NameAnswer) -> NameView {
    NameView {
        name: answer.name,
        source: "dns",
        addresses: answer.addresses,
        age_s: answer.answered.map(|at| at.elapsed().as_secs()),
        error: answer.error,
    }
}

fn health_check(entry: &ClusterEntry, endpoint: &EndpointState) -> Option<HealthCheckView> {
    let last = entry.state.last_check(endpoint.address)?;
    let health = endpoint.active_health();
    Some(HealthCheckView {
        failed: !health.passes(),
        pending: health == ActiveHealth::Pending,
        timed_out: health == ActiveHealth::TimedOut,
        age_ms: last.at.map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
        failure: last.failure,
    })
}

fn endpoint_view(cluster: &Cluster, entry: &ClusterEntry, endpoint: &EndpointState) -> EndpointView {
    let (requests, errors) = (endpoint.seen.requests.load(Relaxed), endpoint.seen.errors.load(Relaxed));
    let active = endpoint.seen.active_requests.load(Relaxed).into();
    EndpointView {
        address: endpoint.address.to_string(),
        weight: endpoint.weight,
        locality: endpoint.locality.to_string(),
        priority: endpoint.priority,
        locality_weight: endpoint.locality_weight,
        warmup_percent: cluster.slow_start.map_or(100, |slow| endpoint.warmth_percent(&slow)),
        ejections: endpoint.ejections(),
        healthy: endpoint.is_healthy(),
        health_check: health_check(entry, endpoint),
        ejected_for_ms: endpoint.ejected_for_ms().unwrap_or(0),
        cx_active: endpoint.seen.connections.load(Relaxed).into(),
        rq_active: active,
        rq_total: requests,
        rq_success: requests.saturating_sub(errors).saturating_sub(active),
        rq_error: errors,
        ..EndpointView::default()
    }
}

/// How many objects are in each state; states without objects count 0, so that a gauge goes down again.
pub(crate) fn objects_by_state(resources: &ResourceSet) -> [(&'static str, i64); 4] {
    let states = [ObjectState::Active, ObjectState::KeptOld, ObjectState::Rejected, ObjectState::Ignored];
    states.map(|state| {
        let count = resources.objects().filter(|object| object.state == state).count();
        (state_name(state), i64::try_from(count).unwrap_or(i64::MAX))
    })
}

/// A filter's own metric as the metrics page takes it.
pub(crate) fn plugin_value(metric: FilterMetric) -> PluginValue {
    let kind = match (metric.kind, metric.histogram) {
        (MetricKind::Histogram, histogram) => {
            let (count, buckets) = histogram.map(|histogram| (histogram.count, histogram.buckets)).unwrap_or_default();
            PluginValueKind::Histogram { count, sum: metric.value, buckets }
        }
        (MetricKind::Gauge, _) => PluginValueKind::Gauge(metric.value),
        (MetricKind::Counter, _) => PluginValueKind::Counter(metric.value),
    };
    PluginValue { name: metric.name, kind }
}
