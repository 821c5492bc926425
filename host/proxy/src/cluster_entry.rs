//! From a cluster of the model to its entry in a snapshot.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Address, CircuitBreakers, Cluster, HashPolicy};

use crate::cluster::ClusterState;
use crate::endpoint::NewEndpoint;
use crate::plan::Balancing;
use crate::pool::PoolLimits;
use crate::snapshot::ClusterEntry;

/// The endpoints of a cluster without names; none when some must be resolved.
pub(crate) fn sockets(cluster: &Cluster) -> Option<Vec<NewEndpoint>> {
    let endpoints = cluster.endpoints.iter().map(|endpoint| match &endpoint.address {
        Address::Socket(address) => Some(NewEndpoint::of(endpoint, *address)),
        Address::Dns { .. } => None,
    });
    endpoints.collect()
}

/// How a cluster chooses among its endpoints.
pub(crate) fn balancing(cluster: &Cluster) -> Balancing {
    Balancing::new(cluster.lb_policy, cluster.outlier_detection.as_ref(), cluster.slow_start)
}

/// What a snapshot keeps of a cluster.
pub(crate) fn entry(cluster: &Cluster, state: Arc<ClusterState>) -> ClusterEntry {
    ClusterEntry {
        state,
        origin: cluster.origin.clone(),
        undefined: cluster.undefined,
        is_consistent: cluster.lb_policy.is_consistent(),
        hashes_source: cluster.lb_policy.is_consistent() && cluster.hash_policy == Some(HashPolicy::SourceIp),
        limits: PoolLimits {
            breakers: CircuitBreakers::default(),
            connect_timeout: Duration::from_millis(cluster.connect_timeout_ms),
            max_requests: cluster.max_requests_per_connection,
            max_age_ms: cluster.max_connection_duration_ms.unwrap_or(u64::MAX),
        },
        idle_timeout: Duration::from_millis(cluster.idle_timeout_ms),
        outlier_detection: cluster.outlier_detection,
    }
}
