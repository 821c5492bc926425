//! Checks of a WorkloadEntry.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::WorkloadEntry;

/// Checks a WorkloadEntry by itself.
pub fn workload_entry(object: &Object<WorkloadEntry>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    check_entry(&mut checker, "spec", &object.spec);
    checker.finish()
}

/// Also for the endpoints of a ServiceEntry.
pub(super) fn check_entry<T>(checker: &mut Checker<'_, T>, path: &str, entry: &WorkloadEntry) {
    match entry.address.as_deref() {
        None | Some("") if entry.network.as_ref().is_some_and(|network| !network.is_empty()) => {
            checker.warn_at_key("P0101", path, "an endpoint without `address` is one of another network: left out");
        }
        None | Some("") => checker.missing(path, "address"),
        Some(address) if address.starts_with("unix://") => {
            let socket = address.trim_start_matches("unix://");
            if !socket.starts_with('@') && (!socket.starts_with('/') || socket.ends_with('/')) {
                checker.error("P0119", &format!("{path}.address"), format!("`{socket}` is not the path of a socket"));
                checker.label("an absolute path, or `@` and a name");
            }
            if !entry.ports.is_empty() {
                checker.error_at_key("P0120", &format!("{path}.ports"), "a unix socket has no ports");
            }
        }
        Some(address) => {
            if let Some(fault) = crate::hosts::fault_of(address, false) {
                checker.error("P0119", &format!("{path}.address"), format!("`{address}` is not an address"));
                checker.label(fault);
            }
        }
    }
    checker.labels(&format!("{path}.labels"), &entry.labels);
    for (name, port) in &entry.ports {
        checker.port(&format!("{path}.ports.{name}"), *port);
        checker.label_name(&format!("{path}.ports.{name}"), "a port's name", name);
    }
}
