//! `portolan filter test`: runs the cases of a filter in a gateway of their own, and says what is not as expected.

mod record;
mod runner;
mod yaml;

use std::process::ExitCode;
use std::time::Instant;

pub(super) use self::record::is_of_the_gateway;
use self::runner::Runner;
use super::case::{self, Cases, PlacedCase};
use super::project::Profile;
use super::target::Target;
use crate::args::{TestArgs, TestOutput};
use crate::cases::{Ran, junit, report};
use crate::{UsageError, output, run};

/// The JSON Schema of a case, for editors.
const SCHEMA: &str = include_str!("case/schema.json");

/// Exit code of cases that cannot be read.
const UNREADABLE: u8 = 2;

/// Runs, prints, and fails when a case does.
pub(super) fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    if args.schema {
        output::answer(SCHEMA)?;
        return Ok(ExitCode::SUCCESS);
    }
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    if let Some(name) = &args.record {
        record::check(&Target::folder_of(&args.target), name)?;
        let target = Target::open(&args.target, profile, args.plugin_config.as_ref())?;
        return record::record(&target, name, args);
    }
    // What is wrong with the cases is told before anything is built.
    let Cases { mut cases, diagnostics, sources } = case::read(&Target::folder_of(&args.target));
    if !diagnostics.is_empty() {
        output::answer(&report::unusable(&diagnostics, &sources, args.output))?;
        return Ok(ExitCode::from(UNREADABLE));
    }
    if let Some(name) = &args.case {
        cases.retain(|case| case.value.name == *name);
    }
    if cases.is_empty() {
        return Err(none_found(args));
    }
    let target = Target::open(&args.target, profile, args.plugin_config.as_ref())?;
    let begun = Instant::now();
    let ran = run_all(&target, &cases, args.output)?;
    output::answer(&match args.output {
        TestOutput::Text => report::summary(&ran, begun.elapsed()),
        TestOutput::Json => report::json(&ran, None)?,
        TestOutput::Github => report::github(&ran),
        TestOutput::Junit => junit::render(&target.name, &ran),
    })?;
    Ok(if ran.iter().all(Ran::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A test that tests nothing must not pass.
fn none_found(args: &TestArgs) -> anyhow::Error {
    let folder = Target::folder_of(&args.target);
    match &args.case {
        Some(name) => UsageError(format!("no case `{name}` in {}", folder.display())).into(),
        None => anyhow::anyhow!(
            "no case in {}: none of its files, nor of those in its folder `tests`, is named *.test.yaml\n\
             help: `portolan filter test --record NAME --url /` writes one",
            folder.display()
        ),
    }
}

/// For people each case is told as soon as it has run.
fn run_all<'a>(target: &Target, cases: &'a [PlacedCase], form: TestOutput) -> anyhow::Result<Vec<Ran<'a>>> {
    let runner = Runner::new(target)?;
    run::runtime()?.block_on(async {
        let mut ran = Vec::new();
        for case in cases {
            let one = runner.run(case).await?;
            if form == TestOutput::Text {
                output::answer(&report::text(&one))?;
            }
            ran.push(one);
        }
        Ok(ran)
    })
}
