//! Workloads of endpoints by number.

use std::sync::{Arc, LazyLock};

use portolan_model::Workload;
use portolan_telemetry::StandardWorkload;

use crate::numbered::Numbered;

static KNOWN: LazyLock<Numbered<Workload, StandardWorkload>> = LazyLock::new(Numbered::default);

/// The workload's number; 0 for none.
pub(crate) fn number(workload: Option<&Workload>) -> u32 {
    workload.map_or(0, |workload| KNOWN.number(workload, labels))
}

/// The workload of a number.
pub(crate) fn of(number: u32) -> Option<Arc<StandardWorkload>> {
    KNOWN.of(number)
}

fn labels(workload: &Workload) -> StandardWorkload {
    let Workload { name, namespace, canonical_service, canonical_revision } = workload.clone();
    StandardWorkload { name, namespace, service: canonical_service, revision: canonical_revision }
}
