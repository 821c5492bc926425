//! The writer's thread: takes what is pending, writes it, opens the file anew when it was moved away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;

/// After a write, lines gather this long before the next one: at most 50 writes a second.
const GATHER: Duration = Duration::from_millis(20);

/// How often the file's path is looked at, and only when there is something to write.
const LOOK_FOR_MOVE: Duration = Duration::from_secs(1);

/// Where lines go.
pub(super) enum Sink {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File },
}

impl Sink {
    /// Opens a path as [`super::AccessLog::open`] describes it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match path.to_str() {
            Some("-" | "/dev/stdout") => Ok(Self::Stdout),
            Some("/dev/stderr") => Ok(Self::Stderr),
            _ => Ok(Self::File { path: path.to_owned(), file: append(path)? }),
        }
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(batch)?;
                out.flush()
            }
            Self::Stderr => io::stderr().lock().write_all(batch),
            Self::File { file, .. } => file.write_all(batch),
        }
    }

    /// Opens the file anew when another one, or none, is at its path. True when it did.
    fn follow_move(&mut self) -> io::Result<bool> {
        let Self::File { path, file } = self else { return Ok(false) };
        let open = file.metadata()?;
        if path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())) {
            return Ok(false);
        }
        *file = append(path)?;
        Ok(true)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

pub(super) struct Writer {
    sink: Sink,
    shared: Arc<Shared>,
    looked: Instant,
    /// The last write failed; said once until one succeeds.
    failing: bool,
}

impl Writer {
    /// Starts the thread. It ends when `shared` is closed and everything is written.
    pub(super) fn spawn(sink: Sink, shared: Arc<Shared>) -> io::Result<()> {
        let writer = Self { sink, shared, looked: Instant::now(), failing: false };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run()).map(drop)
    }

    fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(lines) = self.take(&mut batch) {
            self.write(&batch, lines);
            batch.clear();
            self.gather();
        }
        self.shared.lock().finished = true;
        self.shared.changed.notify_all();
    }

    /// Waits for lines and swaps them into `batch`; `None` when the log is closed and nothing is left.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.shared.lock();
        while state.pending.is_empty() {
            if state.closed {
                return None;
            }
            state.asleep = true;
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.asleep = false;
        std::mem::swap(&mut state.pending, batch);
        Some(std::mem::take(&mut state.lines))
    }

    fn write(&mut self, batch: &[u8], lines: u64) {
        if self.failing || self.looked.elapsed() >= LOOK_FOR_MOVE {
            self.follow_move();
        }
        match self.sink.write(batch) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.shared.counters.write_failed_total.inc_by(lines);
                if !self.failing {
                    tracing::warn!(%error, lines, "access log lines are lost");
                }
                self.failing = true;
            }
        }
    }

    /// When the path cannot be opened anew, the file that was moved goes on taking lines: better there than nowhere.
    fn follow_move(&mut self) {
        self.looked = Instant::now();
        match self.sink.follow_move() {
            Ok(false) => {}
            Ok(true) => self.shared.counters.reopened_total.inc(),
            Err(error) => tracing::warn!(%error, "the access log was moved and cannot be opened anew"),
        }
    }

    /// Lets lines gather, unless the log is being closed.
    fn gather(&self) {
        let state = self.shared.lock();
        drop(self.shared.changed.wait_timeout_while(state, GATHER, |state| !state.closed));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs;

    use super::Sink;

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut sink = Sink::open(&path).unwrap();
        sink.write(b"one\n").unwrap();
        assert!(!sink.follow_move().unwrap());
        fs::rename(&path, &moved).unwrap();
        assert!(sink.follow_move().unwrap());
        sink.write(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }
}
