//! The annotation `istio.io/dry-run`, which AuthorizationPolicies may have.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::kind::Kind;
use crate::object::Object;
use crate::resources::istio::AuthorizationPolicy;

/// Its name.
pub(crate) const DRY_RUN: &str = "istio.io/dry-run";

/// Values of Go's `strconv.ParseBool` that mean yes, and those that mean no.
pub(crate) const YES: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];
const NO: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];

/// Of all kinds that admission looks at but AuthorizationPolicies.
pub(crate) fn misplaced<T>(object: &Object<T>, kind: Kind) -> Option<Diagnostic> {
    let is_checked = matches!(
        kind,
        Kind::Gateway
            | Kind::VirtualService
            | Kind::DestinationRule
            | Kind::ServiceEntry
            | Kind::WorkloadEntry
            | Kind::WasmPlugin
            | Kind::TrafficExtension
            | Kind::Telemetry
            | Kind::RequestAuthentication
    );
    let is_there = is_checked && object.meta.annotations.contains_key(DRY_RUN);
    let place = || object.key_place(&format!("metadata.annotations.{DRY_RUN}"));
    is_there.then(|| Diagnostic::error("P0120", place(), "only AuthorizationPolicies can be tried out"))
}

/// Of an AuthorizationPolicy with this action.
pub(super) fn check(
    checker: &mut Checker<'_, AuthorizationPolicy>,
    object: &Object<AuthorizationPolicy>,
    action: &str,
) {
    let Some(value) = object.meta.annotations.get(DRY_RUN) else { return };
    let path = format!("metadata.annotations.{DRY_RUN}");
    if !matches!(action, "ALLOW" | "DENY") {
        checker.error_at_key("P0120", &path, format!("policies with action {action} cannot be tried out"));
    } else if !YES.contains(&value.as_str()) && !NO.contains(&value.as_str()) {
        checker.error("P0116", &path, format!("`{value}` is neither `true` nor `false`"));
    }
}
