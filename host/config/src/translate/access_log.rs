//! What is read of Istio's mesh configuration: from the ConfigMap `istio`, else from an IstioOperator.

use crate::ResourceSet;
use crate::duration;
use crate::resources::istio::MeshConfig;

/// Istio's default, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 10_000;

/// Path of the access log.
pub(super) fn path(resources: &ResourceSet) -> Option<String> {
    first(resources, |mesh| mesh.access_log_file.clone()).filter(|path| !path.is_empty())
}

/// `connectTimeout` in milliseconds, 10 s by default.
pub(super) fn connect_timeout(resources: &ResourceSet) -> u64 {
    let written = first(resources, |mesh| mesh.connect_timeout.as_deref().and_then(duration::parse_ms));
    written.filter(|ms| *ms > 0).unwrap_or(CONNECT_TIMEOUT_MS)
}

fn first<T>(resources: &ResourceSet, read: impl Fn(&MeshConfig) -> Option<T>) -> Option<T> {
    let from_map = resources.mesh_config().and_then(|object| read(&object.spec));
    let mut operators = resources.operators().filter_map(|object| object.spec.mesh_config.as_ref());
    from_map.or_else(|| operators.find_map(&read))
}
