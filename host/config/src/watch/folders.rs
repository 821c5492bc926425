//! [`Folders`]: the folders that must be watched for a set of files, and the watches on them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecursiveMode, Watcher};

/// Folders below folders are watched this deep, like they are read.
const MAX_DEPTH: usize = 16;

/// A chain of links is followed this far.
const MAX_LINKS: usize = 8;

/// Watches on folders.
pub(super) struct Folders<W> {
    /// None when the system gives no watches.
    system: Option<W>,
    /// Watched folders, each with what tells it from a later folder of the same name.
    watched: BTreeMap<PathBuf, FolderId>,
    /// Some folder could not be watched.
    has_gap: bool,
}

/// Device and inode: a folder that is replaced takes its watch with it.
type FolderId = (u64, u64);

impl<W: Watcher> Folders<W> {
    pub(super) fn new(system: Option<W>) -> Self {
        Self { system, watched: BTreeMap::new(), has_gap: false }
    }

    /// Whether every folder is watched by the system.
    pub(super) fn is_watching(&self) -> bool {
        self.system.is_some() && !self.has_gap
    }

    /// Watches these folders and no others.
    pub(super) fn set(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(system) = &mut self.system else { return };
        let wanted: BTreeMap<_, _> = folders.into_iter().filter_map(|path| Some((path.clone(), id(&path)?))).collect();
        for (path, id) in &self.watched {
            if wanted.get(path) != Some(id) {
                // A folder that is gone has lost its watch already.
                system.unwatch(path).ok();
            }
        }
        self.has_gap = false;
        let mut watched = BTreeMap::new();
        for (path, id) in wanted {
            if self.watched.get(&path) != Some(&id)
                && let Err(error) = system.watch(&path, RecursiveMode::NonRecursive)
            {
                tracing::warn!("cannot watch {}, its files are polled: {error}", path.display());
                self.has_gap = true;
                continue;
            }
            watched.insert(path, id);
        }
        self.watched = watched;
    }
}

#[cfg(unix)]
fn id(path: &Path) -> Option<FolderId> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn id(path: &Path) -> Option<FolderId> {
    path.is_dir().then_some((0, 0))
}

/// What there is to watch.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Folders in which a change can happen.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Names of the files that links lead to: they count whatever their extension.
    pub(super) targets: BTreeSet<OsString>,
}

/// The folders in which a change to what `paths` and `extra` name can happen.
pub(super) fn of(paths: &[PathBuf], extra: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        add_links(path, &mut found);
        match path.is_dir() {
            true => add_below(path, 0, &mut found),
            false => add_parent(path, &mut found),
        }
    }
    for file in extra {
        add_links(file, &mut found);
        add_parent(file, &mut found);
    }
    found
}

/// A folder, those below it that are read, and those that links in them lead to.
fn add_below(folder: &Path, depth: usize, found: &mut Found) {
    if depth > MAX_DEPTH || !found.folders.insert(folder.to_owned()) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(fs::FileType::is_file) {
            continue;
        }
        let path = entry.path();
        let is_link = kind.is_ok_and(|kind| kind.is_symlink());
        if is_link {
            add_links(&path, found);
        }
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link into a folder above would lead round in circles under ever longer names.
        let is_circle = || is_link && fs::canonicalize(&path).is_ok_and(|to| is_above(&to, folder));
        if !is_hidden && path.is_dir() && !is_circle() {
            add_below(&path, depth + 1, found);
        }
    }
}

fn is_above(folder: &Path, below: &Path) -> bool {
    fs::canonicalize(below).is_ok_and(|below| below.starts_with(folder))
}

/// The folder of each link on the way to a file, and the folder of the file itself.
fn add_links(path: &Path, found: &mut Found) {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&at) else { break };
        add_parent(&at, found);
        at = parent(&at).join(target);
    }
    if at != path {
        found.targets.extend(at.file_name().map(OsStr::to_owned));
        add_parent(&at, found);
        fs::canonicalize(path).iter().for_each(|real| add_parent(real, found));
    }
}

/// The nearest folder above that exists: what is missing may come back.
fn add_parent(path: &Path, found: &mut Found) {
    let mut folder = parent(path);
    while !folder.is_dir() {
        match folder.parent() {
            Some(_) => folder = parent(&folder),
            None => return,
        }
    }
    found.folders.insert(folder);
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
