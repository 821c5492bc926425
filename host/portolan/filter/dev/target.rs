//! [`Target`]: what is developed: a project, or a module that somebody else builds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::Value;

use crate::UsageError;
use crate::filter::project::{BuildError, Output, Profile, Project};
use crate::filter::stage::Subject;

/// Most files that are watched, and how deep below a source folder.
const MOST_FILES: usize = 10_000;
const MAX_DEPTH: usize = 16;

/// What is developed.
#[derive(Debug)]
pub(super) enum Target {
    /// A folder with sources.
    Project(Box<Project>),
    /// A module as it is.
    Module {
        /// The file.
        file: PathBuf,
        /// `--plugin-config`.
        config: Option<Value>,
    },
}

/// A module that is there.
#[derive(Clone, Debug)]
pub(super) struct Module {
    /// Name of its file.
    pub(super) name: String,
    /// What is in it.
    pub(super) bytes: Vec<u8>,
    /// How long its toolchain took; none when nothing was built.
    pub(super) took: Option<Duration>,
}

impl Target {
    /// A folder is a project, a file a module.
    pub(super) fn open(path: &Path, config: Option<&Value>) -> anyhow::Result<Self> {
        if path.is_file() {
            let file = fs::canonicalize(path).with_context(|| format!("cannot open `{}`", path.display()))?;
            return Ok(Self::Module { file, config: config.cloned() });
        }
        if config.is_some() {
            let text = "`--plugin-config` is for a module without a project; a project has `config` in filter.yaml";
            return Err(UsageError(text.to_owned()).into());
        }
        Ok(Self::Project(Box::new(Project::open(path)?)))
    }

    /// Its WasmPlugin.
    pub(super) fn subject(&self) -> anyhow::Result<Subject> {
        Ok(match self {
            Self::Project(project) => Subject {
                name: plugin_name(project.name()),
                plugin_name: project.plugin_name().map(str::to_owned),
                config: match project.config_json() {
                    text if text.is_empty() => Value::Null,
                    text => serde_json::from_str(&text).context("`config` of filter.yaml")?,
                },
                phase: project.phase(),
                fail_strategy: project.fail_strategy(),
            },
            Self::Module { file, config } => Subject {
                name: plugin_name(&file.file_stem().unwrap_or_default().to_string_lossy()),
                plugin_name: None,
                config: config.clone().unwrap_or_default(),
                phase: None,
                fail_strategy: None,
            },
        })
    }

    /// Makes the module, or reads it. Blocks.
    pub(super) fn build(&self) -> Result<Module, NotBuilt> {
        let (file, took) = match self {
            Self::Project(project) => {
                let built = project.build(Profile::Dev, Output::Captured)?;
                (built.module, Some(built.took))
            }
            Self::Module { file, .. } => (file.clone(), None),
        };
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match fs::read(&file) {
            Ok(bytes) => Ok(Module { name, bytes, took }),
            Err(error) => Err(NotBuilt::Read { file, error }),
        }
    }

    /// All files whose change matters, with filter.yaml.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Project(project) => {
                let mut files = vec![project.file()];
                for root in project.sources() {
                    add_sources(project, &root, 0, &mut files);
                }
                files.sort();
                files.dedup();
                files
            }
            Self::Module { file, .. } => vec![file.clone()],
        }
    }

    /// Where names of files are told from.
    fn folder(&self) -> &Path {
        match self {
            Self::Project(project) => project.folder(),
            Self::Module { file, .. } => file.parent().unwrap_or(Path::new("/")),
        }
    }
}

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBuilt {
    /// The toolchain says no.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// It is not there, or not yet.
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: std::io::Error },
}

impl NotBuilt {
    /// What the compiler said, as it wrote it.
    pub(super) fn output(&self) -> &str {
        match self {
            Self::Build(error) => error.output(),
            Self::Read { .. } => "",
        }
    }
}

/// What the files were when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<PathBuf, Option<(SystemTime, u64)>>);

impl Seen {
    /// Names of the files that are new, other than before, or gone.
    pub(super) fn changed(&mut self, target: &Target) -> Vec<String> {
        let state = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        let now: BTreeMap<_, _> = target.files().into_iter().map(|path| (path.clone(), state(&path))).collect();
        let name = |path: &PathBuf| path.strip_prefix(target.folder()).unwrap_or(path).display().to_string();
        let new = now.iter().filter(|(path, state)| self.0.get(*path) != Some(state)).map(|(path, _)| name(path));
        let gone = self.0.keys().filter(|path| !now.contains_key(*path)).map(name);
        let names = new.chain(gone).collect();
        self.0 = now;
        names
    }
}

fn add_sources(project: &Project, path: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    if files.len() >= MOST_FILES || depth > MAX_DEPTH {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            // What is large and no source: `is_source` would say so of each file in it.
            let name = entry.file_name();
            let is_passed_over =
                name == "target" || name == "node_modules" || name.as_encoded_bytes().starts_with(b".");
            if !is_passed_over {
                add_sources(project, &entry.path(), depth + 1, files);
            }
        }
    } else if project.is_source(path) {
        files.push(path.to_owned());
    }
}

/// Names of objects are lower-case words.
fn plugin_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = name.chars().map(plain).take(60).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "filter".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn plugins_get_names_that_objects_may_have() {
        assert_eq!(plugin_name("My_Filter.v2"), "my-filter-v2");
        assert_eq!(plugin_name("__"), "filter");
    }

    #[test]
    fn changed_new_and_missing_files_are_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("filter.yaml", "language: rust\n");
        write("Cargo.toml", "");
        write("src/lib.rs", "//!");
        write("target/x.rs", "built");
        let mut seen = Seen::default();
        let mut changed = || seen.changed(&Target::open(folder.path(), None).unwrap());
        assert_eq!(changed(), ["Cargo.toml", "filter.yaml", "src/lib.rs"]);
        assert!(changed().is_empty());
        write("src/lib.rs", "//! more");
        write("src/new/mod.rs", "//!");
        assert_eq!(changed(), ["src/lib.rs", "src/new/mod.rs"]);
        fs::remove_file(folder.path().join("src/new/mod.rs")).unwrap();
        assert_eq!(changed(), ["src/new/mod.rs"]);
    }

    #[test]
    fn a_module_alone_takes_its_configuration_from_the_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stamp.wasm");
        fs::write(&file, "x").unwrap();
        let config = serde_json::json!({ "a": 1 });
        let target = Target::open(&file, Some(&config)).unwrap();
        let subject = target.subject().unwrap();
        assert_eq!((&*subject.name, subject.config), ("stamp", config.clone()));
        assert!(Target::open(folder.path(), Some(&config)).is_err());
    }
}
