//! `portolan filter`: everything for who writes filters or runs those of others.

mod bench;
mod build;
mod case;
mod compare;
mod dev;
mod inspect;
mod list;
mod lock;
mod login;
mod new;
pub(crate) mod project;
mod pull;
mod push;
mod stage;
mod subject;
mod target;
mod test;
mod verify;

use std::process::ExitCode;

use self::project::Profile;
use crate::args::{FilterArgs, FilterCommand};

/// Runs the subcommand.
pub(crate) fn filter(args: &FilterArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        FilterCommand::New { name, folder, lang } => new::new(name, *lang, folder.as_ref()),
        FilterCommand::Build { folder, dev, .. } => {
            build::build(folder, if *dev { Profile::Dev } else { Profile::Release })
        }
        FilterCommand::Dev(args) => dev::dev(args),
        FilterCommand::Test(args) => test::test(args),
        FilterCommand::Bench(args) => bench::bench(args),
        FilterCommand::Lock(config) => lock::lock(config),
        FilterCommand::List { output } => list::list(*output),
        FilterCommand::Inspect(args) => inspect::inspect(args),
        FilterCommand::Push(args) => push::push(args),
        FilterCommand::Pull(args) => pull::pull(args),
        FilterCommand::Verify(args) => verify::verify(args),
    }
}
