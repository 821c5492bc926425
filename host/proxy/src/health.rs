//! [`HealthChecks`]: asks endpoints for their health again and again, on a thread of its own. Clusters that want the same
//! of an address, such as the subsets of a service, share one check. Semantics are those of Envoy's health checker.

mod grpc;
mod http;
mod probe;
mod tally;
mod target;
mod tcp;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use portolan_model::{HealthCheck, Origin};
use portolan_telemetry::UpstreamAddress;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

use crate::cluster::ClusterState;
use crate::upstream::UpstreamTransport;

pub use tally::ActiveHealth;
pub(crate) use tally::Tally;
pub use target::LastCheck;
pub(crate) use target::{Target, Watcher};

/// So many checks are under way at one time; further ones wait for their turn, which is not counted as their time.
const AT_ONCE: usize = 256;

/// Addresses before those of gone endpoints are looked for and forgotten.
const SWEEP_FROM: usize = 256;

/// What is asked of an address, and how it is connected to.
pub(crate) struct CheckPlan {
    /// Without its origin, so that a line that moves starts nothing anew.
    pub(crate) check: HealthCheck,
    pub(crate) transport: Arc<UpstreamTransport>,
}

impl CheckPlan {
    pub(crate) fn new(check: &HealthCheck, transport: Arc<UpstreamTransport>) -> Self {
        Self { check: HealthCheck { origin: Origin::default(), ..check.clone() }, transport }
    }

    /// True when one check serves both.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.check == other.check && self.transport.is_same(&other.transport)
    }
}

/// All checks of the process.
pub(crate) struct HealthChecks {
    handle: Handle,
    running: Mutex<Running>,
    places: Arc<Semaphore>,
    decided: Arc<Decided>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// Woken when an endpoint's first check has decided.
#[derive(Default)]
pub(crate) struct Decided {
    lock: Mutex<()>,
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    by_address: HashMap<UpstreamAddress, Vec<Weak<Check>>>,
    sweep_at: usize,
}

/// A check under way, until the last cluster has given it up.
struct Check {
    target: Arc<Target>,
    abort: AbortHandle,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// A cluster's part in the check of one of its endpoints.
pub(crate) struct Lease {
    check: Arc<Check>,
    cluster: Weak<ClusterState>,
}

impl Lease {
    pub(crate) fn target(&self) -> &Target {
        &self.check.target
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.check.target.unwatch(&self.cluster);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").finish_non_exhaustive()
    }
}

impl HealthChecks {
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("health".to_owned()).spawn(move || {
            // Resolves when the sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Arc::new(Self {
            handle,
            running: Mutex::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            decided: Arc::default(),
            _stop: stop,
        }))
    }

    /// Takes part in the check of an endpoint, which begins now unless another cluster has it already; then `start` is what
    /// is known of the endpoint.
    pub(crate) fn lease(
        &self,
        plan: &Arc<CheckPlan>,
        endpoint: UpstreamAddress,
        start: Tally,
        watcher: Watcher,
    ) -> Lease {
        let cluster = watcher.cluster.clone();
        let mut running = self.running();
        running.sweep();
        let of_address = running.by_address.entry(endpoint).or_default();
        // Kept until the lock is free: the last of a check must not go while it is held.
        let known: Vec<Arc<Check>> = of_address.iter().filter_map(Weak::upgrade).collect();
        let same = known.iter().find(|check| check.target.plan.is_same(plan)).cloned();
        let check = same.unwrap_or_else(|| {
            let target = Arc::new(Target::new(endpoint, plan.clone(), start, self.decided.clone()));
            let task = self.handle.spawn(target.clone().keep_checking(self.places.clone()));
            let check = Arc::new(Check { target, abort: task.abort_handle() });
            of_address.push(Arc::downgrade(&check));
            check
        });
        check.target.watch(watcher);
        drop(running);
        Lease { check, cluster }
    }

    /// Waits until each of these clusters knows of all its endpoints, at most so long.
    pub(crate) fn await_first(&self, clusters: &[Arc<ClusterState>], limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut guard = self.decided.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while clusters.iter().any(|cluster| cluster.awaits_checks()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            guard = self.decided.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn sweep(&mut self) {
        if self.by_address.len() < self.sweep_at.max(SWEEP_FROM) {
            return;
        }
        self.by_address.retain(|_, checks| {
            checks.retain(|check| check.strong_count() > 0);
            !checks.is_empty()
        });
        self.sweep_at = 2 * self.by_address.len();
    }
}

impl Decided {
    fn tell(&self) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
