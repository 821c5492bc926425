//! The command `portolan`: parses the command line, calls the command, sets the exit code.

mod acme;
mod args;
mod ask;
mod backend;
mod cases;
mod change;
mod check;
mod compile;
mod completions;
mod control;
mod demo;
mod dev_tls;
mod diff;
mod explain;
mod filter;
mod filters;
mod help;
mod init;
mod load;
mod modules;
mod output;
mod report;
mod run;
mod secret_files;
mod signals;
mod starter;
mod state;
mod takeover;
mod tell;
mod test;
mod try_to;
mod verify_reload;
mod version;
mod view;

use std::fmt;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

fn main() -> ExitCode {
    portolan_allocator::give_back_soon();
    match dispatch(&Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            output::remark(&format!("error: {error:#}\n"));
            let usage = error.downcast_ref::<UsageError>().is_some();
            if usage { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(args),
        Command::Explain(args) => explain::explain(args),
        Command::Test(args) => test::test(args),
        Command::Diff(args) => diff::diff(args),
        Command::VerifyReload(args) => verify_reload::verify_reload(args),
        Command::Filter(args) => filter::filter(args),
        Command::Demo(args) => demo::demo(args),
        Command::Init(args) => init::init(args),
        Command::Try(args) => try_to::try_to(args),
        Command::Version => done(output::answer(&version::text())),
        Command::Completions { shell } => done(completions::completions(*shell)),
        Command::Man => done(completions::man()),
        Command::Compile { cache_dir } => compile::compile(cache_dir).map(|()| ExitCode::SUCCESS),
        Command::Help { words } => help::help(words),
    }
}

fn done(result: std::io::Result<()>) -> anyhow::Result<ExitCode> {
    Ok(result.map(|()| ExitCode::SUCCESS)?)
}

/// A mistake on the command line that only shows after parsing: exit code 2, as clap's own.
#[derive(Debug)]
struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}
