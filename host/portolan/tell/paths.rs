//! How paths are read, in words.

use portolan_model::PathPolicy;

use super::{Told, plugin::word};

/// Istio's mode, and what becomes of paths that others may read otherwise.
pub(crate) fn paths(policy: &PathPolicy) -> Vec<Told> {
    let PathPolicy { normalization, refuse_ambiguous } = policy;
    let ambiguous = if *refuse_ambiguous { "refused" } else { "served" };
    vec![Told::new("pathNormalization", word(normalization), None), Told::new("ambiguous", ambiguous, None)]
}
