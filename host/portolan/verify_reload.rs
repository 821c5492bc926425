//! `portolan verify-reload`: holds requests and streams of every kind against a running gateway while its configuration,
//! a filter, certificates and listeners change, and counts what is lost.

mod changes;
mod held;
mod report;
mod requests;
mod secure;
mod streams;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::task::LocalSet;

use self::changes::Changes;
use self::report::Report;
use self::streams::Streams;
use self::target::Target;
use crate::args::{VerifyOutput, VerifyReloadArgs};
use crate::ask::Admin;
use crate::{UsageError, output, run};

/// The load goes on for this long before the first change and after the last.
const MARGIN: Duration = Duration::from_millis(300);

/// Exit code 1 when anything was lost.
pub(crate) fn verify_reload(args: &VerifyReloadArgs) -> anyhow::Result<ExitCode> {
    if !args.config.is_dir() {
        return Err(UsageError(format!("`{}` is no folder", args.config.display())).into());
    }
    let target = Target::new(args)?;
    let admin = Admin::new(&args.admin)?;
    let report = run::runtime()?.block_on(LocalSet::new().run_until(verify(args, &target, &admin)))?;
    match args.output {
        VerifyOutput::Text => output::answer(&report.to_string())?,
        VerifyOutput::Json => output::answer(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
    }
    Ok(if report.lost() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(args: &VerifyReloadArgs, target: &Target, admin: &Admin) -> anyhow::Result<Report> {
    let mut streams = Streams::open(target, args).await.context("the gateway does not serve what is asked of it")?;
    tokio::time::sleep(MARGIN).await;
    // Dropped, it takes its files back, also when a change is never served.
    let changes = Changes::begin(args, admin).await?;
    if let Some(secure) = changes.secure() {
        streams.ask_secure(secure);
    }
    let seen = changes.run(args).await;
    streams.end_secure().await;
    drop(changes);
    tokio::time::sleep(MARGIN).await;
    Ok(Report::new(args, streams.end().await, seen?))
}
