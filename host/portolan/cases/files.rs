//! [`read`]: documents of `*.test.yaml` files, of filters and of routes alike. Which of them a document is shows in what it
//! expects.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use portolan_config::object::Places;
use portolan_config::plain::{self, Plain};
use portolan_config::{Diagnostic, Place, Sources};
use serde::de::DeserializeOwned;

/// How names of files with cases end.
const SUFFIXES: [&str; 2] = [".test.yaml", ".test.yml"];

/// Code of a case that cannot be run as it is written.
pub(crate) const UNUSABLE: &str = "P0601";

/// Folders below folders are looked into this deep, as for the configuration.
const MAX_DEPTH: usize = 16;

/// Fields that only a filter's case has.
const OF_FILTERS: [&str; 11] = [
    "config",
    "before",
    "upstream",
    "services",
    "expect.request",
    "expect.response",
    "expect.calls",
    "expect.callouts",
    "expect.log",
    "expect.refusal",
    "expect.metrics",
];

/// Fields that only a route test has.
const OF_ROUTES: [&str; 14] = [
    "expect.route",
    "expect.destination",
    "expect.path",
    "expect.host",
    "expect.headers",
    "expect.redirect",
    "expect.status",
    "expect.body",
    "expect.responseHeaders",
    "expect.timeout",
    "expect.retries",
    "expect.fault",
    "expect.mirror",
    "expect.cors",
];

/// What a document of a `*.test.yaml` file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A case of `portolan filter test`.
    Filter,
    /// A case of `portolan test`.
    Route,
}

impl Format {
    /// True when the document is, without a doubt, of the other format; a document of neither is told by whoever reads it.
    fn is_others(self, places: &Places) -> bool {
        let has = |fields: &[&str]| fields.iter().any(|field| places.has(field));
        match self {
            Self::Filter => has(&OF_ROUTES) && !has(&OF_FILTERS),
            Self::Route => has(&OF_FILTERS) && !has(&OF_ROUTES),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Filter => "a test case",
            Self::Route => "a route test",
        }
    }
}

/// Documents in the order of their files and of their places there.
#[derive(Debug)]
pub(crate) struct Documents<T> {
    /// The good ones.
    pub(crate) read: Vec<Plain<T>>,
    /// What is wrong with the others.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Their files, to quote from.
    pub(crate) sources: Sources,
}

/// Reads those documents that are of the format, or of none.
pub(crate) fn read<T: DeserializeOwned>(files: &[PathBuf], format: Format) -> Documents<T> {
    let sources = Sources::read(files);
    let (mut read, mut diagnostics) = (Vec::new(), Vec::new());
    for file in sources.files() {
        match &file.content {
            Ok(text) => {
                // A resource of a host that is called `app.test`, in a file of its name.
                let is_resource = |places: &Places| places.has("apiVersion");
                let wanted = |places: &Places| !format.is_others(places) && !is_resource(places);
                let (some, findings) = plain::read_where::<T>(&file.name, text, format.name(), wanted);
                read.extend(some);
                diagnostics.extend(findings);
            }
            Err(error) => {
                let place = Place { file: file.name.clone(), line: 1, column: 1, length: 1 };
                diagnostics.push(Diagnostic::error("P0008", place, error.to_string()));
            }
        }
    }
    Documents { read, diagnostics, sources }
}

/// Files with cases in a folder, in order of name.
pub(crate) fn in_folder(folder: &Path) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| is_test(path) && path.is_file()).collect()
}

/// The same with all folders below, but for projects of filters: those have their own command.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![(folder.to_owned(), 0)]);
    while let Some((folder, depth)) = open.pop() {
        found.extend(in_folder(&folder));
        let folders = entries(&folder).into_iter().filter(|path| path.is_dir() && !path.join("filter.yaml").exists());
        if depth < MAX_DEPTH {
            open.extend(folders.map(|folder| (folder, depth + 1)));
        }
    }
    found.sort();
    found
}

/// In order of name, without what begins with a dot.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut paths: Vec<_> = entries.flatten().filter(|entry| !is_hidden(entry)).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// Names are what a case is asked for by.
pub(crate) fn same_names<T>(cases: &[Plain<T>], name: impl Fn(&T) -> &String) -> Vec<Diagnostic> {
    let mut seen = HashMap::new();
    let mut findings = Vec::new();
    for case in cases {
        let place = case.place("name");
        let name = name(&case.value);
        if let Some(first) = seen.insert(name.as_str(), place.clone()) {
            let message = format!("a case `{name}` stands in {}:{} already", first.file, first.line);
            findings.push(Diagnostic::error(UNUSABLE, place, message));
        }
    }
    findings
}
