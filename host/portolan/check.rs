//! `portolan check`: everything that is wrong with the files, and the exit code.
//!
//! It goes the whole way that `run` goes, up to a snapshot with started filters, and serves nothing.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use portolan_config::{Diagnostic, Severity, Sources, render_github, render_json, render_text};
use portolan_telemetry::Metrics;

use crate::args::{CheckArgs, CheckOutput, ConfigArgs};
use crate::change::number;
use crate::load::{self, Loader, Purpose};
use crate::output;

/// For all modules that are not on this machine.
pub(crate) const FETCH_TIME: Duration = Duration::from_secs(30);

/// Prints the findings. Exit code 1 when there are errors, with `--strict` also for warnings.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (sources, resources, diagnostics) = findings(&args.config)?;
    let worst = diagnostics.iter().map(|diagnostic| diagnostic.severity).max();
    let text = match args.output {
        CheckOutput::Text => {
            render_text(&diagnostics, &sources, output::color()) + &summary(&sources, resources, &diagnostics)
        }
        CheckOutput::Json => render_json(&diagnostics, &sources),
        CheckOutput::Github => render_github(&diagnostics, &sources),
    };
    output::answer(&text)?;
    let failed = worst >= Some(if args.strict { Severity::Warning } else { Severity::Error });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The files, the number of resources in force, and the findings in order of place.
fn findings(config: &ConfigArgs) -> anyhow::Result<(Sources, usize, Vec<Diagnostic>)> {
    let mut loader = Loader::new(config)?;
    let read = loader.read(false);
    loader.modules().wait(FETCH_TIME);
    let mut diagnostics = read.diagnostics.clone();
    let (_, problems) =
        load::builder(config, loader.modules().source(), Metrics::new(), Purpose::default())?.build(read.model.clone());
    diagnostics.extend(problems.iter().map(|problem| loader.diagnose(problem)));
    diagnostics.sort_by(|a, b| {
        let key = |d: &Diagnostic| (d.place.file.clone(), d.place.line, d.place.column);
        key(a).cmp(&key(b))
    });
    let resources = loader.resources().objects().count();
    Ok((read.sources, resources, diagnostics))
}

/// `3 files, 7 resources: 2 errors, 1 warning`.
fn summary(sources: &Sources, resources: usize, diagnostics: &[Diagnostic]) -> String {
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut text = format!("{}, {}: ", number(sources.files().len(), "file"), number(resources, "resource"));
    let _ = match (errors, warnings) {
        (0, 0) => writeln!(text, "no errors, no warnings"),
        _ => writeln!(text, "{}, {}", number(errors, "error"), number(warnings, "warning")),
    };
    text
}
