//! [`Watcher`]: tells that something changed below `--config`, soon and not twice.
//!
//! Folders are watched, never single files: a watch on a file dies with the first atomic replacement, and a ConfigMap
//! is nothing but replacements. What changed is not told, for the caller reads everything anew and compares.

mod folders;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use notify::{Event, EventKind, RecommendedWatcher};
use sha2::{Digest, Sha256};

use crate::source::{Sources, is_config_file};
use folders::Folders;

/// Calls back after changes, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    messages: Sender<Message>,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// No thread.
    #[error("cannot start a thread to watch files: {0}")]
    Thread(#[from] std::io::Error),
}

/// Says which files matter.
type List = Box<dyn Fn() -> Vec<PathBuf> + Send>;

/// How patient a watcher is.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// Wait for quiet after an event: whoever writes a file in several steps is let finish.
    quiet: Duration,
    /// Wait no longer than this after the first event.
    limit: Duration,
    /// Look at every file this often, for file systems that tell no events (NFS, some bind mounts).
    rescan: Duration,
    /// The same where the system gives no watch at all.
    poll: Duration,
}

const TIMING: Timing = Timing {
    quiet: Duration::from_millis(50),
    limit: Duration::from_millis(200),
    rescan: Duration::from_secs(10),
    poll: Duration::from_secs(1),
};

/// Compilers take longer than this patience saves: no longer than an editor needs to write a file.
const SOURCES_TIMING: Timing = Timing { quiet: Duration::from_millis(20), ..TIMING };

#[derive(Debug)]
enum Message {
    Event(Event),
    Extra(Vec<PathBuf>),
    Seen([u8; 32]),
    Stop,
}

impl Watcher {
    /// Watches the files and folders of `--config`. To miss nothing, start it before the first reading.
    ///
    /// `on_change` runs on the watcher's own thread, at most 200 ms after a file was changed. It may be called when
    /// nothing that matters changed.
    pub fn start(paths: &[PathBuf], on_change: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        Self::start_with(TIMING, paths, on_change)
    }

    /// Files that matter besides, e.g. modules of filters; they replace those given before.
    pub fn set_extra(&self, files: &[PathBuf]) {
        // The thread ends only with the watcher itself.
        self.messages.send(Message::Extra(files.to_vec())).ok();
    }

    /// The files as they were when they were read ([`Sources::stamps_when_read`]). From the first time on it is not looked at all
    /// of them before a call: with thousands that takes longer than all the rest.
    pub fn set_seen(&self, stamps: [u8; 32]) {
        self.messages.send(Message::Seen(stamps)).ok();
    }

    /// Watches files of any kind, those that `list` names each time: a new one is noticed in a folder that holds another.
    /// For sources, which are many and small: all of them are read at each look, and only another content is told.
    pub fn start_listed(
        list: impl Fn() -> Vec<PathBuf> + Send + 'static,
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Self, WatchError> {
        Self::start_on(SOURCES_TIMING, Vec::new(), Some(Box::new(list)), on_change)
    }

    fn start_with(
        timing: Timing,
        paths: &[PathBuf],
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Self, WatchError> {
        let paths = paths.iter().filter(|path| path.as_os_str() != "-").cloned().collect();
        Self::start_on(timing, paths, None, on_change)
    }

    fn start_on(
        timing: Timing,
        paths: Vec<PathBuf>,
        list: Option<List>,
        on_change: impl Fn() + Send + 'static,
    ) -> Result<Self, WatchError> {
        let (messages, inbox) = mpsc::channel();
        let events = messages.clone();
        let handler = move |event: notify::Result<Event>| {
            // An error means lost events: as good as an event about anything.
            events.send(Message::Event(event.unwrap_or_else(|_| Event::new(EventKind::Any)))).ok();
        };
        let system = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!("the system watches no files, they are polled: {error}"))
            .ok();
        let mut watch = Watch { list, ..Watch::new(timing, paths, system) };
        watch.look();
        thread::Builder::new().name("portolan-watch".to_owned()).spawn(move || watch.run(&inbox, &on_change))?;
        Ok(Self { messages })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.messages.send(Message::Stop).ok();
    }
}

/// The thread's state.
struct Watch {
    timing: Timing,
    paths: Vec<PathBuf>,
    extra: Vec<PathBuf>,
    /// Names `extra` anew at each look; then any event in a watched folder is worth one.
    list: Option<List>,
    folders: Folders<RecommendedWatcher>,
    /// Names of the files that links lead to.
    targets: BTreeSet<OsString>,
    /// Hash of all files' sizes and times at the last look, or when the caller read them.
    seen: [u8; 32],
    /// Hash of the further ones' contents at the last look.
    seen_extra: [u8; 32],
    /// The caller says what it has seen when it read them.
    is_told: bool,
}

impl Watch {
    fn new(timing: Timing, paths: Vec<PathBuf>, system: Option<RecommendedWatcher>) -> Self {
        let (extra, targets, folders) = (Vec::new(), BTreeSet::new(), Folders::new(system));
        let seen = [0; 32];
        Self { timing, paths, extra, list: None, folders, targets, seen, seen_extra: seen, is_told: false }
    }

