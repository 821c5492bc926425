//! The data plane. Read the files in the order in which a request meets them: `worker`, `listener`, `connection`,
//! `stream`, `head`, `filter_chain`, `router`, `attempt`, `balancer`, `pool`, `body`, `local_reply`.

mod attempt;
mod balancer;
mod body;
mod body_filter;
mod builder;
mod clock;
mod cluster;
mod connection;
mod context;
mod dns;
mod drain;
mod endpoint;
mod explain;
mod filter_chain;
mod generation;
mod head;
mod kept_head;
mod listener;
mod local_reply;
mod path;
mod pool;
mod properties;
mod publish;
mod rewrite;
mod route;
mod router;
mod sent;
mod snapshot;
mod stream;
mod upgrade;
mod view;
mod worker;

pub use builder::{BuildProblem, Builder, BuilderOptions};
pub use cluster::{ClusterState, EndpointSet};
pub use context::{ConnectionInfo, StreamContext};
pub use drain::{StartWorkersError, Workers};
pub use endpoint::EndpointState;
pub use explain::{ExplainError, ExplainOutcome, ExplainRequest, explain};
pub use generation::{PluginGeneration, Role};
pub use publish::SnapshotCell;
pub use snapshot::{Attached, ClusterEntry, Snapshot};
