//! [`Target`]: an address that is checked, what came of it, and the clusters that want to know.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use portolan_telemetry::{HealthCheckMetrics, UpstreamAddress};
use rand::Rng;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::probe::Client;
use super::tally::{FailureKind, Outcome, Transition, pause};
use super::{ActiveHealth, CheckPlan, Decided, Tally};
use crate::cluster::ClusterState;

/// An address of some clusters.
pub(crate) struct Target {
    /// Of the endpoint; the check's own port may be another.
    endpoint: UpstreamAddress,
    pub(super) plan: Arc<CheckPlan>,
    known: Mutex<Known>,
    watchers: Mutex<Vec<Watcher>>,
    decided: Arc<Decided>,
}

struct Known {
    tally: Tally,
    last: LastCheck,
}

/// The newest check of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct LastCheck {
    /// When it was over; none before the first one.
    pub at: Option<Instant>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A cluster that has the address among its endpoints.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub(crate) cluster: Weak<ClusterState>,
    pub(crate) metrics: Arc<HealthCheckMetrics>,
}

impl Target {
    pub(super) fn new(endpoint: UpstreamAddress, plan: Arc<CheckPlan>, tally: Tally, decided: Arc<Decided>) -> Self {
        let known = Mutex::new(Known { tally, last: LastCheck::default() });
        Self { endpoint, plan, known, watchers: Mutex::default(), decided }
    }

    /// What is known now, to go on with.
    pub(crate) fn tally(&self) -> Tally {
        self.known().tally
    }

    pub(crate) fn health(&self) -> ActiveHealth {
        self.known().tally.health
    }

    pub(crate) fn last(&self) -> LastCheck {
        self.known().last.clone()
    }

    pub(super) fn watch(&self, watcher: Watcher) {
        self.locked_watchers().push(watcher);
    }

    /// One of the cluster's parts ends.
    pub(super) fn unwatch(&self, cluster: &Weak<ClusterState>) {
        let mut watchers = self.locked_watchers();
        if let Some(at) = watchers.iter().position(|watcher| watcher.cluster.ptr_eq(cluster)) {
            watchers.swap_remove(at);
        }
    }

    /// Where it is asked.
    pub(super) fn address(&self) -> UpstreamAddress {
        match (self.endpoint, self.plan.check.port) {
            (UpstreamAddress::Socket(endpoint), Some(port)) => SocketAddr::new(endpoint.ip(), port).into(),
            (endpoint, _) => endpoint,
        }
    }

    /// Checks until the task is aborted.
    pub(super) async fn keep_checking(self: Arc<Self>, places: Arc<Semaphore>) {
        let intervals = self.plan.check.intervals;
        sleep(random(intervals.initial_jitter_ms)).await;
        let mut client = Client::default();
        loop {
            let Ok(place) = places.acquire().await else { return };
            self.count(|metrics| metrics.attempt.inc());
            let limit = Duration::from_millis(self.plan.check.timeout_ms);
            let outcome = match timeout(limit, client.ask(&self)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    client = Client::default();
                    let why = format!("no answer within {} ms", self.plan.check.timeout_ms);
                    Outcome::Failure { kind: FailureKind::Timeout, why }
                }
            };
            drop(place);
            if !self.plan.check.reuse_connection {
                client = Client::default();
            }
            let transition = self.take(&outcome);
            let base = pause(&intervals, outcome == Outcome::Success, transition, self.has_traffic());
            let jitter = random(base.saturating_mul(intervals.jitter_percent.into()) / 100);
            sleep(Duration::from_millis(base.max(1)) + jitter + random(intervals.jitter_ms)).await;
        }
    }

    /// Counts an outcome, and tells the clusters what has changed.
    fn take(&self, outcome: &Outcome) -> Transition {
        let (transition, health, is_first) = {
            let mut known = self.known();
            let is_first = known.tally.is_first();
            let transition = known.tally.note(outcome, &self.plan.check);
            let failure = match outcome {
                Outcome::Success => None,
                Outcome::Failure { why, .. } => Some(why.clone()),
            };
            known.last = LastCheck { at: Some(Instant::now()), failure };
            (transition, known.tally.health, is_first)
        };
        self.count(|metrics| match outcome {
            Outcome::Success => metrics.success.inc(),
            Outcome::Failure { kind, .. } => {
                metrics.failure.inc();
                if kind.is_of_network() {
                    metrics.network_failure.inc();
                }
            }
        });
        self.log(outcome, transition, health, is_first);
        for watcher in self.watchers() {
            if let Some(cluster) = watcher.cluster.upgrade() {
                cluster.note_check(self.endpoint, *outcome == Outcome::Success && health.passes());
            }
        }
        if is_first {
            self.decided.tell();
        }
        transition
    }

    /// Envoy's health check events: `add_healthy_event`, `eject_unhealthy_event` and `health_check_failure_event`.
    fn log(&self, outcome: &Outcome, transition: Transition, health: ActiveHealth, is_first: bool) {
        let names: Vec<Arc<str>> =
            self.watchers().iter().filter_map(|watcher| Some(watcher.cluster.upgrade()?.name.clone())).collect();
        let (clusters, address) = (names.join(","), self.endpoint);
        let check = self.plan.check.probe.name();
        match outcome {
            Outcome::Success if transition == Transition::Changed && health.passes() => {
                tracing::info!(%address, clusters, check, first_check = is_first, "endpoint is healthy");
            }
            Outcome::Success => {}
            Outcome::Failure { kind, why } => {
                let kind = kind.name();
                if transition == Transition::Changed {
                    tracing::warn!(%address, clusters, check, kind, why, first_check = is_first, "endpoint is unhealthy");
                } else if self.plan.check.always_log_failures {
                    tracing::warn!(%address, clusters, check, kind, why, "health check failed");
                }
            }
        }
    }

    /// True once one of the clusters has had a connection.
    fn has_traffic(&self) -> bool {
        let used = |watcher: &Watcher| {
            watcher.cluster.upgrade().is_some_and(|cluster| cluster.metrics.upstream_cx_total.value() > 0)
        };
        self.watchers().iter().any(used)
    }

    fn count(&self, count: impl Fn(&HealthCheckMetrics)) {
        self.locked_watchers().iter().for_each(|watcher| count(&watcher.metrics));
    }

    /// A copy: whoever is told takes locks of its own.
    fn watchers(&self) -> Vec<Watcher> {
        self.locked_watchers().clone()
    }

    fn locked_watchers(&self) -> MutexGuard<'_, Vec<Watcher>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At random, less than so many milliseconds.
fn random(ms: u64) -> Duration {
    Duration::from_millis(if ms == 0 { 0 } else { rand::rng().random_range(0..ms) })
}
