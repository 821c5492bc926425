//! Kubernetes kinds.

pub mod config_map;
pub mod endpoint_slice;
pub mod endpoints;
pub mod namespace;
pub mod pod;
pub mod secret;
pub mod service;

pub use config_map::ConfigMap;
pub use endpoint_slice::EndpointSlice;
pub use endpoints::Endpoints;
pub use namespace::Namespace;
pub use pod::Pod;
pub use secret::Secret;
pub use service::Service;
