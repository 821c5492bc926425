//! What the filter accepts: [`CircuitBreakerConfig`] of the schema that it knows.

use portolan_model::filter::{Breaker, CircuitBreakerConfig, SCHEMA};
use portolan_sdk::ConfigError;

use crate::breaker::{Limits, admission_argument};

/// The limits by cluster.
pub(crate) fn read(config: CircuitBreakerConfig) -> Result<Vec<Option<Limits>>, ConfigError> {
    if config.schema != SCHEMA {
        return Err(ConfigError::new(format!(
            "schema {} is not {SCHEMA}, the one that this filter knows",
            config.schema
        )));
    }
    let limits = |Breaker { limits, outlier }: Breaker| Limits {
        admission: admission_argument(&limits, outlier.as_ref()),
        outlier,
    };
    Ok(config.clusters.into_iter().map(|breaker| breaker.map(limits)).collect())
}
