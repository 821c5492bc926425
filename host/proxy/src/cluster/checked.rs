//! What active health checks mean for a cluster: who is asked, and what becomes of the answers.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use portolan_telemetry::{HealthCheckMetrics, UpstreamAddress};

use super::ClusterState;
use crate::endpoint::EndpointState;
use crate::health::{ActiveHealth, CheckPlan, HealthChecks, LastCheck, Lease, Tally, Watcher};

/// The checks of a cluster's endpoints.
#[derive(Debug)]
pub(crate) struct ClusterChecks {
    wanted: WantedChecks,
    /// By endpoint.
    leases: HashMap<UpstreamAddress, Lease>,
}

/// How a cluster's endpoints are to be checked.
pub(crate) struct WantedChecks {
    pub(crate) checks: Arc<HealthChecks>,
    pub(crate) plan: Arc<CheckPlan>,
    pub(crate) metrics: Arc<HealthCheckMetrics>,
}

impl std::fmt::Debug for WantedChecks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WantedChecks").field("check", &self.plan.check).finish_non_exhaustive()
    }
}

impl ClusterChecks {
    fn lease(&self, cluster: &Arc<ClusterState>, endpoint: UpstreamAddress, start: Tally) -> Lease {
        let WantedChecks { checks, plan, metrics } = &self.wanted;
        let watcher = Watcher { cluster: Arc::downgrade(cluster), metrics: metrics.clone() };
        checks.lease(plan, endpoint, start, watcher)
    }
}

impl ClusterState {
    /// Has the endpoints checked like this from now on, or not at all. The same as before is no change; with other settings
    /// what is known of an endpoint stays, and one that nobody has checked serves on until its first check.
    pub(crate) fn set_checks(self: &Arc<Self>, wanted: Option<WantedChecks>) {
        let Ok(mut slot) = self.endpoints.lock() else { return };
        let mut checks = self.checks();
        let is_same = match (&*checks, &wanted) {
            (None, None) => true,
            (Some(now), Some(wanted)) => now.wanted.plan.is_same(&wanted.plan),
            _ => false,
        };
        if is_same {
            return;
        }
        let old = checks.take();
        let mut new = wanted.map(|wanted| Box::new(ClusterChecks { wanted, leases: HashMap::new() }));
        for endpoint in &slot.endpoints {
            let known = old.as_ref().and_then(|old| old.leases.get(&endpoint.address));
            let start = known.map_or_else(Tally::serving, |lease| lease.target().tally());
            let lease = new.as_ref().map(|new| new.lease(self, endpoint.address, start));
            endpoint.set_active_health(lease.as_ref().map_or(ActiveHealth::Unchecked, |lease| lease.target().health()));
            if let (Some(new), Some(lease)) = (&mut new, lease) {
                new.leases.insert(endpoint.address, lease);
            }
        }
        *checks = new;
        drop(checks);
        let (endpoints, balancing) = (slot.endpoints.clone(), slot.plan.balancing);
        self.replace(&mut slot, endpoints, balancing);
    }

    /// Nobody asks any more: the cluster has left the configuration. What is known stays, for streams of older snapshots.
    pub(crate) fn end_checks(&self) {
        let ended = self.checks().take();
        drop(ended);
    }

    /// Has these endpoints checked, and no others. A new one is unhealthy until its first check.
    pub(super) fn check(self: &Arc<Self>, endpoints: &[Arc<EndpointState>]) {
        let mut checks = self.checks();
        let Some(checks) = checks.as_deref_mut() else { return };
        let mut old = std::mem::take(&mut checks.leases);
        for endpoint in endpoints {
            let known = old.remove(&endpoint.address);
            let lease = known.unwrap_or_else(|| checks.lease(self, endpoint.address, Tally::pending()));
            endpoint.set_active_health(lease.target().health());
            checks.leases.insert(endpoint.address, lease);
        }
    }

    /// An endpoint has been checked. `is_well`: it is healthy after a success, which ends an ejection too, as in Envoy.
    pub(crate) fn note_check(self: &Arc<Self>, address: UpstreamAddress, is_well: bool) {
        let Ok(slot) = self.endpoints.lock() else { return };
        let Some(endpoint) = slot.endpoints.iter().find(|endpoint| endpoint.address == address) else { return };
        // Of the cluster's own part: the check that has just ended may not be the cluster's any more.
        let health = self.checks().as_ref().and_then(|checks| Some(checks.leases.get(&address)?.target().health()));
        let Some(health) = health else { return };
        let before = endpoint.set_active_health(health);
        let is_back = is_well && endpoint.end_ejection();
        if before.passes() == health.passes() && !is_back {
            return;
        }
        drop(slot);
        self.health_changed();
    }

    /// True while an endpoint has not had its first check.
    pub(crate) fn awaits_checks(&self) -> bool {
        self.endpoints().endpoints.iter().any(|endpoint| endpoint.active_health() == ActiveHealth::Pending)
    }

    /// The newest health check of an endpoint; none where there is none.
    pub fn last_check(&self, address: UpstreamAddress) -> Option<LastCheck> {
        Some(self.checks().as_ref()?.leases.get(&address)?.target().last())
    }

    pub(super) fn measure_checks(&self, endpoints: &[Arc<EndpointState>]) {
        if let Some(checks) = &*self.checks() {
            let healthy = endpoints.iter().filter(|endpoint| endpoint.active_health().passes()).count();
            checks.wanted.metrics.healthy.set(i64::try_from(healthy).unwrap_or(i64::MAX));
        }
    }

    fn checks(&self) -> MutexGuard<'_, Option<Box<ClusterChecks>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
