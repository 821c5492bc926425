//! [`Sources`]: the text of every file of `--config`, or the reason why it cannot be read.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::diagnostic::{Diagnostic, Place};

/// A larger file is refused, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Folders below folders are read this deep.
const MAX_DEPTH: usize = 16;

/// A file that was changed less long ago than this when it was read is read again: clocks of file systems are coarse, and
/// a second change could have the first one's time.
const SETTLED: Duration = Duration::from_secs(2);

/// The same where times have parts of a millisecond: such a clock is a kernel's, which ticks each 10 ms or more often.
const SETTLED_FINE: Duration = Duration::from_millis(100);

/// Files as they were when they were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Arc<SourceFile>>,
    stamps: [u8; 32],
}

/// One file, or a folder that could not be listed.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As the user named it, e.g. `routes.yaml` for `--config .`.
    pub name: Arc<str>,
    /// Where it is; `-` for standard input.
    pub path: PathBuf,
    /// Its text, or why there is none. Empty after [`Sources::without_texts`].
    pub content: Result<Arc<str>, SourceError>,
    /// It has nothing but blanks.
    pub(crate) is_blank: bool,
    /// Its text has been dropped.
    pub(crate) is_dropped: bool,
    /// SHA-256 of its bytes; zeros when unreadable.
    pub hash: [u8; 32],
    /// What tells that it has not been written since; none when that cannot be told.
    stamp: Option<Stamp>,
}

/// What the system says of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    /// Device and inode: a file that was renamed into its place is another one.
    id: FileId,
    length: u64,
    modified: SystemTime,
    /// When anything about it changed, which nobody can set: seconds and nanoseconds.
    changed: (i64, i64),
}

/// Device and inode.
type FileId = (u64, u64);

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The system says no.
    #[error("cannot read: {0}")]
    Io(String),
    /// Over [`MAX_FILE_BYTES`].
    #[error("larger than {} MiB", MAX_FILE_BYTES / 1024 / 1024)]
    TooLarge,
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8 {
        /// Of the first wrong byte, from 1.
        line: u32,
        /// Of the first wrong byte, in characters from 1.
        column: u32,
    },
}

impl Sources {
    /// Reads files, and folders with all folders below them. Of folders `*.yaml`, `*.yml` and `*.json` are taken, in
    /// order of name; what begins with a dot is passed over, and what ends in `.test` before that unless it holds a resource, for
    /// a host may be called so. A file that is named is taken whatever its name. `-`
    /// is standard input. A file that is reached twice is read once.
    pub fn read(paths: &[PathBuf]) -> Self {
        Self::read_again(paths, &Self::default())
    }

    /// As [`Sources::read`]. Files that were not written since `last` are taken from there.
    pub fn read_again(paths: &[PathBuf], last: &Self) -> Self {
        let last = last.files.iter().map(|file| (file.path.as_path(), file)).collect();
        let mut reading = Reading { last, ..Reading::default() };
        reading.all(paths);
        Self { files: reading.files, stamps: reading.stamps.finalize().into() }
    }

    /// One hash over names, sizes and times of what [`Sources::read`] would read, without reading it.
    pub fn stamps(paths: &[PathBuf]) -> [u8; 32] {
        let mut reading = Reading { only_looks: true, ..Reading::default() };
        reading.all(paths);
        reading.stamps.finalize().into()
    }

    /// What [`Sources::stamps`] would have said when they were read.
    pub fn stamps_when_read(&self) -> [u8; 32] {
        self.stamps
    }

    /// The same for [`Sources::read_again`] by whoever has taken them in: what was not written since needs no text.
    #[must_use]
    pub fn without_texts(&self) -> Self {
        let dropped = |file: &Arc<SourceFile>| match file.is_dropped {
            true => file.clone(),
            false => Arc::new(file.without_text()),
        };
        Self { files: self.files.iter().map(dropped).collect(), stamps: self.stamps }
    }

