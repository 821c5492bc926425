//! Checks of one object by itself: what Istio's admission check refuses. An error rejects the object, and its last good
//! version stays; references to other objects are `translate`'s business.

mod checker;
mod destination_rule;
mod export_to;
mod extension;
mod gateway;
mod headers;
mod http_policy;
mod http_route;
mod load_balancer;
mod route_destination;
mod service_entry;
mod string_match;
mod tcp_route;
mod telemetry;
mod tls_route;
mod virtual_service;
mod workload_entry;

#[cfg(test)]
mod tests;

pub use destination_rule::destination_rule;
pub use extension::{traffic_extension, wasm_plugin};
pub use gateway::gateway;
pub use service_entry::service_entry;
pub use telemetry::telemetry;
pub use virtual_service::virtual_service;
pub use workload_entry::workload_entry;
