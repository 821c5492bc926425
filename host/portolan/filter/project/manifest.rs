//! [`Manifest`]: what `filter.yaml` says, or what a folder without one tells.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ValueEnum;
use portolan_config::plain::{self, Plain};
use portolan_config::{Diagnostic, Place};
use serde::{Deserialize, Serialize};

use super::{FILE, Project};
use crate::UsageError;

/// `filter.yaml`. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Manifest {
    /// Default: the folder's name.
    name: Option<String>,
    /// Default: what the folder's files say.
    language: Option<Language>,
    /// `pluginConfig` wherever the filter runs for its author.
    pub(super) config: Option<serde_json::Value>,
    pub(super) phase: Option<Phase>,
    pub(super) fail_strategy: Option<FailStrategy>,
    pub(super) plugin_name: Option<String>,
    /// Program and arguments in place of the language's own; `{profile}` becomes `dev` or `release`.
    pub(super) build: Option<Vec<String>>,
    /// Where the module is then; `{profile}` as in `build`.
    pub(super) module: Option<PathBuf>,
    /// What to watch; everything in it counts.
    pub(super) sources: Option<Vec<PathBuf>>,
}

/// What a filter is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Language {
    /// On Portolan's SDK, or any other.
    Rust,
    /// Go's own compiler.
    Go,
    /// AssemblyScript.
    #[value(name = "assemblyscript")]
    AssemblyScript,
    /// C, by clang.
    C,
}

/// `phase` of a WasmPlugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Phase {
    /// Before all others.
    Authn,
    /// After AUTHN.
    Authz,
    /// After AUTHZ.
    Stats,
    /// The default: after STATS.
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
}

/// `failStrategy` of a WasmPlugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum FailStrategy {
    /// The default: a request that the filter fails is answered with 503.
    #[serde(rename = "FAIL_CLOSE")]
    Close,
    /// It goes on without the filter.
    #[serde(rename = "FAIL_OPEN")]
    Open,
    /// As FAIL_CLOSE, and the filter starts anew.
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

/// See [`Project::open`].
pub(super) fn open(shown: &Path) -> anyhow::Result<Project> {
    let folder = fs::canonicalize(shown).map_err(|error| match error.kind() {
        ErrorKind::NotFound => UsageError(format!("`{}` does not exist", shown.display())).into(),
        _ => anyhow::Error::from(error).context(format!("cannot open `{}`", shown.display())),
    })?;
    if !folder.is_dir() {
        return Err(UsageError(format!("`{}` is no folder", shown.display())).into());
    }
    let read = read(&shown.join(FILE))?;
    let place = read.as_ref().map(|read| read.place(""));
    let manifest = read.map(|read| read.value).unwrap_or_default();
    let language = manifest.language.or_else(|| recognise(&folder));
    let language = language.ok_or_else(|| unknown_language(shown, place.as_ref()))?;
    let of_folder = || folder.file_name().map_or_else(|| "filter".to_owned(), |name| name.display().to_string());
    let name = manifest.name.clone().unwrap_or_else(of_folder);
    Ok(Project { name, language, shown: shown.to_owned(), folder, manifest })
}

/// None when there is no such file.
fn read(file: &Path) -> anyhow::Result<Option<Plain<Manifest>>> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read `{}`", file.display()))?,
    };
    let shown = file.strip_prefix(".").unwrap_or(file).display().to_string();
    let (mut read, mut findings) = plain::read::<Manifest>(&shown, &text, FILE);
    if let Some(second) = read.get(1) {
        findings.push(Diagnostic::error("P0003", second.place(""), "a project has one document"));
    }
    let empty = Some(vec![]);
    for manifest in read.iter().filter(|read| read.value.build == empty) {
        findings.push(Diagnostic::error("P0002", manifest.place("build"), "`build` names no program"));
    }
    if findings.is_empty() { Ok(read.pop()) } else { Err(UsageError(told(&findings)).into()) }
}

/// One line for each, the place first.
fn told(findings: &[Diagnostic]) -> String {
    let line = |finding: &Diagnostic| {
        let Place { file, line, column, .. } = &finding.place;
        let extra = [("; ", &finding.label), ("\nhelp: ", &finding.help)];
        let extra = extra.iter().filter_map(|(before, text)| Some(format!("{before}{}", text.as_ref()?)));
        format!("{file}:{line}:{column}: {}{}", finding.message, extra.collect::<String>())
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// By the files of the toolchains.
fn recognise(folder: &Path) -> Option<Language> {
    let has = |name: &str| folder.join(name).is_file();
    let is_c = |folder: PathBuf| {
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        files.map(|file| file.path()).any(|file| file.extension().is_some_and(|extension| extension == "c"))
    };
    match () {
        () if has("Cargo.toml") => Some(Language::Rust),
        () if has("go.mod") => Some(Language::Go),
        () if has("asconfig.json") || has("package.json") => Some(Language::AssemblyScript),
        () if is_c(folder.to_owned()) || is_c(folder.join("src")) => Some(Language::C),
        () => None,
    }
}

fn unknown_language(shown: &Path, place: Option<&Place>) -> UsageError {
    UsageError(match place {
        Some(Place { file, line, column, .. }) => {
            format!("{file}:{line}:{column}: `language` is missing, and no file of the folder tells it")
        }
        None => format!(
            "`{}` holds no filter: neither {FILE} nor Cargo.toml, go.mod, asconfig.json, package.json or a C file\n\
             help: `portolan filter new NAME` starts one",
            shown.display()
        ),
    })
}
