//! Resolves the names of clusters again and again (Envoy's STRICT_DNS and LOGICAL_DNS): TTLs are kept within bounds, stale
//! answers stay while DNS fails.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use portolan_model::{Address, Discovery, Endpoint, Origin};
use portolan_telemetry::UpstreamAddress;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::cluster::{ClusterState, NameAnswer};
use crate::endpoint::NewEndpoint;

/// Answers are kept at least and at most this long, whatever their TTL says.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Pause after a failure, where the mesh does not say it: Envoy's default refresh rate.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A new snapshot waits this long for the first answers of its new clusters.
const WARMING: Duration = Duration::from_secs(1);

/// Keeps the endpoints of clusters with names up to date, on a thread of its own.
pub(crate) struct Resolution {
    handle: Handle,
    server: Option<SocketAddr>,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
    tasks: HashMap<Arc<str>, Task>,
}

/// Resolves names that come up while requests are served, on the same thread.
#[derive(Clone)]
pub(crate) struct Names {
    handle: Handle,
    server: Option<SocketAddr>,
}

/// Keeps one cluster resolved until it is dropped.
pub(crate) struct Following {
    /// True once DNS has answered for the first time, well or badly.
    pub(crate) answered: watch::Receiver<bool>,
    abort: AbortHandle,
}

/// Called once, with the first answer.
type First = Box<dyn FnOnce() + Send>;

/// A cluster with names, as it is to be resolved.
#[derive(Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) discovery: Discovery,
    /// When it is asked again after a failure, or an answer that may not be kept.
    pub(crate) refresh_rate: Option<Duration>,
}

struct Task {
    named: Named,
    state: Arc<ClusterState>,
    abort: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Resolution {
    /// Asks this server, or those of the system.
    pub(crate) fn start(server: Option<SocketAddr>) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            // Resolves when the sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { handle, server, _stop: stop, tasks: HashMap::new() })
    }

    /// For the snapshots.
    pub(crate) fn names(&self) -> Names {
        Names { handle: self.handle.clone(), server: self.server }
    }

