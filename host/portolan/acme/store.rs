//! [`Store`]: accounts and certificates of one directory, as files of the state folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use instant_acme::AccountCredentials;
use sha2::{Digest, Sha256};

use crate::state::StateFolder;

/// One process at a time asks for certificates.
const LOCK: &str = "acme.lock";
/// Renewals are spread over this share of a certificate's life, before two thirds of it are over.
const SPREAD: f64 = 0.05;

/// Files of one directory.
#[derive(Debug)]
pub(super) struct Store {
    state: StateFolder,
    directory: String,
}

impl Store {
    pub(super) fn new(folder: PathBuf, directory: &str) -> Self {
        Self { state: StateFolder::at(folder), directory: directory.to_owned() }
    }

    /// A key with its chain; none when there is none, or it cannot be read.
    pub(super) fn certificate(&self, names: &[String]) -> Option<String> {
        let file = self.file_of(names);
        let read = self.state.read(&file);
        read.inspect_err(|error| tracing::warn!("acme     cannot read `{file}`: {error}")).ok().flatten()
    }

    pub(super) fn keep(&self, names: &[String], text: &str) -> io::Result<()> {
        self.state.write(&self.file_of(names), text)
    }

    /// True when there is no certificate, or it has lived two thirds of its life.
    pub(super) fn is_due(&self, names: &[String], now: SystemTime) -> bool {
        let text = self.certificate(names);
        let Some((begin, end)) = text.and_then(|text| portolan_proxy::validity(text.as_bytes())) else { return true };
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        now >= renewal(begin as f64, end as f64, spread(&self.file_of(names)))
    }

    pub(super) fn account(&self) -> io::Result<Option<AccountCredentials>> {
        let text = self.state.read(&self.account_file())?;
        text.map(|text| serde_json::from_str(&text).map_err(io::Error::other)).transpose()
    }

    pub(super) fn keep_account(&self, credentials: &AccountCredentials) -> io::Result<()> {
        let text = serde_json::to_string(credentials).map_err(io::Error::other)?;
        self.state.write(&self.account_file(), &text)
    }

    /// Held until it is dropped; none when another process holds it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        self.state.make()?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(self.state.file(LOCK))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn account_file(&self) -> String {
        format!("acme-account-{}.json", digest(&[&self.directory]))
    }

    fn file_of(&self, names: &[String]) -> String {
        let parts: Vec<_> = std::iter::once(self.directory.as_str()).chain(names.iter().map(String::as_str)).collect();
        format!("acme-certificate-{}.pem", digest(&parts))
    }
}

/// Of a certificate's life, in seconds of Unix time; `spread` is from 0 to 1.
fn renewal(begin: f64, end: f64, spread: f64) -> f64 {
    begin + (end - begin) * (2.0 / 3.0 - SPREAD * spread)
}

/// From 0 to 1, always the same for one certificate of one process.
fn spread(file: &str) -> f64 {
    let digest = Sha256::digest(format!("{file} {}", std::process::id()));
    f64::from(digest[0]) / 255.0
}

fn digest(parts: &[&str]) -> String {
    let digest = Sha256::digest(parts.join("\n"));
    digest[..12].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_a_life_are_the_latest_time_of_a_renewal() {
        assert_eq!(renewal(0.0, 90.0, 0.0), 60.0);
        assert!((renewal(0.0, 90.0, 1.0) - 55.5).abs() < 0.001);
    }
}
