//! [`Reach`]: how callouts of one worker find their hosts: the snapshot's clusters, and clusters made up for `HOST:PORT`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{CircuitBreakers, ClusterId, Origin};
use portolan_telemetry::UpstreamAddress;
use portolan_wasm::Upstream;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::http2::Http2;
use super::redis::Servers;
use crate::balancer::Avoid;
use crate::clock;
use crate::cluster::ClusterState;
use crate::dns::Following;
use crate::endpoint::NewEndpoint;
use crate::pool::{ClusterPool, EndpointPool, PoolLimits};
use crate::snapshot::ClusterEntry;
use crate::upstream::UpstreamTransport;
use crate::view::View;
use crate::worker::Worker;

/// Most made-up clusters of one worker. One more takes the place of the one that was not used for longest.
const MAX_MADE_UP: usize = 100;

/// A made-up cluster, and a connection of it, is dropped after this time without a callout.
const KEPT: Duration = Duration::from_secs(600);

/// How long a callout waits for a snapshot that has its cluster.
const ADOPTION: Duration = Duration::from_secs(1);

/// Envoy's default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The name under which all made-up clusters are counted together: their own names come from filters, without bound.
pub(crate) const MADE_UP: &str = "callout";

/// What callouts keep on one worker.
#[derive(Default)]
pub(crate) struct Reach {
    made_up: RefCell<HashMap<Upstream, Rc<MadeUp>>>,
    pub(super) http2: Http2,
    pub(super) redis: Servers,
    adopted: Notify,
}

/// A cluster of one address or name.
pub(crate) struct MadeUp {
    entry: ClusterEntry,
    pool: Rc<ClusterPool>,
    /// Resolves the name as long as the cluster is there.
    following: Option<Following>,
    used_ms: Cell<u64>,
}

/// Where a callout goes.
#[derive(Clone)]
pub(crate) enum Target {
    Configured(Rc<View>, ClusterId),
    MadeUp(Rc<MadeUp>),
}

impl Reach {
    /// The target of this name, in the snapshot that is current now. Filters know of a new cluster a moment before the
    /// worker serves with it: they may ask for it while they start.
    pub(super) async fn find(worker: &Rc<Worker>, upstream: &Upstream) -> Option<Target> {
        let Upstream::Cluster(name) = upstream else {
            return Some(Target::MadeUp(worker.reach.made_up(worker, upstream)));
        };
        let adopted = worker.reach.adopted.notified();
        tokio::pin!(adopted);
        adopted.as_mut().enable();
        if let Some(found) = configured(worker, name) {
            return Some(found);
        }
        // Running out is as good: the cluster may have been taken away just now.
        let _ = timeout(ADOPTION, adopted).await;
        configured(worker, name)
    }

    /// The worker serves with another snapshot from now on.
    pub(crate) fn on_adopted(&self) {
        self.adopted.notify_waiters();
    }

    fn made_up(&self, worker: &Rc<Worker>, upstream: &Upstream) -> Rc<MadeUp> {
        let now = clock::now_ms();
        let mut all = self.made_up.borrow_mut();
        if let Some(known) = all.get(upstream) {
            known.used_ms.set(now);
            return known.clone();
        }
        if all.len() >= MAX_MADE_UP {
            let oldest = all.iter().min_by_key(|(_, made_up)| made_up.used_ms.get()).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| all.remove(&oldest));
        }
        let made_up = Rc::new(MadeUp::new(worker, upstream, now));
        all.insert(upstream.clone(), made_up.clone());
        made_up
    }

    /// Drops what was not used for long, and closes idle connections.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        self.made_up.borrow_mut().retain(|_, made_up| {
            made_up.pool.sweep(now_ms, kept_ms);
            now_ms.saturating_sub(made_up.used_ms.get()) < kept_ms || Rc::strong_count(made_up) > 1
        });
        self.http2.sweep(now_ms, kept_ms);
        self.redis.sweep(now_ms, kept_ms);
    }
}

fn configured(worker: &Worker, name: &str) -> Option<Target> {
    let view = worker.view();
    let id = view.snapshot.cluster_by_name(name.as_bytes());
    view.snapshot.cluster(id)?;
    Some(Target::Configured(view, id))
}

impl MadeUp {
    fn new(worker: &Rc<Worker>, upstream: &Upstream, now_ms: u64) -> Self {
        let view = worker.view();
        let snapshot = &view.snapshot;
        let name = match upstream {
            Upstream::Cluster(name) => name.clone(),
            Upstream::Address(address) => address.to_string().into(),
            Upstream::Name { host, port } => format!("{host}:{port}").into(),
        };
        let state = Arc::new(ClusterState::new(name, snapshot.metrics.cluster(MADE_UP)));
        let following = match upstream {
            Upstream::Address(address) => {
                state.set_endpoints(&[NewEndpoint::at(*address)]);
                None
            }
            Upstream::Name { host, port } => Some(snapshot.names.follow(&state, host, *port)),
            Upstream::Cluster(_) => None,
        };
        let pool = worker.with_rng(|rng| ClusterPool::new(state.clone(), rng));
        let entry = ClusterEntry {
            state,
            origin: Origin::default(),
            undefined: false,
            dynamic: None,
            is_consistent: false,
            hashes_source: false,
            limits: PoolLimits {
                breakers: CircuitBreakers::default(),
                connect_timeout: CONNECT_TIMEOUT,
                max_requests: 0,
                max_age_ms: u64::MAX,
            },
            idle_timeout: KEPT,
            transport: UpstreamTransport::plain(),
            outlier_detection: None,
            retry_budget: None,
        };
        Self { entry, pool, following, used_ms: Cell::new(now_ms) }
    }
}

impl Target {
    pub(super) fn cluster(&self) -> Option<&ClusterEntry> {
        match self {
            Self::Configured(view, id) => view.snapshot.cluster(*id),
            Self::MadeUp(made_up) => Some(&made_up.entry),
        }
    }

    pub(super) fn pool(&self) -> Option<&Rc<ClusterPool>> {
        match self {
            Self::Configured(view, id) => view.pools.get(*id as usize),
            Self::MadeUp(made_up) => Some(&made_up.pool),
        }
    }

    /// The cluster's limits: callouts are requests like any other to it, as in Envoy.
    pub(super) fn limits(&self) -> CircuitBreakers {
        match self {
            Self::Configured(view, id) => {
                let cluster = view.snapshot.model.clusters.get(*id as usize);
                cluster.map_or_else(CircuitBreakers::default, |cluster| cluster.circuit_breakers)
            }
            Self::MadeUp(_) => CircuitBreakers::default(),
        }
    }

    /// Waits for the first answer of DNS, good or bad, when the name has just come up.
    pub(super) async fn resolved(&self) {
        let Self::MadeUp(made_up) = self else { return };
        let Some(following) = &made_up.following else { return };
        let mut answered: watch::Receiver<bool> = following.answered.clone();
        // The sender goes away only when nothing can be resolved here at all.
        let _ = answered.wait_for(|answered| *answered).await;
    }

    /// An endpoint, by the cluster's policy.
    pub(super) fn pick(&self, worker: &Worker, avoid: Option<UpstreamAddress>) -> Option<Rc<EndpointPool>> {
        let (cluster, pool) = (self.cluster()?, self.pool()?);
        let found = pool.pick(worker, None, Avoid::hosts(avoid.as_slice()));
        if found.is_none() {
            cluster.state.metrics.upstream_cx_none_healthy.inc();
        }
        found
    }
}
