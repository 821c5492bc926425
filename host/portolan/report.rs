//! [`Report`]: what the log says of each load: one meaningful line, and each finding once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use portolan_config::{Diagnostic, ObjectState, ResourceSet, Severity, Sources};
use portolan_proxy::Snapshot;

use crate::change::{self, number};
use crate::load::Read;

/// File names in a reload line; further ones are counted.
const NAMED_FILES: usize = 3;

/// Remembers what was said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    files: HashMap<Arc<str>, [u8; 32]>,
    said: HashSet<String>,
}

impl Report {
    /// The line of the first load.
    pub(crate) fn first(&mut self, read: &Read, resources: &ResourceSet, took: Duration) {
        self.files = hashes(&read.sources);
        let warnings = read.diagnostics.iter().filter(|d| d.severity == Severity::Warning).count();
        let errors = read.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
        let errors = if errors > 0 { format!("{}, ", number(errors, "error")) } else { String::new() };
        tracing::info!(
            "loaded   {}, {}, {errors}{}  {} ms",
            number(self.files.len(), "file"),
            number(in_state(resources, ObjectState::Active), "resource"),
            number(warnings, "warning"),
            took.as_millis()
        );
    }

    /// A change without a meaning: of comments, or of an object that stays as it was because it is wrong.
    pub(crate) fn unchanged(&mut self, read: &Read, resources: &ResourceSet) {
        let files = self.changed_files(&read.sources);
        if let Some(kept) = kept(read, resources) {
            tracing::warn!("kept     {files}  {kept}");
        } else if !files.is_empty() {
            tracing::info!("reload   {files}  no change in meaning");
        }
    }

    /// A change that was published.
    pub(crate) fn reload(
        &mut self,
        read: &Read,
        resources: &ResourceSet,
        (old, new): (&Snapshot, &Snapshot),
        new_code: bool,
        took: Duration,
    ) {
        let files = self.changed_files(&read.sources);
        let is_built = Arc::ptr_eq(&new.model, &read.model);
        let is_same = if is_built { read.means(&old.model) } else { *old.model == *new.model };
        let mut meaning = match (is_same, new_code) {
            (true, true) => "new filter code".to_owned(),
            (true, false) => "no change in meaning".to_owned(),
            (false, _) => change::describe(&old.model, &new.model),
        };
        if let Some(kept) = kept(read, resources) {
            meaning = format!("{meaning}; {kept}");
        }
        let files = if files.is_empty() { files } else { format!("{files}  ") };
        tracing::info!("reload   #{}  {files}{meaning}  {} ms", new.generation, took.as_millis());
    }

    /// Findings that were not there the last time.
    pub(crate) fn findings(&mut self, findings: &[Diagnostic]) {
        let lines: HashSet<_> = findings.iter().map(line).collect();
        for finding in findings {
            let text = line(finding);
            if self.said.contains(&text) {
                continue;
            }
            match finding.severity {
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
                Severity::Note => tracing::info!("{text}"),
            }
        }
        self.said = lines;
    }

    /// What a build could not do, each time that it was tried; with true the old version serves on.
    pub(crate) fn problems(&self, problems: &[(Diagnostic, bool)]) {
        for (problem, kept_old) in problems {
            let rest = if *kept_old { "; the one before serves on" } else { "" };
            match problem.severity {
                Severity::Error => tracing::error!("{}{rest}", line(problem)),
                _ => tracing::warn!("{}{rest}", line(problem)),
            }
        }
    }

    /// Names of files that are new, different or gone since the last call.
    fn changed_files(&mut self, sources: &Sources) -> String {
        let now = hashes(sources);
        let new =
            now.iter().filter(|(name, hash)| self.files.get(*name) != Some(hash)).map(|(name, _)| name.to_string());
        let gone = self.files.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("-{name}"));
        let sorted = |names: &mut dyn Iterator<Item = String>| {
            let mut names: Vec<_> = names.collect();
            names.sort_unstable();
            names
        };
        let names = [sorted(&mut { new }), sorted(&mut { gone })].concat();
        self.files = now;
        let more = names.len().saturating_sub(NAMED_FILES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names[..names.len().min(NAMED_FILES)].join(", ") + &more
    }
}

fn hashes(sources: &Sources) -> HashMap<Arc<str>, [u8; 32]> {
    sources.files().iter().map(|file| (file.name.clone(), file.hash)).collect()
}

fn in_state(resources: &ResourceSet, state: ObjectState) -> usize {
    resources.objects().filter(|object| object.state == state).count()
}

/// `1 object stays at its old version, 4 are up to date`; none when nothing is held back.
fn kept(read: &Read, resources: &ResourceSet) -> Option<String> {
    let (old, rejected) = (in_state(resources, ObjectState::KeptOld), in_state(resources, ObjectState::Rejected));
    let errors = read.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    if old + rejected == 0 && errors == 0 {
        return None;
    }
    let mut parts = vec![number(errors, "error")];
    if old > 0 {
        parts.push(format!("{} at the old version", number(old, "object")));
    }
    if rejected > 0 {
        parts.push(format!("{} not served", number(rejected, "object")));
    }
    parts.push(format!("{} up to date", in_state(resources, ObjectState::Active)));
    Some(parts.join(", "))
}

/// One line, the place first.
pub(crate) fn line(finding: &Diagnostic) -> String {
    let place = &finding.place;
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let label = finding.label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    let help = finding.help.as_ref().map(|help| format!("; help: {help}")).unwrap_or_default();
    format!(
        "{}:{}:{}: {severity}[{}]: {}{label}{help}",
        place.file, place.line, place.column, finding.code, finding.message
    )
}

#[cfg(test)]
mod tests {
    use portolan_config::diagnostic::Place;

    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_place_first() {
        let place = Place { file: "routes.yaml".into(), line: 23, column: 17, length: 2 };
        let finding = Diagnostic::error("P0204", place, "no subset `v3`").with_label("known: v1").with_help("use v1");
        assert_eq!(line(&finding), "routes.yaml:23:17: error[P0204]: no subset `v3` (known: v1); help: use v1");
    }

    #[test]
    fn new_changed_and_removed_files_are_named_once() {
        let mut report = Report::default();
        let text = |texts: &[(&'static str, &'static str)]| Sources::from_texts(texts.iter().copied());
        assert_eq!(report.changed_files(&text(&[("a", "1"), ("b", "1")])), "a, b");
        assert_eq!(report.changed_files(&text(&[("b", "2")])), "b, -a");
        assert_eq!(report.changed_files(&text(&[("b", "2")])), "");
        assert_eq!(report.changed_files(&text(&[("c", ""), ("d", ""), ("e", ""), ("f", "")])), "c, d, e and 2 more");
    }
}
