//! Metrics of a filter: defined once in [`Filter::configure`](crate::Filter::configure), then moved by id.

use crate::raw::calls;
use crate::{HostError, MetricType};

/// A metric of the host.
///
/// ```
/// # use portolan_sdk::{testing::TestHost, prelude::*, Metric, MetricType};
/// # struct Quiet;
/// # impl Filter for Quiet {
/// #     type Config = NoConfig;
/// #     type Stream = ();
/// #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { Ok(Self) }
/// #     fn stream(&self) {}
/// # }
/// # portolan_sdk::filter! { Quiet: on_log }
/// # let _host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
/// # fn example() -> Result<(), HostError> {
/// let refused = Metric::define(MetricType::Counter, "refused_total")?;
/// refused.increment(2)?;
/// assert_eq!(refused.value()?, 2);
/// # Ok(())
/// # }
/// # example().expect("the test host has metrics");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    id: u32,
}

impl Metric {
    /// Defines a metric, or finds the one of this name.
    pub fn define(kind: MetricType, name: &str) -> Result<Self, HostError> {
        Ok(Self { id: calls::define_metric(kind, name)? })
    }

    /// Adds to a counter or gauge.
    pub fn increment(self, offset: i64) -> Result<(), HostError> {
        calls::increment_metric(self.id, offset)
    }

    /// Sets a gauge, or adds a value to a histogram.
    pub fn record(self, value: u64) -> Result<(), HostError> {
        calls::record_metric(self.id, value)
    }

    /// Reads a counter or gauge.
    pub fn value(self) -> Result<u64, HostError> {
        calls::metric(self.id)
    }
}
