//! [`Lock`]: `portolan.lock`, which names the module of each filter by digest. What differs from it is not run.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Of the file.
const NAME: &str = "portolan.lock";

/// Of its form; another is not understood.
const VERSION: u32 = 1;

/// The modules that may run, by the filters' names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    pub(crate) filters: BTreeMap<String, Locked>,
}

/// One filter's module, and what whoever reviews the file wants to know of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Locked {
    /// Where it came from.
    pub(crate) from: String,
    /// SHA-256 of the module in hex.
    pub(crate) sha256: String,
    /// Digest of the image that it came in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) image: Option<String>,
    /// SHA-256 of the DER of the key that signed it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) signer: Option<String>,
    /// Version of proxy-wasm.
    pub(crate) abi: String,
    /// Of the module.
    pub(crate) bytes: u64,
    /// Linear memory of one instance after its start.
    pub(crate) memory_bytes: u64,
    /// How long the start of an instance took, in whole milliseconds, when it was locked.
    pub(crate) start_ms: u64,
    /// What it can ask of the host, each as `module.name`.
    pub(crate) imports: Vec<String>,
}

impl Lock {
    pub(crate) fn new(filters: BTreeMap<String, Locked>) -> Self {
        Self { version: VERSION, filters }
    }

    /// Beside the configuration: in its folder, or in the folder of its file.
    pub(crate) fn path(config: &Path) -> Option<PathBuf> {
        if config.as_os_str() == "-" {
            return None;
        }
        let folder = if config.is_dir() { config } else { config.parent()? };
        Some(folder.join(NAME))
    }

    /// The lock in a file; none when there is none.
    pub(crate) fn read(path: &Path) -> Option<Result<Self, String>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(Err(format!("{} cannot be read: {error}", path.display()))),
        };
        let lock = serde_json::from_slice::<Self>(&text).map_err(|error| error.to_string());
        let lock = lock.and_then(|lock| match lock.version {
            VERSION => Ok(lock),
            other => Err(format!("version {other} of the form is not known")),
        });
        Some(lock.map_err(|error| format!("{} is no lock: {error}", path.display())))
    }

    /// The file's text.
    pub(crate) fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Whether a filter may run this module.
    pub(crate) fn check(&self, filter: &str, sha256: &str, signer: Option<&str>) -> Result<(), String> {
        let Some(locked) = self.filters.get(filter) else {
            return Err(format!("{NAME} does not name this filter"));
        };
        if locked.sha256 != sha256 {
            return Err(format!("the module's SHA-256 is {sha256}, and {NAME} has {}", locked.sha256));
        }
        match (&locked.signer, signer) {
            (Some(locked), signer) if Some(locked.as_str()) != signer => {
                Err(format!("the module is to be signed by the key {locked}, as {NAME} has it"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn lock(signer: Option<&str>) -> Lock {
        let locked = Locked { sha256: "aa".into(), signer: signer.map(str::to_owned), ..Locked::default() };
        Lock::new(BTreeMap::from([("default.a".to_owned(), locked)]))
    }

    #[test]
    fn only_what_is_locked_may_run() {
        assert_eq!(lock(None).check("default.a", "aa", None), Ok(()));
        assert_eq!(lock(None).check("default.a", "aa", Some("k")), Ok(()), "a signature is no harm");
        assert!(lock(None).check("default.a", "ab", None).unwrap_err().contains("ab"));
        assert!(lock(None).check("default.b", "aa", None).unwrap_err().contains("does not name"));
        assert!(lock(Some("k")).check("default.a", "aa", None).is_err());
        assert!(lock(Some("k")).check("default.a", "aa", Some("k")).is_ok());
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_another_form_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = Lock::path(folder.path()).unwrap();
        assert_eq!(Lock::read(&path), None);
        fs::write(&path, lock(Some("k")).to_text()).unwrap();
        assert_eq!(Lock::read(&path), Some(Ok(lock(Some("k")))));
        fs::write(&path, r#"{"version": 2, "filters": {}}"#).unwrap();
        assert!(Lock::read(&path).unwrap().unwrap_err().contains("version 2"));
        fs::write(&path, "x").unwrap();
        assert!(Lock::read(&path).unwrap().is_err());
    }
}
