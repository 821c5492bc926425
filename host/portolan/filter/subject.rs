//! [`Subject`]: what a command about a module is about: a file, a project, or something elsewhere.

use std::path::{Path, PathBuf};

use anyhow::Context;
use portolan_model::PullSecret;

use super::project::{Output, Profile, Project};
use crate::UsageError;
use crate::args::RegistryArgs;
use crate::modules::{self, Reference};

/// What a command is about.
#[derive(Debug)]
pub(super) enum Subject {
    /// A module on disk.
    File(PathBuf),
    /// A filter's sources.
    Project(Box<Project>),
    /// `oci://`, `https://` or `http://`.
    Remote(String),
}

impl Subject {
    /// What is there on disk goes first; an image may be written without `oci://` when its registry is.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::File(path.into()));
        }
        let is_url = ["oci://", "https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
        if is_url && (!text.starts_with("oci://") || Reference::parse(text).is_some()) {
            return Ok(Self::Remote(text.to_owned()));
        }
        let path = Path::new(text);
        if path.is_dir() {
            return Ok(Self::Project(Box::new(Project::open(path)?)));
        }
        if path.exists() {
            return Ok(Self::File(path.to_owned()));
        }
        let host = text.split_once('/').map_or("", |(host, _)| host);
        let has_registry = host == "localhost" || (host.contains(['.', ':']) && !host.starts_with('.'));
        if has_registry && !text.ends_with(".wasm") && Reference::parse(text).is_some() {
            return Ok(Self::Remote(format!("oci://{text}")));
        }
        Err(UsageError(format!("`{text}` is neither a file nor a folder, nor an image as in oci://HOST/NAME:TAG"))
            .into())
    }

    /// The module that this is here, with a project built.
    pub(super) fn local(&self) -> anyhow::Result<(PathBuf, Vec<u8>)> {
        let path = match self {
            Self::File(path) => path.clone(),
            Self::Project(project) => project.build(Profile::Release, Output::Inherited)?.module,
            Self::Remote(url) => return Err(UsageError(format!("`{url}` is no file and no folder")).into()),
        };
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, bytes))
    }

    /// What to call it.
    pub(super) fn name(&self) -> String {
        let name = match self {
            Self::Project(project) => project.name().to_owned(),
            Self::File(path) => path.file_stem().unwrap_or_default().display().to_string(),
            Self::Remote(url) => name_of(url),
        };
        let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
        let name: String = name.chars().map(letter).collect();
        match name.trim_matches('-') {
            "" => "filter".to_owned(),
            name => name.to_owned(),
        }
    }
}

/// The last word of an address, without a tag.
pub(super) fn name_of(url: &str) -> String {
    let of_image = Reference::parse(url).filter(|_| url.starts_with("oci://")).map(|reference| reference.repository);
    let path = of_image.unwrap_or_else(|| url.split(['?', '#']).next().unwrap_or_default().to_owned());
    let last = path.rsplit('/').next().unwrap_or_default();
    last.strip_suffix(".wasm").unwrap_or(last).to_owned()
}

/// Fetches a module, with digest and signature checked where they are given.
pub(super) fn fetch(
    registry: &RegistryArgs,
    url: &str,
    secret: Option<&PullSecret>,
    sha256: Option<String>,
    key: Option<String>,
) -> anyhow::Result<modules::Got> {
    let got = modules::get(&registry.client(), url, secret.cloned(), sha256, key);
    got.map_err(|error| super::login::explained(error, secret))
}

/// A key's file.
pub(super) fn read_key(path: &Path) -> anyhow::Result<String> {
    let read = std::fs::read_to_string(path);
    read.map_err(|error| UsageError(format!("cannot read `{}`: {error}", path.display())).into())
}
