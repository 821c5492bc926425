//! Whom a policy is for: the checks of `selector` and `targetRefs` that policies share.

use super::checker::Checker;
use crate::resources::istio::wasm_plugin::LabelSelector;

/// At most one way to say it, and labels as they are.
pub(super) fn check<T>(
    checker: &mut Checker<'_, T>,
    selector: Option<&LabelSelector>,
    has_target: bool,
    has_targets: bool,
) {
    if [selector.is_some(), has_target, has_targets].iter().filter(|given| **given).count() > 1 {
        let path = if has_targets { "spec.targetRefs" } else { "spec.targetRef" };
        checker.error_at_key("P0120", path, "`selector`, `targetRef` and `targetRefs` exclude each other");
    }
    for (name, value) in selector.into_iter().flat_map(|selector| &selector.match_labels) {
        if name.is_empty() || name.contains('*') || value.contains('*') {
            let path = format!("spec.selector.matchLabels.{name}");
            checker.error_at_key("P0103", &path, format!("`{name}: {value}` is not a label"));
            checker.label("a `*` selects nothing");
        }
    }
}
