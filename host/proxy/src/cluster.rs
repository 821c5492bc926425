//! [`ClusterState`]: counters and endpoints of one cluster, shared by all workers; outlives snapshots.

mod checked;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use portolan_model::OutlierDetection;
use portolan_model::filter::{EndpointRecord, Outcome};
use portolan_telemetry::{ClusterMetrics, UpstreamAddress};
use tokio::sync::Notify;

use crate::clock;
pub(crate) use crate::cluster::checked::WantedChecks;
use crate::endpoint::{EndpointState, NewEndpoint};
use crate::plan::{Balancing, Plan};
use crate::upkeep;

/// What all workers know together of one cluster, found again by name when a snapshot is built.
#[derive(Debug)]
pub struct ClusterState {
    /// `outbound|port|subset|host`.
    pub name: Arc<str>,
    /// Counters under Envoy's names.
    pub metrics: Arc<ClusterMetrics>,
    /// Requests that the circuit breaker admitted and that are not over.
    admitted: AtomicU32,
    /// Requests that wait for a connection.
    pending: AtomicU32,
    /// Connections open or being opened.
    connections: AtomicU32,
    /// Retries in flight.
    retries: AtomicU32,
    /// Woken when a connection or a place for one became free.
    pub(crate) available: Notify,
    /// Woken when a worker needs a connection and all places are taken: others give up idle ones.
    pub(crate) demand: Notify,
    /// Requests that wait on [`Self::available`].
    pub(crate) waiting: AtomicU32,
    version: AtomicU64,
    endpoints: Mutex<Arc<EndpointSet>>,
    ejections: Mutex<()>,
    names: Mutex<Vec<NameAnswer>>,
    /// Locked after the endpoints. None where there are no health checks.
    checks: Mutex<Option<Box<checked::ClusterChecks>>>,
}

/// What DNS said of a name of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAnswer {
    /// `host:port`.
    pub name: String,
    /// How many addresses the newest answer has.
    pub addresses: usize,
    /// When it came; none before the first one.
    pub answered: Option<Instant>,
    /// Why the last question had no answer; what is known stays.
    pub error: Option<String>,
}

/// The endpoints of a cluster at one time.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// Changes with each set.
    pub version: u64,
    /// In the model's order.
    pub endpoints: Vec<Arc<EndpointState>>,
    /// How to choose among them, as their health is now.
    pub(crate) plan: Plan,
}

impl ClusterState {
    /// A cluster without endpoints.
    pub fn new(name: Arc<str>, metrics: Arc<ClusterMetrics>) -> Self {
        Self {
            name,
            metrics,
            admitted: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            retries: AtomicU32::new(0),
            available: Notify::new(),
            demand: Notify::new(),
            waiting: AtomicU32::new(0),
            version: AtomicU64::new(0),
            endpoints: Mutex::new(Arc::new(EndpointSet::default())),
            ejections: Mutex::new(()),
            names: Mutex::default(),
            checks: Mutex::default(),
        }
    }

    /// Brings the gauges of membership up to date: endpoints return by themselves, when they are looked at.
    pub(crate) fn measure(&self) {
        let set = self.endpoints();
        let count = |is: fn(&EndpointState) -> bool| {
            let those = set.endpoints.iter().filter(|endpoint| is(endpoint));
            i64::try_from(those.count()).unwrap_or(i64::MAX)
        };
        self.metrics.membership_healthy.set(count(EndpointState::is_healthy));
        self.metrics.outlier_detection_ejections_active.set(count(EndpointState::is_ejected));
        self.measure_checks(&set.endpoints);
    }

