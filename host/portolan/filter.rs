//! `portolan filter`: everything for who writes filters or runs those of others.

mod inspect;
mod lock;

use std::process::ExitCode;

use crate::args::{FilterArgs, FilterCommand};

/// Runs the subcommand.
pub(crate) fn filter(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        FilterCommand::Lock(config) => lock::lock(config),
        FilterCommand::Inspect { file } => inspect::inspect(file),
    }
}
