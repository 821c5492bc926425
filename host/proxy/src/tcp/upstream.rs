//! The upstream side of a TCP connection: cluster by weight, endpoint by the balancer, one attempt (Envoy's default), and
//! what comes of it for limits and outlier detection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use portolan_model::filter::{EndpointRecord, Outcome};
use portolan_model::{DynamicHosts, OutlierDetection};
use portolan_telemetry::{ClusterMetrics, ResponseFlags};

use super::Connection;
use super::tunnel::{self, TunnelError};
use crate::balancer::Avoid;
use crate::cluster::Permit;
use crate::context::Choice;
use crate::dynamic::{self, Named};
use crate::endpoint::EndpointState;
use crate::hash_input;
use crate::pool::ClusterPool;
use crate::principals;
use crate::snapshot::ClusterEntry;
use crate::upstream::{Application, ConnectError, Socket, connect as open};
use crate::view::View;
use crate::worker::Worker;

/// Envoy's `max_ejection_time`, in milliseconds.
const MAX_EJECTION_MS: u64 = 300_000;

/// A connection to an endpoint, counted until it is dropped.
pub(super) struct Upstream {
    pub(super) way: Way,
    pub(super) held: Held,
}

/// What the bytes go over.
pub(super) enum Way {
    Socket(Socket),
    Tunnel(tunnel::Io),
}

/// What is given back when the upstream connection ends.
pub(crate) struct Held {
    endpoint: Arc<EndpointState>,
    metrics: Arc<ClusterMetrics>,
    _place: Permit,
}

/// Why there is no upstream connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFailure {
    /// The destination's service, port or subset does not exist.
    #[error("the cluster does not exist")]
    NoCluster,
    /// The cluster has no endpoint that may be used.
    #[error("no healthy upstream")]
    NoHealthyUpstream,
    /// `maxConnections` are open.
    #[error("maxConnections is reached")]
    Overflow,
    /// The endpoint refused, or there is no TLS to be had with it.
    #[error("{0}")]
    Refused(String),
    /// The endpoint did not answer within `connectTimeout`.
    #[error("connect timeout")]
    Timeout,
    /// The endpoint opens no tunnel.
    #[error("{0}")]
    Tunnel(#[from] TunnelError),
}

impl ConnectFailure {
    /// As Envoy's `tcp_proxy` flags it: one attempt is the default, so a failed one is also the last that is allowed.
    pub(super) fn flags(&self) -> ResponseFlags {
        match self {
            Self::NoCluster => ResponseFlags::NC,
            Self::NoHealthyUpstream => ResponseFlags::UH,
            Self::Overflow => ResponseFlags::UO,
            Self::Refused(_) | Self::Timeout | Self::Tunnel(_) => ResponseFlags::UF_URX,
        }
    }

    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub(super) fn cause(&self) -> Option<String> {
        matches!(self, Self::Refused(_) | Self::Timeout | Self::Tunnel(_)).then(|| self.to_string())
    }
}