    /// The endpoints now.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |set| set.clone())
    }

    /// What DNS said of the cluster's names; empty for one of addresses.
    pub fn names(&self) -> Vec<NameAnswer> {
        self.names.lock().map_or_else(|poisoned| poisoned.into_inner().clone(), |names| names.clone())
    }

    /// Notes what DNS has said.
    pub(crate) fn set_names(&self, names: Vec<NameAnswer>) {
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Grows with each change of the endpoints; a worker keeps its own copy of the set until it moves.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Replaces the endpoints; an address that stays keeps its health, counters and connections. Off the workers: it may
    /// build a hash table.
    pub(crate) fn set_endpoints(self: &Arc<Self>, new: &[NewEndpoint]) {
        let Ok(mut slot) = self.endpoints.lock() else { return };
        let old: HashMap<UpstreamAddress, &Arc<EndpointState>> =
            slot.endpoints.iter().map(|e| (e.address, e)).collect();
        let mut endpoints: Vec<Arc<EndpointState>> = Vec::with_capacity(new.len());
        let mut seen = HashSet::with_capacity(new.len());
        for new in new.iter().filter(|new| seen.insert(new.address)) {
            endpoints.push(match old.get(&new.address) {
                Some(known) if known.is(new) => (*known).clone(),
                Some(known) => Arc::new(known.renewed(new)),
                None => Arc::new(EndpointState::new(new)),
            });
        }
        let same = endpoints.len() == slot.endpoints.len()
            && endpoints.iter().zip(&slot.endpoints).all(|(a, b)| Arc::ptr_eq(a, b));
        if same && slot.version > 0 {
            return;
        }
        self.metrics.membership_total.set(i64::try_from(endpoints.len()).unwrap_or(i64::MAX));
        self.check(&endpoints);
        let balancing = slot.plan.balancing;
        self.replace(&mut slot, endpoints, balancing);
    }

    /// Chooses by this from now on.
    pub(crate) fn set_balancing(self: &Arc<Self>, balancing: Balancing) {
        let Ok(mut slot) = self.endpoints.lock() else { return };
        if slot.plan.balancing != balancing {
            let endpoints = slot.endpoints.clone();
            self.replace(&mut slot, endpoints, balancing);
        }
    }

    /// Works the plan out again, since endpoints have been ejected, have come back or have warmed up.
    pub(crate) fn renew_plan(self: &Arc<Self>) {
        let Ok(mut slot) = self.endpoints.lock() else { return };
        let (endpoints, balancing) = (slot.endpoints.clone(), slot.plan.balancing);
        self.replace(&mut slot, endpoints, balancing);
    }

    fn replace(
        self: &Arc<Self>,
        slot: &mut Arc<EndpointSet>,
        endpoints: Vec<Arc<EndpointState>>,
        balancing: Balancing,
    ) {
        let version = slot.version + 1;
        let plan = Plan::new(&endpoints, balancing);
        if plan.slow_until_ms != 0 {
            upkeep::renew_at(plan.slow_until_ms, self);
        }
        *slot = Arc::new(EndpointSet { version, endpoints, plan });
        self.version.store(version, Release);
    }

    /// Takes one of `limit` places for a request; given back by dropping the permit.
    pub(crate) fn admit(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        take(&self.admitted, limit).then(|| Permit { cluster: self.clone(), place: Place::Request })
    }

    /// Takes one of `limit` places for a request that waits for a connection.
    pub(crate) fn wait_for_connection(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        take(&self.pending, limit).then(|| {
            self.metrics.upstream_rq_pending_total.inc();
            self.metrics.upstream_rq_pending_active.inc();
            Permit { cluster: self.clone(), place: Place::Pending }
        })
    }

    /// Takes one of `limit` places for a connection.
    pub(crate) fn open_connection(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        take(&self.connections, limit).then(|| {
            self.metrics.upstream_cx_total.inc();
            self.metrics.upstream_cx_active.inc();
            Permit { cluster: self.clone(), place: Place::Connection }
        })
    }

    /// Takes one of `limit` places for a retry.
    pub(crate) fn retry(self: &Arc<Self>, limit: u32) -> Option<Permit> {
        take(&self.retries, limit).then(|| Permit { cluster: self.clone(), place: Place::Retry })
    }

    /// Requests admitted by the circuit breaker, waiting requests, open connections and retries in flight.
    pub fn in_flight(&self) -> (u32, u32, u32, u32) {
        (
            self.admitted.load(Relaxed),
            self.pending.load(Relaxed),
            self.connections.load(Relaxed),
            self.retries.load(Relaxed),
        )
    }

    /// Counts an outcome of an endpoint and tells what is known of it.
    pub(crate) fn report(
        &self,
        endpoint: &EndpointState,
        outcome: Outcome,
        detection: Option<&OutlierDetection>,
    ) -> EndpointRecord {
        if outcome == Outcome::Success && endpoint.is_clean() {
            // The common case: nothing to reset, and nothing that could lead to an ejection.
            return EndpointRecord::default();
        }
        let record = endpoint.report(outcome, detection.map_or(10_000, |d| d.interval_ms));
        let set = self.endpoints();
        let ejected = set.endpoints.iter().filter(|e| e.is_ejected()).count();
        EndpointRecord {
            endpoints: u32::try_from(set.endpoints.len()).unwrap_or(u32::MAX),
            ejected_endpoints: u32::try_from(ejected).unwrap_or(u32::MAX),
            ..record
        }
    }

    /// Ejects an endpoint unless that passes `max_percent` of all, itself included. True when it is ejected now.
    pub(crate) fn eject(
        self: &Arc<Self>,
        endpoint: &EndpointState,
        duration_ms: u64,
        max_percent: u32,
        interval_ms: u64,
    ) -> bool {
        let Ok(_guard) = self.ejections.lock() else { return false };
        let set = self.endpoints();
        let ejected = set.endpoints.iter().filter(|e| e.is_ejected()).count();
        if endpoint.is_ejected() {
            return false;
        }
        self.metrics.outlier_detection_ejections_total.inc();
        if (ejected + 1) * 100 > set.endpoints.len() * max_percent as usize {
            self.metrics.outlier_detection_ejections_overflow.inc();
            return false;
        }
        endpoint.eject(duration_ms, interval_ms);
        self.metrics.outlier_detection_ejections_enforced_total.inc();
        self.health_changed();
        upkeep::renew_at(clock::now_ms().saturating_add(duration_ms), self);
        true
    }

    /// Endpoints have become unhealthy, or healthy again.
    fn health_changed(self: &Arc<Self>) {
        if self.endpoints().plan.balancing.policy.is_consistent() {
            // Its table takes a while; until then the balancer looks past the endpoint.
            upkeep::renew_at(clock::now_ms(), self);
        } else {
            self.renew_plan();
        }
    }
}

