//! Resolves the names of clusters again and again (Envoy's STRICT_DNS): every address counts, TTLs are kept within bounds,
//! stale answers stay while DNS fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use portolan_model::{Address, Endpoint, Origin};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::cluster::{ClusterState, NewEndpoint};

/// Answers are kept at least and at most this long, whatever their TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after a failure: Envoy's default refresh rate.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A new snapshot waits this long for the first answers of its new clusters.
const WARMING: Duration = Duration::from_secs(1);

/// Keeps the endpoints of clusters with names up to date, on a thread of its own.
pub(crate) struct Resolution {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
    tasks: HashMap<Arc<str>, Task>,
}

/// Resolves names that come up while requests are served, on the same thread.
#[derive(Clone)]
pub(crate) struct Names {
    handle: Handle,
}

/// Keeps one cluster resolved until it is dropped.
pub(crate) struct Following {
    /// True once DNS has answered for the first time, well or badly.
    pub(crate) answered: watch::Receiver<bool>,
    abort: AbortHandle,
}

/// Which of a name's addresses count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Families {
    All,
    /// IPv4 only, when there is an IPv4 address.
    OneIfPossible,
}

/// Called once, with the first answer.
type First = Box<dyn FnOnce() + Send>;

struct Task {
    endpoints: Vec<Endpoint>,
    state: Arc<ClusterState>,
    abort: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Resolution {
    pub(crate) fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            // Resolves when the sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, _stop: stop, tasks: HashMap::new() })
    }

    /// For the snapshots.
    pub(crate) fn names(&self) -> Names {
        Names { handle: self.handle.clone() }
    }

    /// Resolves these clusters from now on, and no others. Waits a moment for the first answers of new ones.
    pub(crate) fn follow(&mut self, clusters: Vec<(Arc<ClusterState>, Vec<Endpoint>)>) {
        let mut old = std::mem::take(&mut self.tasks);
        let (first_answer, first_answers) = mpsc::channel();
        let mut new = 0;
        for (state, endpoints) in clusters {
            let task = match old.remove(&state.name) {
                Some(task) if task.endpoints == endpoints && Arc::ptr_eq(&task.state, &state) => task,
                _ => {
                    new += 1;
                    let first_answer = first_answer.clone();
                    // Nobody waits any more when the snapshot was published without this answer.
                    let first: First = Box::new(move || {
                        let _ = first_answer.send(());
                    });
                    let job = keep_resolving(state.clone(), endpoints.clone(), Families::All, first);
                    let abort = self.handle.spawn(job).abort_handle();
                    Task { endpoints, state: state.clone(), abort }
                }
            };
            self.tasks.insert(state.name.clone(), task);
        }
        let deadline = Instant::now() + WARMING;
        for _ in 0..new {
            let left = deadline.saturating_duration_since(Instant::now());
            if first_answers.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }
}

impl Names {
    /// Resolves one host from now on, to IPv4 addresses when it has any, as Istio's clusters do by default: nothing tries
    /// the next address when the first cannot be reached.
    pub(crate) fn follow(&self, state: &Arc<ClusterState>, host: &str, port: u16) -> Following {
        let (tell, answered) = watch::channel(false);
        let address = Address::Dns { host: host.to_owned(), port };
        let endpoint = Endpoint { address, weight: 1, origin: Origin::default() };
        // Nobody listens any more when the cluster has gone in between.
        let first: First = Box::new(move || {
            let _ = tell.send(true);
        });
        let job = keep_resolving(state.clone(), vec![endpoint], Families::OneIfPossible, first);
        Following { answered, abort: self.handle.spawn(job).abort_handle() }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

async fn keep_resolving(state: Arc<ClusterState>, endpoints: Vec<Endpoint>, families: Families, first: First) {
    let mut first = Some(first);
    let mut known: HashMap<(String, u16), Vec<SocketAddr>> = HashMap::new();
    let resolver = loop {
        match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
            Ok(resolver) => break resolver,
            Err(error) => {
                tracing::warn!(cluster = %state.name, %error, "no DNS configuration");
                first = None;
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    };
    loop {
        let mut pause = LONGEST;
        for endpoint in &endpoints {
            let Address::Dns { host, port } = &endpoint.address else { continue };
            match resolver.lookup_ip(host.as_str()).await {
                Ok(answer) => {
                    pause = pause.min(answer.valid_until().saturating_duration_since(Instant::now()).max(SHORTEST));
                    let mut addresses: Vec<_> = answer.iter().map(|ip| SocketAddr::new(ip, *port)).collect();
                    addresses.sort_unstable();
                    if families == Families::OneIfPossible && addresses.iter().any(SocketAddr::is_ipv4) {
                        addresses.retain(SocketAddr::is_ipv4);
                    }
                    known.insert((host.clone(), *port), addresses);
                    state.metrics.update_success.inc();
                }
                Err(error) => {
                    tracing::warn!(cluster = %state.name, host, %error, "the name does not resolve; what is known stays");
                    state.metrics.update_failure.inc();
                    pause = pause.min(AFTER_FAILURE);
                }
            }
        }
        state.set_endpoints(&resolved(&endpoints, &known));
        if let Some(first) = first.take() {
            first();
        }
        tokio::time::sleep(pause).await;
    }
}

/// Endpoints with each name replaced by its addresses.
fn resolved(endpoints: &[Endpoint], known: &HashMap<(String, u16), Vec<SocketAddr>>) -> Vec<NewEndpoint> {
    let mut out = Vec::new();
    for endpoint in endpoints {
        match &endpoint.address {
            Address::Socket(address) => out.push((*address, endpoint.weight, endpoint.origin.clone())),
            Address::Dns { host, port } => {
                let addresses = known.get(&(host.clone(), *port)).into_iter().flatten();
                out.extend(addresses.map(|address| (*address, endpoint.weight, endpoint.origin.clone())));
            }
        }
    }
    out
}
