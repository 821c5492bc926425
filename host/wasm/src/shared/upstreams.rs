//! `Upstreams`: the names of the clusters that callouts may go to.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

/// The names that are configured now. Replaced as a whole, before filters with the new configuration start.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    names: RwLock<HashSet<Arc<str>>>,
}

impl Upstreams {
    pub(crate) fn set(&self, names: HashSet<Arc<str>>) {
        *self.names.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The cluster of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<str>> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
