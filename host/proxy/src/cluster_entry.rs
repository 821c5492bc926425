//! From a cluster of the model to its entry in a snapshot.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Address, CircuitBreakers, Cluster, Origin};

use crate::cluster::ClusterState;
use crate::pool::PoolLimits;
use crate::snapshot::ClusterEntry;

/// The endpoints of a cluster without names; none when some must be resolved.
pub(crate) fn sockets(cluster: &Cluster) -> Option<Vec<(std::net::SocketAddr, u32, Origin)>> {
    let endpoints = cluster.endpoints.iter().map(|endpoint| match &endpoint.address {
        Address::Socket(address) => Some((*address, endpoint.weight, endpoint.origin.clone())),
        Address::Dns { .. } => None,
    });
    endpoints.collect()
}

/// What a snapshot keeps of a cluster.
pub(crate) fn entry(cluster: &Cluster, state: Arc<ClusterState>) -> ClusterEntry {
    ClusterEntry {
        state,
        origin: cluster.origin.clone(),
        undefined: cluster.undefined,
        lb_policy: cluster.lb_policy,
        limits: PoolLimits {
            breakers: CircuitBreakers::default(),
            connect_timeout: Duration::from_millis(cluster.connect_timeout_ms),
            max_requests: cluster.max_requests_per_connection,
        },
        idle_timeout: Duration::from_millis(cluster.idle_timeout_ms),
        outlier_detection: cluster.outlier_detection,
    }
}
