//! What `/filters` shows: the plugins of the current snapshot, their versions and their cost.

use std::sync::Arc;
use std::time::Duration;

use portolan_admin::{CallbackView, FailureView, FilterView, VersionView};
use portolan_proxy::{Attached, FilterState, LastFailure, PluginGeneration, Role, Rollout, Snapshot, SnapshotCell};
use portolan_telemetry::FilterMetrics;
use serde_json::json;

/// The filters of the current snapshot, in the order in which they see a request.
pub(crate) fn filters(cell: &SnapshotCell) -> Vec<FilterView> {
    let snapshot = cell.load();
    snapshot.plugins().iter().map(|plugin| filter(&snapshot, plugin)).collect()
}

fn filter(snapshot: &Snapshot, attached: &Attached) -> FilterView {
    let (name, fail_policy, serving) = match attached {
        Attached::Ready(serving) => (&serving.name, serving.fail_policy, Some(serving)),
        Attached::Failed { name, fail_policy } => (name, *fail_policy, None),
    };
    let versions = snapshot.versions(name);
    let metrics = snapshot.plugin_metrics(name);
    let (state, retry_in_ms) = match serving.map(|serving| serving.state()) {
        Some(FilterState::Running) => ("running", None),
        Some(FilterState::BackingOff(time)) => ("backing off", Some(time.as_millis().try_into().unwrap_or(u64::MAX))),
        None => ("failed", None),
    };
    let plugin = snapshot.model.plugins.iter().find(|plugin| *plugin.name == **name);
    let is_bundled = serving.is_some_and(|serving| serving.role != Role::User);
    FilterView {
        name: name.to_string(),
        origin: plugin.filter(|_| !is_bundled).map_or_else(|| "built in".to_owned(), |plugin| plugin.origin.place()),
        phase: plugin.and_then(|plugin| word(&plugin.phase)),
        priority: plugin.map_or(0, |plugin| plugin.priority),
        fail_strategy: word(&fail_policy).unwrap_or_default(),
        state,
        retry_in_ms,
        error: snapshot.plugin_problem(name).map(str::to_owned),
        rollout: snapshot.rollout(name).map(|rollout| self::rollout(rollout)),
        last_failure: versions.iter().filter_map(|version| version.last_failure()).max_by_key(|f| f.at).map(failure),
        versions: versions.iter().map(|version| self::version(version, serving)).collect(),
        callbacks: callbacks(&metrics),
        totals: totals(&metrics),
    }
}

fn rollout(rollout: &Rollout) -> serde_json::Value {
    let state = if rollout.is_returned() { "taken back" } else { "on trial" };
    json!({ "state": state, "sha256": rollout.digest(), "for": rollout.canary(), "counts": rollout.counts() })
}

fn version(version: &Arc<PluginGeneration>, serving: Option<&Arc<PluginGeneration>>) -> VersionView {
    let (vms, memory_bytes, streams) = version.in_use();
    VersionView {
        sha256: version.digest.clone(),
        abi: version.abi().to_string(),
        serves: serving.is_some_and(|serving| Arc::ptr_eq(serving, version)),
        vms,
        spares: version.spares(),
        streams,
        memory_bytes,
    }
}

fn failure(failure: LastFailure) -> FailureView {
    FailureView {
        seconds_ago: failure.at.elapsed().unwrap_or_default().as_secs(),
        reason: failure.reason,
        backtrace: failure.backtrace.lines().map(|line| line.trim().to_owned()).collect(),
    }
}

fn callbacks(metrics: &FilterMetrics) -> Vec<CallbackView> {
    let times = metrics.cpu_seconds.values();
    let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
    let view = |(name, calls)| {
        let time = times.get(name).copied().unwrap_or_default();
        CallbackView { name, calls, mean_us: micros(time.mean), p50_us: micros(time.p50), p99_us: micros(time.p99) }
    };
    metrics.calls_total.values().into_iter().map(view).collect()
}

fn totals(metrics: &FilterMetrics) -> Vec<(&'static str, u64)> {
    vec![
        ("traps", metrics.traps_total.value()),
        ("deadlines", metrics.deadlines_total.value()),
        ("memory_limit", metrics.memory_limit_total.value()),
        ("restarts", metrics.restarts_total.value()),
        ("back_offs", metrics.back_offs_total.value()),
        ("unavailable", metrics.unavailable_total.value()),
        ("budget_exhausted", metrics.budget_exhausted_total.value()),
        ("log_dropped", metrics.log_dropped_total.value()),
    ]
}

/// A word of Istio's as it is written.
fn word(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned))
}
