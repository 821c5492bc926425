//! Rewrites that join what they should not: the matched prefix is replaced as a string, so a slash may double or get lost.

use std::cell::LazyCell;
use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Severity};
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::HttpRoute;

/// Notes for one VirtualService.
pub(super) fn diagnose(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let prefixes = LazyCell::new(|| prefixes(object));
    // Where requests below a prefix are another match's: `/api/` beside `/api`.
    let is_split = |prefix: &str| prefixes.contains(&*format!("{prefix}/"));
    let rules = object.spec.http.iter().enumerate();
    rules.filter_map(|(index, rule)| Some(joined(object, index, misfit(rule, is_split)?))).collect()
}

fn joined(object: &Object<VirtualService>, index: usize, (text, help): (String, String)) -> Diagnostic {
    let place = object.place(&format!("spec.http[{index}].rewrite.uri"));
    Diagnostic { severity: Severity::Note, ..Diagnostic::warning("P0361", place, text) }.with_help(help)
}

/// What becomes of the first prefix of a rule that its rewrite does not fit, and what to write.
fn misfit(rule: &HttpRoute, is_split: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let uri = rule.rewrite.as_ref()?.uri.as_deref().filter(|uri| !uri.is_empty())?;
    let prefixes = rule.matches.iter().filter_map(|condition| condition.uri.as_ref()?.prefix.as_deref());
    let all = rule.matches.is_empty().then_some("/");
    let is_misfit = |prefix: &&str| !prefix.is_empty() && prefix.ends_with('/') != uri.ends_with('/');
    let prefix = prefixes.chain(all).find(|prefix| is_misfit(prefix) && !is_split(prefix))?;
    let (asked, sent, help) = match uri.ends_with('/') {
        true => (format!("{prefix}/x"), format!("{uri}/x"), format!("match `{prefix}/` before `{prefix}`")),
        false => (format!("{prefix}x"), format!("{uri}x"), format!("rewrite to `{uri}/`")),
    };
    Some((format!("`{asked}` goes on as `{sent}`: the prefix is replaced as a string"), help))
}

fn prefixes(object: &Object<VirtualService>) -> BTreeSet<&str> {
    let matches = object.spec.http.iter().flat_map(|rule| &rule.matches);
    matches.filter_map(|condition| condition.uri.as_ref()?.prefix.as_deref()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn slashes_that_double_or_get_lost_are_told() {
        for (rule, path) in [
            ("{match: [{uri: {prefix: /bare}}], rewrite: {uri: /}}", Some("`/bare/x` goes on as `//x`")),
            ("{match: [{uri: {prefix: /join/}}], rewrite: {uri: /to}}", Some("`/join/x` goes on as `/tox`")),
            ("{rewrite: {uri: /v1}}", Some("`/x` goes on as `/v1x`")),
            ("{match: [{uri: {prefix: /split}}], rewrite: {uri: /}}", None),
            ("{match: [{uri: {prefix: /a}}], rewrite: {uri: /b}}", None),
            ("{match: [{uri: {exact: /a}}], rewrite: {uri: /}}", None),
            ("{match: [{uri: {prefix: /a}}], rewrite: {authority: b}}", None),
        ] {
            let told = misfit(&serde_yaml::from_str(rule).unwrap(), |prefix| prefix == "/split");
            let told = told.as_ref().and_then(|(text, _)| text.split_once(": ")).map(|(path, _)| path);
            assert_eq!(told, path, "{rule}");
        }
    }
}
