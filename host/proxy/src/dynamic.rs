//! Clusters of `resolution: DYNAMIC_DNS`, Envoy's dynamic forward proxy: a pool for each host that requests name, or
//! connections by their server name, resolved from the first one on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, header};
use portolan_model::DynamicHosts;
use tokio::time::timeout;

use crate::clock;
use crate::cluster::ClusterState;
use crate::dns::Following;
use crate::local_reply::Reply;
use crate::pool::ClusterPool;
use crate::snapshot::ClusterEntry;
use crate::stream::Stream;
use crate::upstream::without_port;
use crate::view::View;
use crate::worker::Worker;

/// Hosts of one cluster and worker, Envoy's default. One more takes the place of the one that was not used for longest.
const MAX_HOSTS: usize = 1024;

/// A host that nobody has asked for so long is forgotten; Envoy's default, in milliseconds.
const KEPT_MS: u64 = 300_000;

/// The same for one without an address.
const KEPT_WITHOUT_ADDRESS_MS: u64 = 5_000;

/// How long a request waits for the first answer of DNS; Envoy's default.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One worker's hosts of one cluster.
#[derive(Default)]
pub(crate) struct Hosts(RefCell<HashMap<Box<str>, Rc<Host>>>);

struct Host {
    pool: Rc<ClusterPool>,
    /// Resolves the name as long as it is here.
    following: Following,
    used_ms: Cell<u64>,
}

/// A cluster whose clients name their hosts, and what this worker knows of it.
pub(crate) struct Named<'a> {
    pub(crate) cluster: &'a ClusterEntry,
    pub(crate) allowed: &'a DynamicHosts,
    pub(crate) pool: &'a ClusterPool,
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    /// The ServiceEntry is not for it, or nothing names one.
    #[error("the request's host is none of `{0}`")]
    NotAllowed(String),
    /// DNS knows none, or does not answer.
    #[error("DNS has no address of {0}")]
    NoAddress(String),
}

/// The pool of the host that the request is for, as it goes upstream.
pub(crate) async fn pool_of_request(stream: &Rc<Stream>, named: &Named<'_>) -> Result<Rc<ClusterPool>, Box<Reply>> {
    let name = stream.with_state(|state| host_of(&state.request.headers));
    pool(&stream.worker, &stream.view, named, name.as_deref()).await.map_err(|cause| {
        let name = named.cluster.state.name.clone();
        stream.note(|info| info.upstream_cluster = Some(name));
        Box::new(Reply::unresolved(cause.to_string()))
    })
}

/// The host that a request names, without its port.
pub(crate) fn host_of(headers: &HeaderMap) -> Option<String> {
    let authority = headers.get(header::HOST)?.to_str().ok()?;
    Some(without_port(authority).to_owned())
}

/// The pool of a host that a request or a connection names. There is none for a host that the ServiceEntry is not for:
/// clients must not choose whom the gateway connects to.
pub(crate) async fn pool(
    worker: &Worker,
    view: &View,
    named: &Named<'_>,
    name: Option<&str>,
) -> Result<Rc<ClusterPool>, Unresolved> {
    let allowed = named.allowed;
    let Some(name) = name.filter(|name| allowed.covers(name)).map(str::to_ascii_lowercase) else {
        return Err(Unresolved::NotAllowed(allowed.host.clone()));
    };
    let new = || Host::new((worker, view), named.cluster, &name, allowed.port);
    let host = named.pool.dynamic.find(&name, new);
    let mut answered = host.following.answered.clone();
    // The sender goes away only when nothing can be resolved here at all.
    let waited = timeout(LONGEST_WAIT, answered.wait_for(|answered| *answered)).await;
    if waited.is_err() || !host.is_resolved() {
        return Err(Unresolved::NoAddress(name));
    }
    Ok(host.pool.clone())
}

impl Hosts {
    fn find(&self, name: &str, new: impl FnOnce() -> Host) -> Rc<Host> {
        let mut hosts = self.0.borrow_mut();
        if let Some(known) = hosts.get(name) {
            known.used_ms.set(clock::now_ms());
            return known.clone();
        }
        if hosts.len() >= MAX_HOSTS {
            let oldest = hosts.iter().min_by_key(|(_, host)| host.used_ms.get()).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| hosts.remove(&oldest));
        }
        let host = Rc::new(new());
        hosts.insert(name.into(), host.clone());
        host
    }

    /// Forgets what was not used for long, and closes idle connections.
    pub(crate) fn sweep(&self, now_ms: u64, idle_timeout_ms: u64) {
        self.0.borrow_mut().retain(|_, host| {
            host.pool.sweep(now_ms, idle_timeout_ms);
            let kept_ms = if host.is_resolved() { KEPT_MS } else { KEPT_WITHOUT_ADDRESS_MS };
            now_ms.saturating_sub(host.used_ms.get()) < kept_ms || Rc::strong_count(host) > 1
        });
    }
}

impl Host {
    /// Counts for the cluster, and has the port that the ServiceEntry says.
    fn new((worker, view): (&Worker, &View), cluster: &ClusterEntry, name: &str, port: u16) -> Self {
        let state = Arc::new(ClusterState::new(cluster.state.name.clone(), cluster.state.metrics.clone()));
        let following = view.snapshot.names.follow(&state, name, port);
        let pool = worker.with_rng(|rng| ClusterPool::new(state, rng));
        Self { pool, following, used_ms: Cell::new(clock::now_ms()) }
    }

    fn is_resolved(&self) -> bool {
        !self.pool.state.endpoints().endpoints.is_empty()
    }
}
