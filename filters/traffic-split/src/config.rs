//! What the filter accepts: [`TrafficSplitConfig`] of the schema that it knows.

use portolan_model::filter::{SCHEMA, TrafficSplitConfig};
use portolan_sdk::ConfigError;

use crate::splitter::{RouteSplit, Weyl};

/// The splits by route; `seed` decides where their sequences begin.
pub(crate) fn read(config: TrafficSplitConfig, seed: u64) -> Result<Vec<RouteSplit>, ConfigError> {
    if config.schema != SCHEMA {
        return Err(ConfigError::new(format!(
            "schema {} is not {SCHEMA}, the one that this filter knows",
            config.schema
        )));
    }
    let split = |(route, split)| RouteSplit::new(split, Weyl::starting_at(seed ^ (route as u64) << 40));
    Ok(config.routes.into_iter().enumerate().map(split).collect())
}