/// Connects to an endpoint of one of the route's clusters.
pub(super) async fn connect(connection: &Connection) -> Result<Upstream, ConnectFailure> {
    let snapshot = &connection.view.snapshot;
    let destination = connection.tcp.destinations.next();
    let Some((id, cluster)) = destination.and_then(|d| Some((d.cluster as usize, snapshot.cluster(d.cluster)?))) else {
        connection.tcp.metrics.downstream_cx_no_route.inc();
        return Err(ConnectFailure::NoCluster);
    };
    let metrics = &cluster.state.metrics;
    connection.record.set_cluster(id as u32);
    connection.record.upstream(&cluster.state.name, None);
    connection.note(|host| host.choice = Some(Choice { cluster: id as u32, destination: None }));
    let picked = match &cluster.dynamic {
        Some(allowed) => Box::pin(of_named_host(connection, (id, cluster), allowed)).await,
        None => pick(&connection.worker, &connection.view, connection.info.peer, id),
    };
    let Some(endpoint) = picked else {
        metrics.upstream_cx_none_healthy.inc();
        return Err(ConnectFailure::NoHealthyUpstream);
    };
    let limit = snapshot.model.clusters.get(id).map_or(u32::MAX, |c| c.circuit_breakers.max_connections);
    let Some(place) = cluster.state.open_connection(limit) else {
        metrics.upstream_cx_overflow.inc();
        return Err(ConnectFailure::Overflow);
    };
    connection.record.upstream(&cluster.state.name, Some(endpoint.address));
    connection.record.workload.set(endpoint.workload);
    connection.note(|host| {
        host.endpoint = Some(endpoint.clone());
        host.attempts = 1;
    });
    let held = Held::new(&endpoint, metrics, place);
    let failure = match open_way(connection, cluster, &endpoint).await {
        Ok(way) => {
            report(cluster, &endpoint, Outcome::Success);
            return Ok(Upstream { way, held });
        }
        Err(failure) => failure,
    };
    metrics.upstream_cx_connect_attempts_exceeded.inc();
    endpoint.seen.errors.fetch_add(1, Relaxed);
    report(cluster, &endpoint, Outcome::LocalOriginFailure);
    Err(failure)
}

/// Opens a socket to an endpoint, and through it the tunnel that the route's destination asks for.
async fn open_way(
    connection: &Connection,
    cluster: &ClusterEntry,
    endpoint: &EndpointState,
) -> Result<Way, ConnectFailure> {
    let (limit, transport) = (cluster.limits.connect_timeout, &cluster.transport);
    let name = connection.info.state.server_name().filter(|_| cluster.dynamic.is_some());
    let key = transport.key(name.map(|name| &**name), Some((connection.info.peer, connection.info.local)));
    let tunnel = connection.tcp.tunnel.as_ref();
    let application = tunnel.map_or(Application::Tcp, |_| tunnel::application(transport));
    let opened = open(&cluster.state, endpoint.address, limit, transport, key.as_deref(), application).await;
    let socket = opened.map_err(|error| match error {
        ConnectError::Failed(reason) => ConnectFailure::Refused(reason),
        ConnectError::Timeout => ConnectFailure::Timeout,
    })?;
    connection.record.upstream_local(socket.local());
    connection.record.principals.set(principals::number(&socket, transport));
    let Some(tunnel) = tunnel else { return Ok(Way::Socket(socket)) };
    // Boxed: rare, and large.
    match Box::pin(tunnel::open(socket, tunnel, transport, limit)).await {
        Ok(way) => Ok(Way::Tunnel(way)),
        Err(TunnelError::Timeout) => Err(ConnectFailure::Timeout),
        Err(error) => Err(error.into()),
    }
}

/// The endpoint of a cluster, by number, for a client.
pub(crate) fn pick(worker: &Worker, view: &View, peer: SocketAddr, id: usize) -> Option<Arc<EndpointState>> {
    let (pool, cluster) = (view.pools.get(id)?, view.snapshot.clusters.get(id)?);
    pick_of(worker, pool, cluster, peer)
}

/// An endpoint of the host that the connection's server name says, as Envoy's SNI dynamic forward proxy finds it; without a
/// name there is none.
async fn of_named_host(
    connection: &Connection,
    (id, cluster): (usize, &ClusterEntry),
    allowed: &DynamicHosts,
) -> Option<Arc<EndpointState>> {
    let (worker, view) = (&connection.worker, &connection.view);
    let named = Named { cluster, allowed, pool: view.pools.get(id)? };
    let name = connection.info.state.server_name().map(|name| &**name);
    let pool = dynamic::pool(worker, view, &named, name).await.ok()?;
    pick_of(worker, &pool, cluster, connection.info.peer)
}

