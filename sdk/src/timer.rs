//! Ticks: [`Filter::on_tick`](crate::Filter::on_tick) in a period.
//!
//! ```
//! use std::cell::Cell;
//! use std::time::Duration;
//! use portolan_sdk::{prelude::*, timer};
//!
//! struct Clock {
//!     ticks: Cell<u32>,
//! }
//!
//! impl Filter for Clock {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         timer::every(Duration::from_secs(1))?;
//!         Ok(Self { ticks: Cell::new(0) })
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_tick(&self) -> Result<(), HostError> {
//!         self.ticks.set(self.ticks.get() + 1);
//!         Ok(())
//!     }
//! }
//!
//! portolan_sdk::filter! { Clock: on_tick }
//!
//! let host = portolan_sdk::testing::TestHost::<Clock>::start("").expect("any configuration will do");
//! assert_eq!(host.tick_period(), Some(Duration::from_secs(1)));
//! host.tick();
//! ```

use std::time::Duration;

use crate::HostError;
use crate::raw::callouts;

/// Ticks in this period from now on, whole milliseconds and at least one. The period belongs to the plugin in this VM:
/// the last call counts, and every VM (there is one for each worker) ticks for itself.
pub fn every(period: Duration) -> Result<(), HostError> {
    callouts::set_tick_period(millis(period).max(1))
}

/// No more ticks.
pub fn stop() -> Result<(), HostError> {
    callouts::set_tick_period(0)
}

/// Whole milliseconds, as many as the ABI can say.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
