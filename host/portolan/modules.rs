//! [`Modules`]: the modules that filters come from, on disk and elsewhere, and the [`Fingerprint`] that tells one state of
//! them from another.

mod cache;
mod client;
mod credentials;
mod error;
mod fetch;
mod fetcher;
mod image;
mod lock;
mod once;
mod package;
mod push;
mod reference;
mod registry;
mod signature;
mod signing;
mod source;
mod upload;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::{Model, Plugin, PluginCode};
use portolan_proxy::{ModuleError, ModuleSource};
use sha2::{Digest, Sha256};

pub(crate) use self::cache::{hex_digest, write_whole};
pub(crate) use self::client::{ClientOptions, web_client};
pub(crate) use self::credentials::Credentials;
pub(crate) use self::error::FetchError;
use self::fetcher::Fetcher;
pub(crate) use self::lock::{Lock, Locked};
pub(crate) use self::once::{Got, get};
pub(crate) use self::package::{Layout, Package};
pub(crate) use self::push::{Pushed, push};
pub(crate) use self::reference::Reference;
pub(crate) use self::signing::SigningKey;
pub(crate) use self::source::checked_file;
use self::source::{Source, Sourced};

/// Files that replace bundled filters (`--filter`), by the filter's name, and everything that is fetched.
#[derive(Clone, Debug)]
pub(crate) struct Modules {
    overrides: Vec<(String, PathBuf)>,
    source: Source,
    /// Where a lock may be.
    lock: Option<PathBuf>,
}

/// The state of all modules. Equal fingerprints mean equal code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// SHA-256 of each file; none for one that cannot be read.
    files: BTreeMap<PathBuf, Option<[u8; 32]>>,
    /// Of each plugin whose module is fetched: digest, and what keeps a newer one away.
    fetched: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Grows when a module was compiled that a build did not wait for.
    compiled: u64,
}

impl Fingerprint {
    /// The files, which are watched.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.keys().cloned().collect()
    }
}

impl Modules {
    /// The `--filter` pairs; a name that is not bundled is refused with the known ones. `folder` keeps what is fetched.
    pub(crate) fn new(
        overrides: &[(String, PathBuf)],
        client: ClientOptions,
        folder: Option<PathBuf>,
    ) -> Result<Self, String> {
        let known: Vec<_> = portolan_filters::all().map(|(name, _)| *name).collect();
        if let Some((name, _)) = overrides.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(format!("no filter `{name}` is bundled\nhelp: known are {}", known.join(", ")));
        }
        let source = Source::new(Fetcher::new(client, folder), overrides);
        Ok(Self { overrides: overrides.to_vec(), source, lock: None })
    }

    /// Names of replaced filters with their files, for people.
    pub(crate) fn overrides(&self) -> Vec<(String, String)> {
        self.overrides.iter().map(|(name, path)| (name.clone(), path.display().to_string())).collect()
    }

    /// Refuses what is not in the lock of this file, as soon as there is one.
    pub(crate) fn locked_by(self, file: Option<PathBuf>) -> Self {
        Self { lock: file, ..self }
    }

    /// A plugin's module, whatever the lock says.
    pub(crate) fn sourced(&self, plugin: &Plugin) -> Result<Sourced, ModuleError> {
        self.source.sourced(plugin)
    }

    /// Where the builder gets modules from.
    pub(crate) fn source(&self) -> Arc<dyn ModuleSource> {
        Arc::new(self.source.clone())
    }

    /// Calls this whenever a module came, from a thread of the fetcher's.
    pub(crate) fn on_change(&self, call: impl Fn() + Send + Sync + 'static) {
        self.source.fetcher.on_change(call);
    }

    /// Waits until each module of the last model came or failed for now, for `limit` at most.
    pub(crate) fn wait(&self, limit: Duration) {
        self.source.fetcher.wait(limit);
    }

    /// Reads the lock, and fetches what this model's filters come from, and nothing else any more. `again` asks anew for what failed and for
    /// what is to be asked for always.
    pub(crate) fn want(&self, model: &Model, again: bool) {
        let wanted = model.plugins.iter().filter_map(|plugin| match &plugin.code {
            PluginCode::Remote(module) => Some(source::wanted(plugin, module)),
            PluginCode::Bundled(_) | PluginCode::File(_) => None,
        });
        self.source.fetcher.want(wanted.collect::<HashSet<_>>(), again);
        self.source.set_lock(self.lock.as_deref().and_then(Lock::read));
    }

    /// The modules that a model's filters come from, as they are now, and the files of certificates, which are no code but
    /// change what is served in the same way.
    pub(crate) fn fingerprint(&self, model: &Model) -> Fingerprint {
        let mut paths: Vec<PathBuf> = self.overrides.iter().map(|(_, path)| path.clone()).collect();
        paths.extend(self.lock.clone());
        paths.extend(model.certificate_files().cloned());
        let mut fetched = BTreeMap::new();
        for plugin in &model.plugins {
            match &plugin.code {
                PluginCode::File(path) => {
                    paths.push(path.clone());
                    paths.extend(plugin.verification_key.as_ref().map(|_| source::signature_path(path)));
                }
                PluginCode::Remote(module) => {
                    let state = self.source.fetcher.state(&source::wanted(plugin, module));
                    fetched.insert(plugin.name.clone(), (state.here.map(|here| here.digest), state.trouble));
                }
                PluginCode::Bundled(_) => {}
            }
        }
        let compiled = self.source.compiled.load(std::sync::atomic::Ordering::Relaxed);
        let digest = |path: &PathBuf| std::fs::read(path).ok().map(|bytes| Sha256::digest(bytes).into());
        Fingerprint { files: paths.into_iter().map(|path| (path.clone(), digest(&path))).collect(), fetched, compiled }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn modules(name: &str, path: PathBuf) -> Result<Modules, String> {
        Modules::new(&[(name.to_owned(), path)], ClientOptions::default(), None)
    }

    #[test]
    fn an_unknown_filter_is_refused_with_the_known_ones() {
        let error = modules("rout-match", "x.wasm".into()).unwrap_err();
        assert!(error.contains("`rout-match`") && error.contains("route-match, traffic-split"), "{error}");
    }

    #[test]
    fn a_changed_or_missing_file_changes_the_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let modules = modules("route-match", path.clone()).unwrap();
        let missing = modules.fingerprint(&Model::default());
        std::fs::write(&path, "one").unwrap();
        let one = modules.fingerprint(&Model::default());
        std::fs::write(&path, "two").unwrap();
        let two = modules.fingerprint(&Model::default());
        assert!(missing.files[&path].is_none() && one.files[&path].is_some() && one != two);
        assert_eq!(two, modules.fingerprint(&Model::default()));
    }
}
