//! [`Ran`]: what came of a case, as text, as JSON, and as annotations of GitHub.

use std::fmt::Write;
use std::time::Duration;

use portolan_config::object::Places;
use portolan_config::{Diagnostic, Sources, render_github, render_json, render_text};
use serde_json::json;

use super::Difference;
use crate::args::TestOutput;
use crate::change::number;
use crate::output;

/// Number of the form of the JSON report; grows when a reader would have to change.
const SCHEMA: u32 = 1;

/// Code of a case that fails.
const FAILED: &str = "P0602";

/// Lines of the filter's log that a failed case shows; the last ones.
const LOG_LINES: usize = 20;

/// A case that has run.
pub(crate) struct Ran<'a> {
    /// What is tested.
    pub(crate) name: &'a str,
    /// Where its fields stand.
    pub(crate) places: &'a Places,
    /// With the start of its gateway.
    pub(crate) took: Duration,
    /// Empty when it passes.
    pub(crate) differences: Vec<Difference>,
    /// What the filter has logged.
    pub(crate) log: Vec<String>,
    /// Callbacks that trapped or were ended.
    pub(crate) failures: Vec<String>,
}

impl Ran<'_> {
    /// True when all is as expected.
    pub(crate) fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// What is wrong with cases, in the form that their results would have.
pub(crate) fn unusable(diagnostics: &[Diagnostic], sources: &Sources, output: TestOutput) -> String {
    match output {
        TestOutput::Text | TestOutput::Junit => render_text(diagnostics, sources, output::color()),
        TestOutput::Json => render_json(diagnostics, sources),
        TestOutput::Github => render_github(diagnostics, sources),
    }
}

/// One line; for a failure what differs below it.
pub(crate) fn text(ran: &Ran<'_>) -> String {
    let name = ran.name;
    let millis = ran.took.as_millis();
    if ran.passed() {
        return format!("ok    {name}  ({millis} ms)\n");
    }
    let at = ran.places.of("name");
    let mut text = format!("FAIL  {name}  ({millis} ms)  {}:{}\n", at.file, at.line);
    for difference in &ran.differences {
        let Difference { field, expected, got, trace } = difference;
        let _ = writeln!(text, "        {field}");
        let _ = writeln!(text, "          expected  {}", below(expected));
        let _ = writeln!(text, "          got       {}", below(got));
        for line in trace {
            let _ = writeln!(text, "          {}", below(line));
        }
    }
    for failure in &ran.failures {
        let _ = writeln!(text, "        failed    {}", below(failure));
    }
    for line in &ran.log[ran.log.len().saturating_sub(LOG_LINES)..] {
        let _ = writeln!(text, "        log       {}", below(line));
    }
    text
}

/// Further lines stand below the first.
fn below(text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(portolan_config::render::escape).collect();
    lines.join("\n                    ")
}

/// `3 cases: 2 passed, 1 failed  (0.4 s)`.
pub(crate) fn summary(ran: &[Ran<'_>], took: Duration) -> String {
    let passed = ran.iter().filter(|ran| ran.passed()).count();
    let failed = ran.len() - passed;
    let seconds = took.as_secs_f64();
    match failed {
        0 => format!("{} passed  ({seconds:.1} s)\n", number(ran.len(), "case")),
        _ => format!("{}: {passed} passed, {failed} failed  ({seconds:.1} s)\n", number(ran.len(), "case")),
    }
}

/// One document, with what else is to be in it.
pub(crate) fn json(ran: &[Ran<'_>], more: Option<(&str, serde_json::Value)>) -> anyhow::Result<String> {
    let case = |ran: &Ran<'_>| {
        let at = ran.places.of("name");
        let difference = |difference: &Difference| {
            let line = ran.places.of(&format!("expect.{}", difference.field)).line;
            let Difference { field, expected, got, trace } = difference;
            json!({ "field": field, "expected": expected, "got": got, "line": line, "trace": trace })
        };
        json!({
            "name": ran.name,
            "file": at.file,
            "line": at.line,
            "passed": ran.passed(),
            "ms": ran.took.as_millis() as u64,
            "differences": ran.differences.iter().map(difference).collect::<Vec<_>>(),
            "failures": ran.failures,
            "log": ran.log,
        })
    };
    let failed = ran.iter().filter(|ran| !ran.passed()).count();
    let mut report = json!({
        "schema": SCHEMA,
        "passed": ran.len() - failed,
        "failed": failed,
        "cases": ran.iter().map(case).collect::<Vec<_>>(),
    });
    if let Some((key, value)) = more {
        report[key] = value;
    }
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

/// One annotation for each difference, at the line that expects otherwise.
pub(crate) fn github(ran: &[Ran<'_>]) -> String {
    let findings = ran.iter().flat_map(|ran| {
        ran.differences.iter().map(|Difference { field, expected, got, .. }| {
            let place = ran.places.of(&format!("expect.{field}"));
            Diagnostic::error(FAILED, place, format!("{}: `{field}`: expected {expected}, got {got}", ran.name))
        })
    });
    render_github(&findings.collect::<Vec<_>>(), &Sources::default())
}
