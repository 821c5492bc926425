//! `portolan test`: asks where the requests of route tests go, of files or of a running gateway, and says what is not as
//! expected.

mod case;
mod compare;
mod coverage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use self::case::{PlacedTest, RouteTest};
use self::coverage::Coverage;
use crate::args::{RouteTestArgs, TestOutput};
use crate::ask::Admin;
use crate::cases::files::{self, Documents, Format};
use crate::cases::{Ran, junit, report};
use crate::explain::{Table, Verdict};
use crate::{UsageError, output};

/// The JSON Schema of a route test, for editors.
const SCHEMA: &str = include_str!("test/schema.json");

/// Exit code of tests that cannot be read or asked.
const UNUSABLE: u8 = 2;

/// Who says where a request goes.
enum Oracle {
    /// Files, by the filters that would serve them.
    Files(Box<Table>),
    /// A running gateway.
    Live(Admin),
}

/// Runs, prints, and fails when a test does.
pub(crate) fn test(args: &RouteTestArgs) -> anyhow::Result<ExitCode> {
    if args.schema {
        output::answer(SCHEMA)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Documents { read, mut diagnostics, sources } = files::read::<RouteTest>(&test_files(args)?, Format::Route);
    let mut tests = Vec::new();
    for test in read {
        let findings = case::check(&test);
        if findings.is_empty() {
            tests.push(test);
        }
        diagnostics.extend(findings);
    }
    diagnostics.extend(files::same_names(&tests, |test| &test.name));
    if !diagnostics.is_empty() {
        output::answer(&report::unusable(&diagnostics, &sources, args.output))?;
        return Ok(ExitCode::from(UNUSABLE));
    }
    if let Some(name) = &args.case {
        tests.retain(|test| test.value.name == *name);
    }
    if tests.is_empty() {
        return Err(none_found(args).into());
    }
    // A configuration that cannot be asked is no failed test.
    let oracle = Oracle::of(args).map_err(|error| UsageError(format!("{error:#}")))?;
    run(args, &oracle, &tests)
}

fn run(args: &RouteTestArgs, oracle: &Oracle, tests: &[PlacedTest]) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut coverage = if args.wants_coverage() { Some(oracle.coverage()?) } else { None };
    let mut ran = Vec::new();
    for test in tests {
        let one = run_one(oracle, test, coverage.as_mut())?;
        if args.output == TestOutput::Text {
            output::answer(&report::text(&one))?;
        }
        ran.push(one);
    }
    let shown = coverage.as_ref().filter(|_| args.coverage);
    output::answer(&match args.output {
        TestOutput::Text => {
            report::summary(&ran, begun.elapsed()) + &shown.map(|coverage| coverage.text()).unwrap_or_default()
        }
        TestOutput::Json => match shown {
            None => report::json(&ran, None)?,
            Some(coverage) => report::json(&ran, Some(("coverage", coverage.json())))?,
        },
        TestOutput::Github => report::github(&ran) + &shown.map(|coverage| coverage.github()).unwrap_or_default(),
        TestOutput::Junit => junit::render("routes", &ran),
    })?;
    let mut passed = ran.iter().all(Ran::passed);
    if let (Some(least), Some(coverage)) = (args.min_coverage, &coverage)
        && coverage.percent() < least
    {
        output::remark(&format!("{}, and `--min-coverage` wants {least} %\n", coverage.summary()));
        passed = false;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_one<'a>(oracle: &Oracle, test: &'a PlacedTest, coverage: Option<&mut Coverage>) -> anyhow::Result<Ran<'a>> {
    let begun = Instant::now();
    let verdict = oracle.ask(&test.value)?;
    if let (Some(coverage), Verdict::Http(explanation)) = (coverage, &verdict) {
        coverage.note(explanation);
    }
    let differences = compare::compare(&test.value.expect, &verdict);
    Ok(Ran {
        name: &test.value.name,
        places: &test.places,
        took: begun.elapsed(),
        differences,
        log: Vec::new(),
        failures: Vec::new(),
    })
}

impl Oracle {
    fn of(args: &RouteTestArgs) -> anyhow::Result<Self> {
        Ok(match &args.admin {
            Some(admin) => Self::Live(Admin::new(admin)?),
            None => Self::Files(Box::new(Table::read(&args.config)?)),
        })
    }

    fn ask(&self, test: &RouteTest) -> anyhow::Result<Verdict> {
        let question = test.request.question()?;
        match self {
            Self::Files(table) => table.ask(&question),
            Self::Live(admin) => admin.explain(&question),
        }
    }

    fn coverage(&self) -> anyhow::Result<Coverage> {
        Ok(match self {
            Self::Files(table) => Coverage::of(table.model()),
            Self::Live(admin) => Coverage::of(&admin.model()?),
        })
    }
}

/// The files of the command line, or all beside the configuration.
fn test_files(args: &RouteTestArgs) -> anyhow::Result<Vec<PathBuf>> {
    let missing = |path: &&PathBuf| path.as_os_str() != "-" && !path.exists();
    if let Some(path) = args.files.iter().find(missing) {
        return Err(UsageError(format!("`{}` does not exist", path.display())).into());
    }
    let named = args.files.iter().flat_map(|path| if path.is_dir() { files::below(path) } else { vec![path.clone()] });
    if !args.files.is_empty() {
        return Ok(named.collect());
    }
    let mut found: Vec<_> = args.config.config.iter().flat_map(|path| beside(path)).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn beside(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return files::below(path);
    }
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    files::in_folder(parent.unwrap_or(Path::new(".")))
}

/// A run that tests nothing must not pass.
fn none_found(args: &RouteTestArgs) -> UsageError {
    match &args.case {
        Some(name) => UsageError(format!("no route test `{name}`")),
        None => UsageError(
            "no route test: none of the files is named *.test.yaml and has one\n\
             help: `portolan test --schema` says what one looks like"
                .to_owned(),
        ),
    }
}
