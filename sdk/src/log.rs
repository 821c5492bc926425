//! Lines for the host's log. They take text and not a format, so that a filter that only logs on errors stays small.
//!
//! ```
//! # use portolan_sdk::{log, testing::TestHost, LogLevel, prelude::*};
//! # struct Quiet;
//! # impl Filter for Quiet {
//! #     type Config = NoConfig;
//! #     type Stream = ();
//! #     fn configure(_: NoConfig) -> Result<Self, ConfigError> { log::info("ready"); Ok(Self) }
//! #     fn stream(&self) {}
//! # }
//! # portolan_sdk::filter! { Quiet: on_log }
//! # let host = TestHost::<Quiet>::start("").expect("no configuration to refuse");
//! log::warn("no such tenant");
//! assert_eq!(host.logs(), [(LogLevel::Info, "ready".into()), (LogLevel::Warn, "no such tenant".into())]);
//! ```

use crate::LogLevel;
use crate::raw::calls;

/// Logs at level trace.
pub fn trace(message: &str) {
    calls::log(LogLevel::Trace, message);
}

/// Logs at level debug.
pub fn debug(message: &str) {
    calls::log(LogLevel::Debug, message);
}

/// Logs at level info.
pub fn info(message: &str) {
    calls::log(LogLevel::Info, message);
}

/// Logs at level warn.
pub fn warn(message: &str) {
    calls::log(LogLevel::Warn, message);
}

/// Logs at level error.
pub fn error(message: &str) {
    calls::log(LogLevel::Error, message);
}