    /// Texts that are in no file.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let file =
            |(name, text): (&str, &str)| Arc::new(SourceFile::of(name.into(), PathBuf::from(name), Ok(text.into())));
        Self { files: texts.into_iter().map(file).collect(), ..Self::default() }
    }

    /// All files, readable or not, in the order in which they were found.
    pub fn files(&self) -> &[Arc<SourceFile>] {
        &self.files
    }

    /// The text of a file by name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.files.iter().find(|file| &*file.name == name)?.content.as_deref().ok()
    }

    /// One hash over all names and contents: equal hashes, nothing to do.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for file in &self.files {
            hasher.update(u64::try_from(file.name.len()).unwrap_or(0).to_le_bytes());
            hasher.update(file.name.as_bytes());
            hasher.update(file.hash);
            hasher.update([u8::from(file.content.is_ok())]);
        }
        hasher.finalize().into()
    }

    /// Puts a file in or replaces the one of that name; for an editor's unsaved text.
    pub fn set_text(&mut self, name: &str, text: &str) {
        let file = Arc::new(SourceFile::of(name.into(), PathBuf::from(name), Ok(text.into())));
        match self.files.iter_mut().find(|file| &*file.name == name) {
            Some(old) => *old = file,
            None => self.files.push(file),
        }
    }
}

impl SourceFile {
    fn of(name: Arc<str>, path: PathBuf, content: Result<Arc<str>, SourceError>) -> Self {
        let hash = content.as_ref().map(|text| Sha256::digest(text.as_bytes()).into()).unwrap_or_default();
        let is_blank = content.as_ref().is_ok_and(|text| text.trim().is_empty());
        Self { name, path, content, is_blank, is_dropped: false, hash, stamp: None }
    }

    fn without_text(&self) -> Self {
        let content = self.content.as_ref().map(|_| Arc::default()).map_err(Clone::clone);
        Self { content, is_dropped: true, name: self.name.clone(), path: self.path.clone(), ..*self }
    }

    /// What is to be said when it cannot be read.
    pub(crate) fn diagnostic(&self) -> Option<Diagnostic> {
        let error = self.content.as_ref().err()?;
        let (line, column) = match error {
            SourceError::NotUtf8 { line, column } => (*line, *column),
            SourceError::Io(_) | SourceError::TooLarge => (1, 1),
        };
        let place = Place { file: self.name.clone(), line, column, length: 1 };
        Some(Diagnostic::error("P0008", place, error.to_string()))
    }
}

#[derive(Default)]
struct Reading<'a> {
    files: Vec<Arc<SourceFile>>,
    /// What was read, with symlinks resolved: a file that is named twice would else define everything twice.
    seen: HashSet<Seen>,
    last: HashMap<&'a Path, &'a Arc<SourceFile>>,
    /// What is seen without reading.
    stamps: Sha256,
    /// Nothing is read, only looked at.
    only_looks: bool,
}

#[derive(PartialEq, Eq, Hash)]
enum Seen {
    Id(FileId),
    Path(PathBuf),
}

