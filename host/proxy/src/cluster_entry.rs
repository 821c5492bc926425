//! From a cluster of the model to its entry in a snapshot.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Address, CircuitBreakers, Cluster, HashPolicy};
use portolan_telemetry::UpstreamAddress;

use crate::build_problem::BuildProblem;
use crate::cluster::ClusterState;
use crate::dns::Named;
use crate::endpoint::NewEndpoint;
use crate::module_source::Cause;
use crate::plan::Balancing;
use crate::pool::PoolLimits;
use crate::snapshot::ClusterEntry;
use crate::upstream::{Certificates, UpstreamTransport};

/// The endpoints of a cluster without names; none when some must be resolved.
pub(crate) fn sockets(cluster: &Cluster) -> Option<Vec<NewEndpoint>> {
    let endpoints = cluster.endpoints.iter().map(|endpoint| match &endpoint.address {
        Address::Socket(address) => Some(NewEndpoint::of(endpoint, *address)),
        // More sockets than a process may know are left to nobody, by way of a cluster with names.
        Address::Pipe(path) => Some(NewEndpoint::of(endpoint, UpstreamAddress::pipe(path)?)),
        Address::Dns { .. } => None,
    });
    endpoints.collect()
}

/// How a cluster with names is resolved.
pub(crate) fn named(cluster: &Cluster) -> Named {
    Named {
        endpoints: cluster.endpoints.clone(),
        discovery: cluster.discovery,
        refresh_rate: cluster.dns_refresh_rate_ms.map(Duration::from_millis),
    }
}

/// How a cluster chooses among its endpoints.
pub(crate) fn balancing(cluster: &Cluster) -> Balancing {
    Balancing::new(cluster.lb_policy, cluster.outlier_detection.as_ref(), cluster.slow_start)
}

/// What a snapshot keeps of a cluster.
pub(crate) fn entry(cluster: &Cluster, state: Arc<ClusterState>, transport: Arc<UpstreamTransport>) -> ClusterEntry {
    ClusterEntry {
        state,
        origin: cluster.origin.clone(),
        undefined: cluster.undefined,
        dynamic: cluster.dynamic.clone(),
        is_consistent: cluster.lb_policy.is_consistent(),
        hashes_source: cluster.lb_policy.is_consistent() && cluster.hash_policy == Some(HashPolicy::SourceIp),
        limits: PoolLimits {
            breakers: CircuitBreakers::default(),
            connect_timeout: Duration::from_millis(cluster.connect_timeout_ms),
            max_requests: cluster.max_requests_per_connection,
            max_age_ms: cluster.max_connection_duration_ms.unwrap_or(u64::MAX),
        },
        idle_timeout: Duration::from_millis(cluster.idle_timeout_ms),
        transport,
        outlier_detection: cluster.outlier_detection,
        retry_budget: cluster.retry_budget,
    }
}

/// The cluster's transport, and what keeps it from being as it is written.
pub(crate) fn transport(
    cluster: &Cluster,
    certificates: &mut Certificates,
    last: Option<&Arc<UpstreamTransport>>,
) -> (Arc<UpstreamTransport>, Option<BuildProblem>) {
    let (transport, error) = UpstreamTransport::build(&cluster.transport, certificates, last);
    let problem = error.map(|error| BuildProblem {
        subject: format!("TLS to {}", cluster.name),
        origin: cluster.transport.tls.as_ref().map(|tls| tls.origin.clone()),
        message: error.to_string(),
        kept_old: last.is_some_and(|last| Arc::ptr_eq(last, &transport)),
        cause: Cause::Broken,
        config: None,
    });
    (transport, problem)
}
