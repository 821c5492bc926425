//! Istio kinds. All fields of the API are named here, also those that are not served yet: a known field is never
//! reported as unknown. One-ofs are structs of options, and durations and enumerations are text that `validate` checks,
//! so that every mistake keeps its line.

pub mod authorization_policy;
pub mod destination_rule;
pub mod ext_authz;
pub mod gateway;
pub mod http_policy;
pub mod load_balancer;
pub mod operator;
pub mod request_authentication;
pub mod service_entry;
pub mod telemetry;
pub mod tracing;
pub mod traffic_extension;
pub mod virtual_service;
pub mod wasm_plugin;
pub mod workload_entry;

pub use authorization_policy::AuthorizationPolicy;
pub use destination_rule::DestinationRule;
pub use gateway::Gateway;
pub use operator::{ExtensionProvider, FileAccessLog, IstioOperator, MeshConfig};
pub use request_authentication::RequestAuthentication;
pub use service_entry::ServiceEntry;
pub use telemetry::Telemetry;
pub use traffic_extension::TrafficExtension;
pub use virtual_service::VirtualService;
pub use wasm_plugin::WasmPlugin;
pub use workload_entry::WorkloadEntry;
