//! Findings about each VirtualService by itself and its destinations, kept over translations.

use std::collections::HashSet;
use std::sync::Arc;

use super::destinations::Destinations;
use super::memo::{Memo, address};
use super::{analysis, reachability, rewrites, unserved};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::VirtualService;

/// One finding.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) diagnostic: Diagnostic,
    /// What it is about, when it is told once however many VirtualServices have it.
    pub(super) once: Option<String>,
}

/// What is found about each VirtualService, by its address in memory.
pub(super) type ByObject = Vec<(usize, Arc<[Finding]>)>;

/// What is found about all VirtualServices, and by VirtualService for the memo. `has_tokens`: some RequestAuthentication
/// is for this gateway.
pub(super) fn of_virtual_services(
    resources: &ResourceSet,
    destinations: &Destinations<'_>,
    has_tokens: bool,
    memo: &Memo,
) -> (Vec<Diagnostic>, ByObject) {
    let (mut told, mut diagnostics, mut all) = (HashSet::new(), Vec::new(), Vec::new());
    for object in resources.virtual_services() {
        let found = memo.findings(object).unwrap_or_else(|| of_one(object, destinations, has_tokens).into());
        for finding in &*found {
            if finding.once.as_ref().is_none_or(|once| told.insert(once.clone())) {
                diagnostics.push(finding.diagnostic.clone());
            }
        }
        all.push((address(object), found));
    }
    (diagnostics, all)
}

fn of_one(object: &Object<VirtualService>, destinations: &Destinations<'_>, has_tokens: bool) -> Vec<Finding> {
    let mut found = destinations.diagnose(object);
    let always = |diagnostic| Finding { diagnostic, once: None };
    found.extend(analysis::empty_prefixes(object).into_iter().map(always));
    found.extend(reachability::diagnose(object).into_iter().map(always));
    found.extend(rewrites::diagnose(object).into_iter().map(always));
    found.extend(unserved::of_virtual_service(object, has_tokens).into_iter().map(always));
    found
}
