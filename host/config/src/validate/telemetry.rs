//! Checks of a Telemetry.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::Telemetry;

/// Values of `match.mode`.
const MODES: &[&str] = &["CLIENT_AND_SERVER", "CLIENT", "SERVER"];

/// Checks a Telemetry by itself.
pub fn telemetry(object: &Object<Telemetry>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    for (i, logging) in object.spec.access_logging.iter().enumerate() {
        let path = format!("spec.accessLogging[{i}]");
        let mode = logging.matches.as_ref().and_then(|matches| matches.mode.as_ref());
        checker.word(&format!("{path}.match.mode"), mode, MODES);
        for (j, provider) in logging.providers.iter().enumerate() {
            if provider.name.is_empty() {
                checker.missing(&format!("{path}.providers[{j}]"), "name");
            }
        }
        // Istio takes one provider an entry.
        if logging.providers.len() > 1 {
            checker.error_at_key("P0102", &format!("{path}.providers"), "an entry takes one provider");
            checker.help("write an entry for each");
        }
        if logging.filter.as_ref().is_some_and(|filter| filter.expression.trim().is_empty()) {
            checker.missing(&format!("{path}.filter"), "expression");
        }
    }
    checker.finish()
}