impl Reading<'_> {
    fn all(&mut self, paths: &[PathBuf]) {
        for path in paths {
            if path.as_os_str() == "-" {
                self.stdin();
            } else if path.is_dir() {
                self.folder(path, 0);
            } else {
                self.file(path, true);
            }
        }
    }

    fn stdin(&mut self) {
        let content = read_text(io::stdin().lock());
        self.files.push(Arc::new(SourceFile::of("<stdin>".into(), PathBuf::from("-"), content)));
    }

    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth > MAX_DEPTH || !self.is_new(folder, fs::metadata(folder).as_ref().ok()) {
            return;
        }
        let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.push(folder, Err(SourceError::Io(error.to_string()))),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries.into_iter().filter(|entry| !is_hidden(entry)) {
            let path = entry.path();
            // A plain file needs no second look.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            if !is_file && path.is_dir() {
                self.folder(&path, depth + 1);
            } else if is_config_file(&path) {
                self.file(&path, false);
            }
        }
    }

    /// `named`: by the user, not found in a folder.
    fn file(&mut self, path: &Path, named: bool) {
        let metadata = fs::metadata(path);
        if !self.is_new(path, metadata.as_ref().ok()) {
            return;
        }
        let is_gone = metadata.is_err() && fs::symlink_metadata(path).is_err();
        if is_gone && !named {
            return;
        }
        // A pipe in a folder would block for ever; one that the user names is wanted.
        let is_readable = named || metadata.as_ref().is_ok_and(fs::Metadata::is_file);
        let stamp = metadata.as_ref().ok().and_then(Stamp::of);
        Stamp::tell(stamp, path, &mut self.stamps);
        if self.only_looks {
            return;
        }
        if let Some(same) = self.last.get(path).filter(|known| stamp.is_some() && known.stamp == stamp) {
            return self.files.push(Arc::clone(same));
        }
        let now = SystemTime::now();
        let content = match metadata {
            Ok(_) if !is_readable => Err(SourceError::Io("not a regular file".to_owned())),
            Ok(_) => File::open(path).map_err(|error| SourceError::Io(error.to_string())).and_then(read_text),
            Err(error) => Err(SourceError::Io(error.to_string())),
        };
        let is_passed_over = !named && is_test_file(path) && content.as_ref().is_ok_and(|text| !holds_resource(text));
        if is_passed_over {
            return;
        }
        let stamp = stamp.filter(|stamp| stamp.is_settled(now));
        self.files.push(Arc::new(SourceFile { stamp, ..SourceFile::of(name_of(path), path.to_owned(), content) }));
    }

    fn is_new(&mut self, path: &Path, metadata: Option<&fs::Metadata>) -> bool {
        let by_path = || Seen::Path(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()));
        self.seen.insert(metadata.and_then(id).map_or_else(by_path, Seen::Id))
    }

    fn push(&mut self, path: &Path, content: Result<Arc<str>, SourceError>) {
        self.files.push(Arc::new(SourceFile::of(name_of(path), path.to_owned(), content)));
    }
}

impl Stamp {
    /// Of a regular file; a pipe says other things each time.
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        let (id, modified) = (id(metadata)?, metadata.modified().ok()?);
        metadata.is_file().then_some(Self { id, length: metadata.len(), modified, changed: changed(metadata) })
    }

    /// Whether a change after `now` would show.
    fn is_settled(self, now: SystemTime) -> bool {
        let nanos = self.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let enough = if nanos.is_multiple_of(1_000_000) { SETTLED } else { SETTLED_FINE };
        now.duration_since(self.modified).is_ok_and(|age| age >= enough)
    }

    fn tell(stamp: Option<Self>, path: &Path, hasher: &mut Sha256) {
        hasher.update(path.as_os_str().as_encoded_bytes());
        hasher.update([0, u8::from(stamp.is_some())]);
        let Some(Self { id, length, modified, changed }) = stamp else { return };
        let age = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for number in [id.0, id.1, length, age.as_secs(), age.subsec_nanos().into()] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(changed.0.to_le_bytes());
        hasher.update(changed.1.to_le_bytes());
    }
}

#[cfg(unix)]
fn id(metadata: &fs::Metadata) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn id(_: &fs::Metadata) -> Option<FileId> {
    None
}

#[cfg(unix)]
fn changed(metadata: &fs::Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_: &fs::Metadata) -> (i64, i64) {
    (0, 0)
}

/// `./a.yaml` is `a.yaml`: what a user would type.
fn name_of(path: &Path) -> Arc<str> {
    path.strip_prefix(".").ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(path).to_string_lossy().into()
}

/// A ConfigMap's `..data` and `..2026_…` folders are reached through the links beside them.
fn is_hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Whether a file found in a folder may be one of the configuration.
pub(crate) fn is_config_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Route tests and cases of filters lie beside what they test.
fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem.as_encoded_bytes().ends_with(b".test"))
}

/// Every resource says its version, and no test does at the left edge.
fn holds_resource(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("apiVersion:")) || text.trim_start().starts_with('{')
}

fn read_text(reader: impl Read) -> Result<Arc<str>, SourceError> {
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| SourceError::Io(error.to_string()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE_BYTES) {
        return Err(SourceError::TooLarge);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) => {
            let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
            Err(not_utf8_after(&good))
        }
    }
}

