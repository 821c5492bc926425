//! The admin port: readiness, metrics, configuration, clusters, listeners and log levels of a running gateway.
//!
//! Paths and texts are Envoy's where Envoy has them. Nothing changes by GET, a browser page elsewhere can neither read
//! nor change anything, and no credential is ever shown.

pub mod clusters;
pub mod config_dump;
pub mod filters;
pub mod listeners;
pub mod ready;
pub mod server;
pub mod traffic;

mod connections;
mod explain;
mod guard;
mod logging;
mod output;

pub use clusters::{ClusterView, EndpointView, HealthCheckView, NameView};
pub use config_dump::{ConfigDump, ObjectView};
pub use filters::{CallbackView, FailureView, FilterView, VersionView};
pub use listeners::ListenerView;
pub use ready::{Readiness, State};
pub use server::{AdminState, Explain, serve, serve_status};
pub use traffic::{RequestKey, TrafficView};
