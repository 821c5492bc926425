//! [`Target`]: the module that is tested or measured, with its configuration and the folder of its cases.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::Value;

use super::project::{FILE, Output, Profile, Project};
use super::stage::Subject;
use crate::UsageError;

/// A filter, built.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// What it is called: the project's name, or the module's file without its ending.
    pub(crate) name: String,
    /// The module.
    pub(crate) module: PathBuf,
    /// JSON of `filter.yaml`; empty when there is none.
    pub(crate) config: String,
    /// Where `*.test.yaml` is looked for, and in `tests` below.
    pub(crate) folder: PathBuf,
    /// The project that says more, if there is one.
    pub(crate) project: Option<Rc<Project>>,
}

impl Target {
    /// Where the cases of such a target are.
    pub(crate) fn folder_of(path: &Path) -> PathBuf {
        let parent = || path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() { path.to_owned() } else { parent().to_owned() }
    }

    /// A module as it is, with the `filter.yaml` beside it if there is one; or a project, which is built first. What the
    /// toolchain says goes to standard error. `config` goes before what `filter.yaml` says.
    pub(crate) fn open(path: &Path, profile: Profile, config: Option<&Value>) -> anyhow::Result<Self> {
        if !path.exists() {
            return Err(UsageError(format!("`{}` does not exist", path.display())).into());
        }
        let target = if path.is_dir() { Self::of_project(path, profile) } else { Self::of_module(path) }?;
        let config = config.map_or_else(|| target.config.clone(), Value::to_string);
        Ok(Self { config, ..target })
    }

    /// As a WasmPlugin, with a case's configuration in place of the project's.
    pub(crate) fn subject(&self, config: Option<&Value>) -> Subject {
        let own = || serde_json::from_str(&self.config).unwrap_or_default();
        let project = self.project.as_deref();
        Subject {
            name: self.object_name(),
            plugin_name: project.and_then(Project::plugin_name).map(str::to_owned),
            config: config.cloned().unwrap_or_else(own),
            phase: project.and_then(Project::phase),
            fail_strategy: project.and_then(Project::fail_strategy),
        }
    }

    /// Names of objects are lower-case words.
    fn object_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.name.chars().map(plain).take(60).collect();
        match name.trim_matches('-') {
            "" => "filter".to_owned(),
            name => name.to_owned(),
        }
    }

    fn of_project(folder: &Path, profile: Profile) -> anyhow::Result<Self> {
        let project = Project::open(folder)?;
        let built = project.build(profile, Output::Inherited)?;
        Ok(Self {
            name: project.name().to_owned(),
            module: built.module,
            config: project.config_json(),
            folder: folder.to_owned(),
            project: Some(Rc::new(project)),
        })
    }

    fn of_module(file: &Path) -> anyhow::Result<Self> {
        let folder = Self::folder_of(file);
        let project = folder.join(FILE).is_file().then(|| Project::open(&folder)).transpose()?;
        Ok(Self {
            name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            module: std::path::absolute(file)?,
            config: project.as_ref().map(Project::config_json).unwrap_or_default(),
            folder,
            project: project.map(Rc::new),
        })
    }
}