/// A taken place of one of the cluster's limits.
#[derive(Debug)]
pub(crate) struct Permit {
    cluster: Arc<ClusterState>,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Request,
    Pending,
    Connection,
    Retry,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let cluster = &self.cluster;
        match self.place {
            Place::Request => cluster.admitted.fetch_sub(1, AcqRel),
            Place::Retry => cluster.retries.fetch_sub(1, AcqRel),
            Place::Pending => {
                cluster.metrics.upstream_rq_pending_active.dec();
                cluster.pending.fetch_sub(1, AcqRel)
            }
            Place::Connection => {
                cluster.metrics.upstream_cx_active.dec();
                let before = cluster.connections.fetch_sub(1, AcqRel);
                cluster.available.notify_waiters();
                before
            }
        };
    }
}

/// In one step: a place added first and taken back where there are too many would hide one that comes back meanwhile.
fn take(counter: &AtomicU32, limit: u32) -> bool {
    counter.fetch_update(AcqRel, Relaxed, |taken| (taken < limit).then_some(taken + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use portolan_telemetry::Metrics;

    fn cluster() -> Arc<ClusterState> {
        Arc::new(ClusterState::new("c".into(), Metrics::new().cluster("c")))
    }

    fn at(port: u16) -> NewEndpoint {
        NewEndpoint::at(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let cluster = cluster();
        let first = cluster.admit(1);
        assert!(first.is_some() && cluster.admit(1).is_none());
        drop(first);
        assert!(cluster.admit(1).is_some());
    }

    #[test]
    fn an_address_that_stays_keeps_its_state() {
        let cluster = cluster();
        cluster.set_endpoints(&[at(1), at(2)]);
        let before = cluster.endpoints();
        cluster.set_endpoints(&[at(2), at(3)]);
        let after = cluster.endpoints();
        assert!(Arc::ptr_eq(&before.endpoints[1], &after.endpoints[0]));
        assert!(after.version > before.version);
    }

    #[test]
    fn the_same_endpoints_are_no_change() {
        let cluster = cluster();
        cluster.set_endpoints(&[at(1)]);
        let version = cluster.version();
        cluster.set_endpoints(&[at(1)]);
        assert_eq!(cluster.version(), version);
    }

    #[test]
    fn ten_percent_of_nine_endpoints_ejects_none_and_of_ten_one() {
        let cluster = cluster();
        cluster.set_endpoints(&(1..10).map(at).collect::<Vec<_>>());
        let set = cluster.endpoints();
        assert!(!cluster.eject(&set.endpoints[0], 1000, 10, 1000));
        cluster.set_endpoints(&(1..11).map(at).collect::<Vec<_>>());
        let set = cluster.endpoints();
        assert!(cluster.eject(&set.endpoints[0], 1000, 10, 1000));
        assert!(!cluster.eject(&set.endpoints[1], 1000, 10, 1000));
    }
}
