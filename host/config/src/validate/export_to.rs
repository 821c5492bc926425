//! Checks of `exportTo`, which several kinds have.

use std::collections::HashSet;

use super::checker::Checker;

/// The list at `spec.exportTo`. `nobody` tells whether `~` is allowed.
pub(super) fn check<T>(checker: &mut Checker<'_, T>, list: &[String], nobody: bool) {
    let namespace = checker.namespace();
    let mut seen = HashSet::new();
    for (i, entry) in list.iter().enumerate() {
        let path = format!("spec.exportTo[{i}]");
        let meant = if entry == "." { namespace } else { entry.as_str() };
        if !seen.insert(meant) {
            checker.error("P0128", &path, format!("namespace `{meant}` is there twice"));
        } else if meant == "~" && !nobody {
            checker.error("P0128", &path, "`~` is for ServiceEntries only");
        } else if meant != "*" && meant != "~" {
            checker.label_name(&path, "a namespace's name", meant);
        }
    }
    for word in ["*", "~"].into_iter().filter(|word| list.len() > 1 && seen.contains(word)) {
        checker.error_at_key("P0128", "spec.exportTo", format!("`{word}` stands alone or not at all"));
    }
}
