//! [`Cache`]: fetched modules on disk, by digest, and which one each address last gave.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What nobody has used for so long is removed.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// All modules together; the longest unused go first.
const MAX_TOTAL: u64 = 1024 * 1024 * 1024;

/// A folder of modules. Any number of processes may share it: files are written whole and under their digest.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// What an address gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// SHA-256 of the module in hex, which is its file's name.
    pub(super) digest: String,
    /// An image's digest, a server's ETag.
    pub(super) version: Option<String>,
    /// Fingerprint of the key that signed it.
    pub(super) signer: Option<String>,
}

impl Cache {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What `address` (a digest of all that was asked for) last gave, when its module is still there.
    pub(super) fn record(&self, address: &str) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(self.record_path(address)).ok()?).ok()?;
        let file = fs::File::open(self.module_path(&record.digest)).ok()?;
        // A file that cannot be marked as used lives a little shorter.
        let _ = file.set_modified(SystemTime::now());
        Some(record)
    }

    /// A module by its digest, whose bytes are checked: what was damaged or tampered with is removed and not there.
    pub(super) fn module(&self, digest: &str) -> Option<Vec<u8>> {
        let path = self.module_path(digest);
        let bytes = fs::read(&path).ok()?;
        if hex_digest(&bytes) == digest {
            return Some(bytes);
        }
        tracing::warn!(file = %path.display(), "a kept module is damaged and is fetched again");
        let _ = fs::remove_file(path);
        None
    }

    /// Keeps a module, and what gave it.
    pub(super) fn put(&self, address: &str, record: &Record, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        write_whole(&self.module_path(&record.digest), bytes)?;
        write_whole(&self.record_path(address), &serde_json::to_vec(record)?)
    }

    /// Removes what is old or too much, but nothing that is in use.
    pub(super) fn tidy(&self, is_used: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let now = SystemTime::now();
        let mut total = 0;
        let mut files: Vec<(Duration, u64, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                let age = now.duration_since(meta.modified().ok()?).unwrap_or_default();
                Some((age, meta.len(), entry.path()))
            })
            .collect();
        files.sort();
        for (age, size, path) in files {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            total += size;
            if !is_used(stem) && (age > MAX_AGE || total > MAX_TOTAL) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn module_path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn record_path(&self, address: &str) -> PathBuf {
        self.folder.join(format!("{address}.json"))
    }
}

/// The file is there whole or not at all, whatever happens meanwhile.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// SHA-256 in hex.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn kept(cache: &Cache, address: &str, bytes: &[u8]) -> Record {
        let record = Record { digest: hex_digest(bytes), version: Some("v".into()), signer: None };
        cache.put(address, &record, bytes).unwrap();
        record
    }

    #[test]
    fn a_module_is_found_by_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("fetched"));
        assert_eq!(cache.record("a"), None);
        let record = kept(&cache, "a", b"module");
        assert_eq!(cache.record("a"), Some(record.clone()));
        assert_eq!(cache.module(&record.digest).as_deref(), Some(&b"module"[..]));
        assert_eq!(cache.record("b"), None);
    }

    #[test]
    fn a_damaged_module_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let record = kept(&cache, "a", b"module");
        fs::write(folder.path().join(format!("{}.wasm", record.digest)), b"modulf").unwrap();
        assert_eq!(cache.module(&record.digest), None);
        assert_eq!(cache.record("a"), None, "and its record names nothing any more");
    }

    #[test]
    fn what_is_old_goes_unless_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().to_owned());
        let (old, used, new) = (kept(&cache, "a", b"old"), kept(&cache, "b", b"used"), kept(&cache, "c", b"new"));
        let long_ago = SystemTime::now() - MAX_AGE - Duration::from_secs(60);
        for record in [&old, &used] {
            let path = folder.path().join(format!("{}.wasm", record.digest));
            fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        cache.tidy(|stem| stem == used.digest);
        let is_there = |record: &Record| cache.module(&record.digest).is_some();
        assert!(!is_there(&old) && is_there(&used) && is_there(&new));
    }
}