fn not_utf8_after(good: &str) -> SourceError {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line_start = good.rfind('\n').map_or(0, |at| at + 1);
    let line = number(good.matches('\n').count() + 1);
    SourceError::NotUtf8 { line, column: number(good[line_start..].chars().count() + 1) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use super::*;

    fn names(sources: &Sources, below: &Path) -> Vec<String> {
        let prefix = format!("{}/", below.display());
        sources.files().iter().map(|file| file.name.replace(&prefix, "")).collect()
    }

    #[test]
    fn folders_are_read_in_order_without_hidden_and_foreign_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::create_dir(dir.path().join(".git")).unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "notes.txt", ".hidden.yaml", "sub/d.yaml", ".git/e.yaml"] {
            fs::write(dir.path().join(name), "kind: X\n").unwrap();
        }
        let paths = [dir.path().to_owned(), dir.path().join("a.yaml")];
        assert_eq!(names(&Sources::read(&paths), dir.path()), ["a.yaml", "b.yml", "c.json", "sub/d.yaml"]);
    }

    #[test]
    fn a_file_of_tests_is_passed_over_and_one_of_a_host_of_that_name_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("routes.test.yaml"), "name: a\nexpect: {status: 200}\n").unwrap();
        fs::write(dir.path().join("app.test.yaml"), "# of app.test\napiVersion: v1\nkind: Service\n").unwrap();
        assert_eq!(names(&Sources::read(&[dir.path().to_owned()]), dir.path()), ["app.test.yaml"]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), b"ok: 1\nb: \xff").unwrap();
        let big = File::create(dir.path().join("b.yaml")).unwrap();
        big.set_len(MAX_FILE_BYTES + 1).unwrap();
        let sources = Sources::read(&[dir.path().to_owned(), dir.path().join("missing.yaml")]);
        let errors: Vec<_> = sources.files().iter().map(|file| file.content.clone().unwrap_err()).collect();
        assert_eq!(errors[0], SourceError::NotUtf8 { line: 2, column: 4 });
        assert_eq!(errors[1], SourceError::TooLarge);
        assert!(matches!(errors[2], SourceError::Io(_)));
        assert_eq!(sources.files().iter().filter_map(|file| file.diagnostic()).count(), 3);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_go_in_circles_end() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        fs::write(dir.path().join("a.yaml"), "").unwrap();
        assert_eq!(Sources::read(&[dir.path().to_owned()]).files().len(), 1);
    }

    #[test]
    fn only_what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        for path in [&old, &new] {
            fs::write(path, "kind: X\n").unwrap();
            let long_ago = SystemTime::now() - 2 * SETTLED;
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        let paths = [dir.path().to_owned()];
        let (first, stamps) = (Sources::read(&paths), Sources::stamps(&paths));
        assert_eq!(stamps, Sources::stamps(&paths));
        assert_eq!(stamps, first.stamps_when_read());
        fs::write(&new, "kind: Y\n").unwrap();
        assert_ne!(stamps, Sources::stamps(&paths));
        let second = Sources::read_again(&paths, &first);
        let text = |sources: &Sources, index: usize| sources.files()[index].content.clone().unwrap();
        assert!(Arc::ptr_eq(&text(&first, 0), &text(&second, 0)));
        assert_eq!(&*text(&second, 1), "kind: Y\n");
        // Too young to tell a second change of the same length by its time.
        fs::write(&new, "kind: Z\n").unwrap();
        assert_eq!(&*text(&Sources::read_again(&paths, &second), 1), "kind: Z\n");
        fs::remove_file(&old).unwrap();
        assert_eq!(Sources::read_again(&paths, &second).files().len(), 1);
    }

    #[test]
    fn the_hash_follows_names_and_contents() {
        let hash = |name, text| Sources::from_texts([(name, text)]).hash();
        assert_eq!(hash("a", "1"), hash("a", "1"));
        assert_ne!(hash("a", "1"), hash("b", "1"));
        assert_ne!(hash("a", "1"), hash("a", "2"));
    }
}
