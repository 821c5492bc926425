//! [`Project`]: a folder with a filter's sources, what it is called, and how it is built.

mod build;
mod manifest;
mod toolchain;

use std::path::{Path, PathBuf};

use serde_json::Value;

#[allow(unused_imports, reason = "whoever keeps one needs its name")]
pub(crate) use self::build::BuildError;
pub(crate) use self::build::{Built, Output, Profile};
use self::manifest::Manifest;
pub(crate) use self::manifest::{FailStrategy, Language, Phase};

/// The file that tells of a project.
pub(crate) const FILE: &str = "filter.yaml";

/// A filter's folder, as `filter.yaml` and what its toolchain keeps there tell.
#[derive(Debug)]
pub(crate) struct Project {
    /// Absolute.
    folder: PathBuf,
    /// As the user named it, for messages.
    shown: PathBuf,
    name: String,
    language: Language,
    manifest: Manifest,
}

#[allow(dead_code, reason = "the whole of it is what the author's loop, tests and measurements are built on")]
impl Project {
    /// Reads `filter.yaml`. Without one the language is told from the files of its toolchain, and the folder gives the
    /// name. What is wrong with the file is a [`UsageError`](crate::UsageError) with file, line and column.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        manifest::open(folder)
    }

    /// Name of the filter: of the plugin, and of the module's file where we choose it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it is written in.
    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// Where it lies; absolute.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `filter.yaml`, whether it is there or not.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// `config` as the filter gets it; empty when there is none.
    pub(crate) fn config_json(&self) -> String {
        self.manifest.config.as_ref().map(Value::to_string).unwrap_or_default()
    }

    /// Where the plugin stands in the chain.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.manifest.phase
    }

    /// What a failure of the filter costs.
    pub(crate) fn fail_strategy(&self) -> Option<FailStrategy> {
        self.manifest.fail_strategy
    }

    /// The root id, which filters on some SDKs register under.
    pub(crate) fn plugin_name(&self) -> Option<&str> {
        self.manifest.plugin_name.as_deref()
    }

    /// Files and folders that the module is made of, those that are there; see [`Project::is_source`] for what counts
    /// in them. `filter.yaml` is not among them.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let given = self.manifest.sources.as_ref();
        let paths = given.cloned().unwrap_or_else(|| self.language.sources().iter().map(PathBuf::from).collect());
        paths.into_iter().map(|path| self.folder.join(path)).filter(|path| path.exists()).collect()
    }

    /// True when a change of this file may change the module: it lies in one of [`Project::sources`], there neither
    /// hidden nor made by a build, and is of a kind that the language reads.
    pub(crate) fn is_source(&self, path: &Path) -> bool {
        let is_passed_over = |name: &str| name.starts_with('.') || matches!(name, "target" | "build" | "node_modules");
        let is_open = |inner: &Path| !inner.iter().any(|part| part.to_str().is_none_or(is_passed_over));
        let by_kind = self.manifest.sources.is_some() || self.language.reads(path);
        by_kind && self.sources().iter().any(|root| path.strip_prefix(root).is_ok_and(is_open))
    }

    /// Where the module is after a build, when a build does not tell.
    fn module(&self, profile: Profile) -> PathBuf {
        match &self.manifest.module {
            Some(path) => self.folder.join(profile.fill_in(path)),
            None => self.folder.join("build").join(format!("{}.wasm", self.name)),
        }
    }
}

#[cfg(test)]
mod tests;