fn pick_of(
    worker: &Worker,
    pool: &ClusterPool,
    cluster: &ClusterEntry,
    peer: SocketAddr,
) -> Option<Arc<EndpointState>> {
    let set = pool.endpoints();
    let hash = cluster.hashes_source.then(|| hash_input::of_address(peer));
    let picked = worker.with_rng(|rng| pool.balancer.borrow_mut().pick(&set, hash, Avoid::default(), rng));
    set.endpoints.get(picked?).cloned()
}

/// Counts how a connection attempt went and ejects the endpoint when there were too many failures in a row: connect
/// failures count as 503 unless they count apart, as in Envoy.
fn report(cluster: &ClusterEntry, endpoint: &EndpointState, outcome: Outcome) {
    // Hosts that clients name are not ejected.
    let Some(detection) = cluster.outlier_detection.as_ref().filter(|_| cluster.dynamic.is_none()) else { return };
    let outcome = match outcome {
        Outcome::LocalOriginFailure if detection.consecutive_local_origin_failures.is_none() => Outcome::GatewayError,
        outcome => outcome,
    };
    let record = cluster.state.report(endpoint, outcome, Some(detection));
    if outcome == Outcome::Success || !is_one_too_many(&record, outcome, detection) {
        return;
    }
    let duration_ms = ejection_ms(&record, detection);
    if cluster.state.eject(endpoint, duration_ms, detection.max_ejection_percent, detection.interval_ms) {
        tracing::info!(cluster = %cluster.state.name, endpoint = %endpoint.address, duration_ms, "endpoint ejected");
    }
}

/// At each multiple of a threshold: Envoy starts to count again once it was reached.
fn is_one_too_many(record: &EndpointRecord, outcome: Outcome, detection: &OutlierDetection) -> bool {
    let reached = |count: u32, threshold: u32| threshold != 0 && count != 0 && count.is_multiple_of(threshold);
    let errors = if outcome == Outcome::LocalOriginFailure {
        let failures = detection.consecutive_local_origin_failures.unwrap_or(0);
        reached(record.consecutive_local_origin_failures, failures)
    } else {
        reached(record.consecutive_5xx, detection.consecutive_5xx)
            || reached(record.consecutive_gateway_errors, detection.consecutive_gateway_errors)
    };
    record.ejected == 0 && errors
}

/// Base time times the number of ejections, up to the cap, and on to the next multiple of the interval: Envoy lets
/// endpoints return in a sweep that runs at each.
fn ejection_ms(record: &EndpointRecord, detection: &OutlierDetection) -> u64 {
    let cap = MAX_EJECTION_MS.max(detection.base_ejection_time_ms);
    let time = detection.base_ejection_time_ms.saturating_mul(u64::from(record.ejections) + 1).min(cap);
    let end = record.now_ms.saturating_add(time);
    end.checked_next_multiple_of(detection.interval_ms.max(1)).unwrap_or(end) - record.now_ms
}

impl Held {
    /// Envoy counts a TCP connection as a request too, and the balancer weighs endpoints by requests in flight.
    pub(crate) fn new(endpoint: &Arc<EndpointState>, metrics: &Arc<ClusterMetrics>, place: Permit) -> Self {
        metrics.upstream_rq_total.inc();
        metrics.upstream_rq_active.inc();
        endpoint.seen.requests.fetch_add(1, Relaxed);
        endpoint.seen.active_requests.fetch_add(1, Relaxed);
        endpoint.seen.connections.fetch_add(1, Relaxed);
        Self { endpoint: endpoint.clone(), metrics: metrics.clone(), _place: place }
    }

    /// Which side ended the connection.
    pub(crate) fn ended(&self, by_upstream: bool) {
        if by_upstream {
            self.metrics.upstream_cx_destroy_remote.inc();
        } else {
            self.metrics.upstream_cx_destroy_local.inc();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.upstream_cx_destroy.inc();
        self.metrics.upstream_rq_active.dec();
        self.endpoint.seen.active_requests.fetch_sub(1, Relaxed);
        self.endpoint.seen.connections.fetch_sub(1, Relaxed);
    }
}
