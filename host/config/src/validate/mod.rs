//! Checks of one object by itself: what Istio's admission check refuses. An error rejects the object, and its last good
//! version stays; references to other objects are `translate`'s business.

pub(crate) mod authorization_policy;
mod checker;
mod destination_rule;
pub(crate) mod dry_run;
mod export_to;
mod extension;
mod gateway;
mod headers;
mod http_policy;
mod http_route;
mod load_balancer;
mod localities;
mod request_authentication;
mod route_destination;
mod selector;
mod service_entry;
mod string_match;
mod tcp_route;
mod telemetry;
mod tls_route;
mod virtual_service;
mod workload_entry;

#[cfg(test)]
mod tests;

pub use authorization_policy::authorization_policy;
pub use destination_rule::destination_rule;
pub use extension::{traffic_extension, wasm_plugin};
pub use gateway::gateway;
pub use request_authentication::request_authentication;
pub use service_entry::service_entry;
pub use telemetry::telemetry;
pub use virtual_service::virtual_service;
pub use workload_entry::workload_entry;
