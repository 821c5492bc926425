//! [`FilterArgs`]: the command line of `portolan filter`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::ConfigArgs;
use crate::filter::project::Language;

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
    /// Start a filter: a project with sources, tests and all that its first build needs
    ///
    /// A folder that holds something is left alone. In Rust the SDK's sources come along, so that cargo needs only the
    /// few crates that these name.
    New {
        /// Lower-case words with `-` between.
        #[arg(value_name = "NAME")]
        name: String,
        /// Where [default: a folder of that name]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        /// What to write it in
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        lang: Language,
    },
    /// Build the filter of a folder with its language's own toolchain, and look the module over
    ///
    /// `filter.yaml` says the language and may name another command. Rust needs cargo with target wasm32-wasip1, Go
    /// its own compiler (no TinyGo), AssemblyScript npm, C clang and lld.
    Build {
        /// The project.
        #[arg(value_name = "DIR", default_value = ".")]
        folder: PathBuf,
        /// Small and fast, for traffic: the default
        #[arg(long)]
        release: bool,
        /// As `filter dev` builds it: quick to build and to load
        #[arg(long, conflicts_with = "release")]
        dev: bool,
    },
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
    /// List the filters of the library: `url: bundled://NAME` of a WasmPlugin puts one into the chain
    List {
        /// Form of the answer
        #[arg(long, short, value_enum, default_value_t)]
        output: ListOutput,
    },
}

/// Forms of the answer of `filter list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListOutput {
    /// For people
    #[default]
    Text,
    /// A JSON list
    Json,
}
