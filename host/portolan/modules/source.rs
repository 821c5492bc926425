//! [`Source`]: the modules as the builder gets them: files, and what was fetched, each checked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use portolan_model::{Plugin, PluginCode, RemoteModule};
use portolan_proxy::{Cause, ModuleBytes, ModuleError, ModuleSource};

use super::cache::hex_digest;
use super::error::FetchError;
use super::fetch::{Wanted, check_blob};
use super::fetcher::{FetchState, Fetcher};
use super::lock::Lock;
use super::signature::PublicKey;

/// Reads files, asks the fetcher for the rest, and gives nothing that is not locked when there is a lock.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(super) fetcher: Arc<Fetcher>,
    /// Files in place of bundled filters, by name.
    overrides: Arc<[(String, PathBuf)]>,
    /// What `portolan.lock` says; an error when it cannot be read.
    lock: Arc<Mutex<Option<Result<Lock, String>>>>,
    /// How often a module came late from a compiler.
    pub(super) compiled: Arc<AtomicU64>,
}

/// A module with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Sourced {
    pub(crate) bytes: Vec<u8>,
    /// SHA-256 in hex.
    pub(crate) sha256: String,
    /// Digest of the image that it came in, or a server's ETag.
    pub(crate) version: Option<String>,
    /// Fingerprint of the key that signed it.
    pub(crate) signer: Option<String>,
    /// What keeps a newer one away.
    warning: Option<ModuleError>,
}

impl ModuleSource for Source {
    fn module(&self, plugin: &Plugin) -> Result<ModuleBytes, ModuleError> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // A bundled filter comes with the binary: what pins the binary pins it.
        let lock = lock.filter(|_| !matches!(plugin.code, PluginCode::Bundled(_)));
        let sourced = match (self.sourced(plugin)?, lock) {
            (sourced, None) => sourced,
            (sourced, Some(lock)) => self.locked(plugin, sourced, lock.map_err(drift)?)?,
        };
        Ok(ModuleBytes { bytes: sourced.bytes, warning: sourced.warning })
    }

    fn compiled(&self) {
        self.compiled.fetch_add(1, Relaxed);
        self.fetcher.tell();
    }
}

impl Source {
    pub(super) fn new(fetcher: Fetcher, overrides: &[(String, PathBuf)]) -> Self {
        let overrides = overrides.into();
        Self { fetcher: Arc::new(fetcher), overrides, lock: Arc::default(), compiled: Arc::default() }
    }

    pub(super) fn set_lock(&self, lock: Option<Result<Lock, String>>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = lock;
    }

    /// A plugin's module, whatever the lock says.
    pub(crate) fn sourced(&self, plugin: &Plugin) -> Result<Sourced, ModuleError> {
        match &plugin.code {
            PluginCode::File(path) => file(plugin, path),
            PluginCode::Remote(module) => self.fetched(plugin, module),
            PluginCode::Bundled(name) => self.bundled(plugin, name),
        }
    }

    fn bundled(&self, plugin: &Plugin, name: &str) -> Result<Sourced, ModuleError> {
        if let Some((_, path)) = self.overrides.iter().find(|(known, _)| known == name) {
            return file(plugin, path);
        }
        let unknown = || broken(format!("no filter `{name}` comes with this binary"));
        let bytes = portolan_filters::bundled(name).ok_or_else(unknown)?.to_vec();
        Ok(Sourced { sha256: hex_digest(&bytes), bytes, version: None, signer: None, warning: None })
    }

    /// What the lock allows: this module, else the locked one where it is still kept.
    fn locked(&self, plugin: &Plugin, sourced: Sourced, lock: Lock) -> Result<Sourced, ModuleError> {
        let Err(reason) = lock.check(&plugin.name, &sourced.sha256, sourced.signer.as_deref()) else {
            return Ok(sourced);
        };
        let locked = lock.filters.get(&plugin.name).filter(|locked| locked.sha256 != sourced.sha256);
        let locked = locked.filter(|_| matches!(plugin.code, PluginCode::Remote(_)));
        match locked.and_then(|locked| self.fetcher.kept(&locked.sha256)) {
            Some(bytes) => Ok(Sourced { bytes, warning: Some(drift(reason)), ..sourced }),
            None => Err(drift(reason)),
        }
    }

    fn fetched(&self, plugin: &Plugin, module: &RemoteModule) -> Result<Sourced, ModuleError> {
        let wanted = wanted(plugin, module);
        let FetchState { here, trouble, .. } = self.fetcher.state(&wanted);
        let found = here.and_then(|here| Some((self.fetcher.bytes(&wanted, &here)?, here)));
        match (found, trouble) {
            (Some((bytes, here)), trouble) => {
                let warning = trouble.map(|trouble| broken(format!("the module cannot be asked for again: {trouble}")));
                Ok(Sourced { bytes, sha256: here.digest, version: here.version, signer: here.signer, warning })
            }
            (None, Some(trouble)) => Err(broken(format!("the module cannot be fetched: {trouble}"))),
            (None, None) => {
                let message = format!("the module is being fetched from {}", module.url);
                Err(ModuleError { message, cause: Cause::Pending })
            }
        }
    }
}

/// What the fetcher is to get for a plugin.
pub(super) fn wanted(plugin: &Plugin, module: &RemoteModule) -> Wanted {
    Wanted { module: module.clone(), sha256: plugin.sha256.clone(), key: plugin.verification_key.clone() }
}

/// The file of a detached signature.
pub(super) fn signature_path(module: &Path) -> PathBuf {
    let mut path = module.as_os_str().to_owned();
    path.push(".sig");
    PathBuf::from(path)
}

fn file(plugin: &Plugin, path: &Path) -> Result<Sourced, ModuleError> {
    let checked = checked_file(path, plugin.sha256.as_deref(), plugin.verification_key.as_deref());
    let (bytes, sha256, signer) = checked.map_err(broken)?;
    Ok(Sourced { bytes, sha256, version: None, signer, warning: None })
}

/// A module from a file, its SHA-256, and the fingerprint of the key that signed it. `sha256` is what the digest must be,
/// `key` in PEM whose signature must lie beside the file.
pub(crate) fn checked_file(
    path: &Path,
    sha256: Option<&str>,
    key: Option<&str>,
) -> Result<(Vec<u8>, String, Option<String>), String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let bytes = read(path)?;
    let found = hex_digest(&bytes);
    if let Some(wanted) = sha256.filter(|wanted| *wanted != found) {
        return Err(format!("the module's SHA-256 is {found}, and {wanted} is wanted"));
    }
    let Some(key) = key else { return Ok((bytes, found, None)) };
    let refused = |error: FetchError| error.to_string();
    let key = PublicKey::from_pem(key).map_err(refused)?;
    let signature = read(&signature_path(path)).map_err(|error| format!("the module is not signed: {error}"))?;
    check_blob(&key, &bytes, &signature).map_err(refused)?;
    Ok((bytes, found, Some(key.fingerprint().to_owned())))
}

fn broken(message: String) -> ModuleError {
    ModuleError { message, cause: Cause::Broken }
}

fn drift(message: String) -> ModuleError {
    ModuleError { message, cause: Cause::Drift }
}
