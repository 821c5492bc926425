//! What the filter accepts: [`RouteMatchConfig`] of the schema that it knows.

use portolan_model::filter::{RouteMatchConfig, SCHEMA};
use portolan_sdk::{ConfigError, log};

use crate::matcher::Matcher;

/// The matcher. A regex that is none is logged and never holds: the other routes serve on.
pub(crate) fn read(config: RouteMatchConfig) -> Result<Matcher, ConfigError> {
    if config.schema != SCHEMA {
        return Err(ConfigError::new(format!(
            "schema {} is not {SCHEMA}, the one that this filter knows",
            config.schema
        )));
    }
    let matcher = Matcher::new(config.tables, config.matches);
    for (route, regex) in matcher.broken_patterns() {
        log::error(&format!("route {route} never matches: `{regex}` is no regular expression that this filter knows"));
    }
    Ok(matcher)
}