    /// Resolves these clusters from now on, and no others. Waits a moment for the first answers of new ones.
    pub(crate) fn follow(&mut self, clusters: Vec<(Arc<ClusterState>, Named)>) {
        let mut old = std::mem::take(&mut self.tasks);
        let (first_answer, first_answers) = mpsc::channel();
        let mut new = 0;
        for (state, named) in clusters {
            let task = match old.remove(&state.name) {
                Some(task) if task.named == named && Arc::ptr_eq(&task.state, &state) => task,
                _ => {
                    new += 1;
                    let first_answer = first_answer.clone();
                    // Nobody waits any more when the snapshot was published without this answer.
                    let first: First = Box::new(move || {
                        let _ = first_answer.send(());
                    });
                    let job = Job { state: state.clone(), named: named.clone(), server: self.server };
                    let abort = self.handle.spawn(job.keep_resolving(first)).abort_handle();
                    Task { named, state: state.clone(), abort }
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
    /// Resolves one host from now on.
    pub(crate) fn follow(&self, state: &Arc<ClusterState>, host: &str, port: u16) -> Following {
        let (tell, answered) = watch::channel(false);
        let address = Address::Dns { host: host.to_owned(), port };
        let endpoint = Endpoint {
            address,
            weight: 1,
            locality: String::new(),
            priority: 0,
            locality_weight: None,
            workload: None,
            origin: Origin::default(),
        };
        // Nobody listens any more when the cluster has gone in between.
        let first: First = Box::new(move || {
            let _ = tell.send(true);
        });
        let named = Named { endpoints: vec![endpoint], discovery: Discovery::StrictDns, refresh_rate: None };
        let job = Job { state: state.clone(), named, server: self.server };
        Following { answered, abort: self.handle.spawn(job.keep_resolving(first)).abort_handle() }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// One cluster with names.
struct Job {
    state: Arc<ClusterState>,
    named: Named,
    server: Option<SocketAddr>,
}

/// What is known of a name.
#[derive(Default)]
struct Known {
    addresses: Vec<SocketAddr>,
    answered: Option<Instant>,
    error: Option<String>,
}

impl Job {
    async fn keep_resolving(self, first: First) {
        let mut first = Some(first);
        let resolver = loop {
            match resolver(self.server) {
                Ok(resolver) => break resolver,
                Err(error) => {
                    tracing::warn!(cluster = %self.state.name, %error, "no DNS configuration");
                    first = None;
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        };
        let mut known: HashMap<(String, u16), Known> = HashMap::new();
        loop {
            let mut pause = LONGEST;
            let hosts = Hosts::from_system().unwrap_or_default();
            for endpoint in &self.named.endpoints {
                if let Address::Dns { host, port } = &endpoint.address {
                    let name = known.entry((host.clone(), *port)).or_default();
                    pause = pause.min(self.ask(&resolver, &hosts, host, *port, name).await);
                }
            }
            self.state.set_names(known.iter().map(|((host, port), known)| known.told(host, *port)).collect());
            self.state.set_endpoints(&resolved(&self.named.endpoints, &known));
            if let Some(first) = first.take() {
                first();
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks for a name; answers with the time until it should be asked again.
    async fn ask(&self, resolver: &TokioResolver, hosts: &Hosts, host: &str, port: u16, known: &mut Known) -> Duration {
        let written = in_hosts_file(hosts, host, port);
        if !written.is_empty() {
            self.take(written, known);
            return LONGEST;
        }
        match resolver.lookup_ip(host).await {
            Ok(answer) => {
                self.take(answer.iter().map(|ip| SocketAddr::new(ip, port)).collect(), known);
                let ttl = answer.valid_until().saturating_duration_since(Instant::now());
                if ttl.is_zero() { self.named.refresh_rate.unwrap_or(SHORTEST) } else { ttl.max(SHORTEST) }
            }
            Err(error) => {
                let cluster = &self.state.name;
                tracing::warn!(%cluster, host, %error, "the name does not resolve; what is known stays");
                known.error = Some(error.to_string());
                self.state.metrics.update_failure.inc();
                self.named.refresh_rate.unwrap_or(AFTER_FAILURE)
            }
        }
    }

    /// A good answer.
    fn take(&self, addresses: Vec<SocketAddr>, known: &mut Known) {
        known.addresses = self.counting(addresses);
        known.answered = Some(Instant::now());
        known.error = None;
        self.state.metrics.update_success.inc();
    }

    /// Those of IPv4 when there are any, as Istio's clusters do by default: nothing tries the next address when the first
    /// cannot be reached. Of a logical cluster the first one only.
    fn counting(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if addresses.iter().any(SocketAddr::is_ipv4) {
            addresses.retain(SocketAddr::is_ipv4);
        }
        match self.named.discovery {
            Discovery::StrictDns => addresses.sort_unstable(),
            Discovery::LogicalDns => addresses.truncate(1),
        }
        addresses
    }
}

impl Known {
    fn told(&self, host: &str, port: u16) -> NameAnswer {
        NameAnswer {
            name: format!("{host}:{port}"),
            addresses: self.addresses.len(),
            answered: self.answered,
            error: self.error.clone(),
        }
    }
}

/// What the system's file of hosts has of a name. Addresses of one kind are enough: the resolver would wait for DNS to tell
/// it of the other kind, for seconds where nobody answers.
fn in_hosts_file(hosts: &Hosts, host: &str, port: u16) -> Vec<SocketAddr> {
    let Ok(name) = Name::from_utf8(host) else { return Vec::new() };
    let kinds = [RecordType::A, RecordType::AAAA].into_iter();
    let found = kinds.filter_map(|kind| hosts.lookup_static_host(&Query::query(name.clone(), kind)));
    let ips =
        found.flat_map(|lookup| lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>());
    ips.map(|ip| SocketAddr::new(ip, port)).collect()
}

/// Asks one server, or what the system's configuration says.
fn resolver(server: Option<SocketAddr>) -> Result<TokioResolver, NetError> {
    let mut builder = match server {
        Some(server) => TokioResolver::builder_with_config(only(server), TokioRuntimeProvider::default()),
        None => TokioResolver::builder_tokio()?,
    };
    // Each job keeps its answers itself, and a name that begins to exist must not wait for an old refusal's end.
    builder.options_mut().cache_size = 0;
    builder.build()
}

/// One server, over UDP and for long answers over TCP.
fn only(server: SocketAddr) -> ResolverConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port).to_vec();
    ResolverConfig::from_name_servers(vec![NameServerConfig::new(server.ip(), true, connections)])
}

/// Endpoints with each name replaced by its addresses.
fn resolved(endpoints: &[Endpoint], known: &HashMap<(String, u16), Known>) -> Vec<NewEndpoint> {
    let mut out = Vec::new();
    for endpoint in endpoints {
        match &endpoint.address {
            Address::Socket(address) => out.push(NewEndpoint::of(endpoint, *address)),
            Address::Pipe(path) => {
                out.extend(UpstreamAddress::pipe(path).map(|address| NewEndpoint::of(endpoint, address)));
            }
            Address::Dns { host, port } => {
                let addresses = known.get(&(host.clone(), *port)).into_iter().flat_map(|known| &known.addresses);
                out.extend(addresses.map(|address| NewEndpoint::of(endpoint, *address)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_kind_of_address_in_the_file_of_hosts_is_an_answer() {
        let mut hosts = Hosts::default();
        hosts
            .read_hosts_conf(&b"127.0.0.1 localhost\n127.0.0.2 four.test\n::2 six.test # comment\n::3 Four.test\n"[..])
            .unwrap();
        let of = |name: &str| in_hosts_file(&hosts, name, 80).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("localhost"), ["127.0.0.1:80"]);
        assert_eq!(of("FOUR.test"), ["127.0.0.2:80", "[::3]:80"]);
        assert_eq!(of("six.test"), ["[::2]:80"]);
        assert!(of("seven.test").is_empty() && of("not a name").is_empty());
    }
}
