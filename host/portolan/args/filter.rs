//! [`FilterArgs`]: the command line of `portolan filter`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

use super::ConfigArgs;

/// Arguments of `portolan filter`.
#[derive(Debug, ClapArgs)]
pub(crate) struct FilterArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: FilterCommand,
}

/// The commands of `portolan filter`.
#[derive(Debug, Subcommand)]
pub(crate) enum FilterCommand {
    /// Write portolan.lock beside the configuration: each filter's module by digest, signer, ABI, imports and cost
    ///
    /// From then on `run` and `check` refuse another module (P0503), whatever its tag or file says.
    Lock(ConfigArgs),
    /// Say what a module is: digest, ABI, imports
    Inspect {
        /// The module.
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
    },
}