    fn run(&mut self, inbox: &Receiver<Message>, on_change: &impl Fn()) {
        loop {
            let pause = if self.folders.is_watching() { self.timing.rescan } else { self.timing.poll };
            let is_due = match inbox.recv_timeout(pause) {
                Ok(Message::Event(event)) if !self.matters(&event) => false,
                Ok(Message::Event(_)) => {
                    if !self.settle(inbox) {
                        return;
                    }
                    // The caller compares; here only what the next rescan compares with is brought up to date. With a list,
                    // events are told of much that nobody reads.
                    let is_other = if self.is_told { self.look_beside() } else { self.look() };
                    is_other || self.list.is_none()
                }
                Ok(Message::Extra(files)) => self.set_extra(files),
                Ok(Message::Seen(stamps)) => self.set_seen(stamps),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            };
            if is_due {
                on_change();
            }
        }
    }

    /// Waits for quiet. False when the watcher is to stop.
    fn settle(&mut self, inbox: &Receiver<Message>) -> bool {
        let first = Instant::now();
        let mut until = first + self.timing.quiet;
        loop {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Message::Event(event)) if self.matters(&event) => {
                    until = (Instant::now() + self.timing.quiet).min(first + self.timing.limit);
                }
                Ok(Message::Event(_)) => {}
                Ok(Message::Extra(files)) => drop(self.set_extra(files)),
                Ok(Message::Seen(stamps)) => drop(self.set_seen(stamps)),
                Err(RecvTimeoutError::Timeout) => return true,
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// What is seen of them is compared with at the next rescan.
    fn set_seen(&mut self, stamps: [u8; 32]) -> bool {
        (self.seen, self.is_told) = (stamps, true);
        false
    }

    /// True when one of the files changed so lately that whoever named it may have read what was before.
    fn set_extra(&mut self, files: Vec<PathBuf>) -> bool {
        if files == self.extra {
            return false;
        }
        self.extra = files;
        self.look_beside();
        let is_recent = |file: &PathBuf| {
            let modified = fs::metadata(file).and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < self.timing.poll))
        };
        self.extra.iter().any(is_recent)
    }

    /// Whether an event may be about a file that is read. Reading makes `Access` events: they never count.
    fn matters(&self, event: &Event) -> bool {
        let is_read = matches!(event.kind, EventKind::Access(_));
        !is_read
            && (self.list.is_some()
                || event.paths.is_empty()
                || event.need_rescan()
                || event.paths.iter().any(|path| self.may_be_read(path)))
    }

    /// Configuration, folders, links such as `..data`, and what is gone: all but the files of a foreign kind.
    fn may_be_read(&self, path: &Path) -> bool {
        let name = path.file_name();
        let is_named = |named: &PathBuf| named.file_name() == name;
        let is_foreign = path.extension().is_some() && !is_config_file(path) && !is_hidden_link(path);
        !is_foreign
            || path.is_dir()
            || name.is_some_and(|name| self.targets.contains(name))
            || self.extra.iter().chain(&self.paths).any(is_named)
    }

    /// Watches what there is now, and tells whether anything differs from the last look.
    fn look(&mut self) -> bool {
        let is_other = self.look_beside();
        let stamps = Sources::stamps(&self.paths);
        std::mem::replace(&mut self.seen, stamps) != stamps || is_other
    }

    /// The same but for the files that the caller reads.
    fn look_beside(&mut self) -> bool {
        if let Some(list) = &self.list {
            self.extra = list();
        }
        let found = folders::of(&self.paths, &self.extra);
        self.folders.set(found.folders);
        self.targets = found.targets;
        let contents = self.extra_contents();
        std::mem::replace(&mut self.seen_extra, contents) != contents
    }

    fn extra_contents(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for file in &self.extra {
            // A file that cannot be read differs from every file that can.
            hasher.update(fs::read(file).map_or([0; 32], |bytes| Sha256::digest(bytes).into()));
        }
        hasher.finalize().into()
    }
}

/// `..data` and `..2026_11_22`: a ConfigMap's own.
fn is_hidden_link(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
}

#[cfg(test)]
mod tests;
