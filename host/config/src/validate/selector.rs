//! Whom a policy is for: the checks of `selector` and `targetRefs` that policies share.

use super::checker::Checker;
use crate::resources::istio::wasm_plugin::{LabelSelector, TargetRef};

/// What a policy may be attached to, with its API group.
const TARGETS: &[(&str, &str)] = &[
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// At most one way to say it, and labels as they are.
pub(super) fn check<T>(
    checker: &mut Checker<'_, T>,
    selector: Option<&LabelSelector>,
    target: Option<&TargetRef>,
    targets: &[TargetRef],
) {
    let has_targets = !targets.is_empty();
    if [selector.is_some(), target.is_some(), has_targets].iter().filter(|given| **given).count() > 1 {
        let path = if has_targets { "spec.targetRefs" } else { "spec.targetRef" };
        checker.error_at_key("P0120", path, "`selector`, `targetRef` and `targetRefs` exclude each other");
    }
    if let Some(selector) = selector {
        check_labels(checker, "spec.selector.matchLabels", &selector.match_labels);
    }
    let several = targets.iter().enumerate().map(|(i, target)| (format!("spec.targetRefs[{i}]"), target));
    for (path, target) in target.map(|target| ("spec.targetRef".to_owned(), target)).into_iter().chain(several) {
        check_target(checker, &path, target);
    }
}

/// Labels that select.
pub(super) fn check_labels<'v, T>(
    checker: &mut Checker<'_, T>,
    path: &str,
    labels: impl IntoIterator<Item = (&'v String, &'v String)>,
) {
    for (name, value) in labels {
        if name.is_empty() || name.contains('*') || value.contains('*') {
            checker.error_at_key("P0103", &format!("{path}.{name}"), format!("`{name}: {value}` is not a label"));
            checker.label("a `*` selects nothing");
        }
    }
}

fn check_target<T>(checker: &mut Checker<'_, T>, path: &str, target: &TargetRef) {
    if target.name.is_empty() {
        checker.missing(path, "name");
    }
    if target.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty()) {
        checker.error_at_key("P0120", &format!("{path}.namespace"), "a target is in the object's own namespace");
        checker.help("leave `namespace` out");
    }
    if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
        checker.error_at_key("P0116", path, format!("nothing is attached to `{}/{}`", target.group, target.kind));
        checker.label("Service, ServiceEntry of networking.istio.io, Gateway of gateway.networking.k8s.io");
    }
}
