//! [`HealthChecks`]: the annotation `portolan.dev/health-check` of DestinationRules and ServiceEntries, by object.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::HealthCheck;

use super::policies::HostRules;
use super::registry::Provider;
use crate::ResourceSet;
use crate::annotations;
use crate::object::Object;

/// What each object with the annotation asks for. Read once, for a rule may be in force for thousands of clusters.
pub(super) struct HealthChecks {
    of_rules: HashMap<String, HealthCheck>,
    of_entries: HashMap<String, HealthCheck>,
}

impl HealthChecks {
    pub(super) fn of(resources: &ResourceSet) -> Self {
        Self {
            of_rules: resources.destination_rules().filter_map(check).collect(),
            of_entries: resources.service_entries().filter_map(check).collect(),
        }
    }

    /// That of the oldest rule for the host which has one, else of the oldest ServiceEntry that defines it.
    pub(super) fn of_host(
        &self,
        host: &str,
        rules: Option<&HostRules<'_>>,
        providers: &[Provider<'_>],
    ) -> Option<Arc<HealthCheck>> {
        if self.of_rules.is_empty() && self.of_entries.is_empty() {
            return None;
        }
        let of_rule = rules.and_then(|rules| rules.all().find_map(|rule| self.of_rules.get(&rule.meta.full_name())));
        let of_entry = || {
            providers.iter().find_map(|provider| match provider {
                Provider::Entry(entry) => self.of_entries.get(&entry.meta.full_name()),
                Provider::Service(_) | Provider::Bare(_) => None,
            })
        };
        let mut check = of_rule.or_else(of_entry)?.clone();
        if check.host.is_empty() {
            host.clone_into(&mut check.host);
        }
        Some(Arc::new(check))
    }
}

fn check<T>(object: &Object<T>) -> Option<(String, HealthCheck)> {
    let check = annotations::health_check(&object.meta.annotations).0?;
    let origin = object.origin("metadata.annotations.portolan.dev/health-check");
    Some((object.meta.full_name(), HealthCheck { origin, ..check }))
}
