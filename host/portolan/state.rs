//! [`StateFolder`]: what must outlive the process, readable by its user alone: keys, accounts, certificates.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1024 * 1024;

/// A folder of mode 0700, whose files have mode 0600.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// `portolan` in `$XDG_STATE_HOME`, or `$HOME/.local/state/portolan`; none when neither is set.
    pub(crate) fn default_path() -> Option<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")))?;
        base.is_absolute().then(|| base.join("portolan"))
    }

    /// A folder that may not be there yet: nothing is written before [`Self::make`].
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the folder, and those above it, where they are missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = Self::at(path.to_owned());
        folder.make().map(|()| folder)
    }

    /// As [`Self::open`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The text of a file; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or is no text.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let file = match fs::File::open(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(Some(text))
    }

    /// Writes a file as a whole: whoever reads it meanwhile sees the old one, or the new one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.file(&format!("{name}.{}.new", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })();
        let written = written.and_then(|()| fs::rename(&new, self.file(name)));
        if written.is_err() {
            // What is half written is of no use.
            let _ = fs::remove_file(&new);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_for_their_user_alone_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("a/b")).unwrap();
        assert_eq!(state.read("key").unwrap(), None);
        state.write("key", "old").unwrap();
        state.write("key", "new").unwrap();
        assert_eq!(state.read("key").unwrap().as_deref(), Some("new"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state.file("key")), mode(&state.file(""))), (0o600, 0o700));
        assert_eq!(fs::read_dir(state.file("")).unwrap().count(), 1);
    }
}
