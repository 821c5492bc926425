//! Workloads of endpoints by number, so that counting a request compares numbers. A number means the same for as long as
//! the process runs.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use portolan_model::Workload;
use portolan_telemetry::StandardWorkload;

/// Workloads that are known at most; endpoints of further ones count as those of none.
const MAX_WORKLOADS: usize = 65_536;

#[derive(Default)]
struct Known {
    numbers: HashMap<Workload, u32>,
    /// The workload of number 1 first.
    all: Vec<Arc<StandardWorkload>>,
}

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(RwLock::default);

/// The workload's number; 0 for none.
pub(crate) fn number(workload: Option<&Workload>) -> u32 {
    let Some(workload) = workload else { return 0 };
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner).numbers.get(workload).copied();
    known.unwrap_or_else(|| KNOWN.write().unwrap_or_else(PoisonError::into_inner).number(workload))
}

/// The workload of a number.
pub(crate) fn of(number: u32) -> Option<Arc<StandardWorkload>> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    known.all.get((number as usize).checked_sub(1)?).cloned()
}

impl Known {
    fn number(&mut self, workload: &Workload) -> u32 {
        if let Some(number) = self.numbers.get(workload) {
            return *number;
        }
        if self.all.len() >= MAX_WORKLOADS {
            return 0;
        }
        let Workload { name, namespace, canonical_service, canonical_revision } = workload.clone();
        let (service, revision) = (canonical_service, canonical_revision);
        self.all.push(Arc::new(StandardWorkload { name, namespace, service, revision }));
        let number = u32::try_from(self.all.len()).unwrap_or(0);
        self.numbers.insert(workload.clone(), number);
        number
    }
}
