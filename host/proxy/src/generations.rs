//! [`Generations`]: every version of every filter that is still alive, for whoever wants to show them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::generation::PluginGeneration;

/// Versions in the order in which they were started. They stay alive through snapshots and streams, not through this.
#[derive(Debug, Default)]
pub(crate) struct Generations(Mutex<Vec<Weak<PluginGeneration>>>);

impl Generations {
    pub(crate) fn add(&self, generation: &Arc<PluginGeneration>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|generation| generation.strong_count() > 0);
        all.push(Arc::downgrade(generation));
    }

    /// The versions of a filter that are alive, oldest first.
    pub(crate) fn of(&self, name: &str) -> Vec<Arc<PluginGeneration>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().filter_map(Weak::upgrade).filter(|generation| *generation.name == *name).collect()
    }
}
