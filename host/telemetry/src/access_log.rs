//! [`AccessLog`]: one line per request, written by a thread of its own.
//!
//! A worker formats its line and appends it to a shared buffer of bounded size; it never waits for a disk or a pipe.
//! The writer takes the whole buffer at once, so that under load one `write` carries hundreds of lines.

#[cfg(test)]
mod tests;
mod writer;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::format::{DEFAULT_FORMAT, Format, FormatError};
use crate::metrics::AccessLogMetrics;
use crate::stream_info::StreamInfo;
use writer::{Sink, Writer};

/// Bytes that may wait for the writer; lines beyond are dropped and counted.
const MAX_PENDING: usize = 1024 * 1024;

/// How long dropping the log waits for the last lines: a pipe that nobody reads must not hold the process.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Why an access log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file cannot be opened for appending.
    #[error("cannot open access log `{path}`")]
    Open {
        /// As given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The writer's thread could not be started.
    #[error("cannot start the access log's writer")]
    Thread(#[source] io::Error),
    /// The format string is wrong.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// An open access log. Dropping it waits until what is pending is written, at most two seconds, and ends its thread.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Opens a log in Istio's default format. `/dev/stdout` and `-` are standard output, `/dev/stderr` standard error;
    /// any other path is a file that is appended to, and opened anew when it was moved away.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AccessLogError> {
        Self::open_counted(path, Arc::default())
    }

    /// As [`Self::open`], counting into [`crate::Metrics::access_log`].
    pub fn open_counted(path: impl AsRef<Path>, counters: Arc<AccessLogMetrics>) -> Result<Self, AccessLogError> {
        Self::open_with(path.as_ref(), Format::compile(DEFAULT_FORMAT)?, counters)
    }

    /// As [`Self::open_counted`], in a format of one's own.
    pub fn open_with(path: &Path, format: Format, counters: Arc<AccessLogMetrics>) -> Result<Self, AccessLogError> {
        let sink = Sink::open(path).map_err(|source| AccessLogError::Open { path: path.to_owned(), source })?;
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), counters });
        Writer::spawn(sink, shared.clone()).map_err(AccessLogError::Thread)?;
        Ok(Self { format, shared })
    }

    /// Formats the line of a request and hands it to the writer. Never waits for the file.
    pub fn record(&self, info: &StreamInfo) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            self.format.write(info, line);
            line.push(b'\n');
            self.shared.append(line);
        });
    }

    /// True when lines name headers: see [`Format::wants_headers`].
    pub fn wants_headers(&self) -> bool {
        self.format.wants_headers()
    }

    /// Lines that were dropped because the writer was behind.
    pub fn dropped(&self) -> u64 {
        self.shared.counters.dropped_total.value()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        let wait = self.shared.changed.wait_timeout_while(state, LAST_WRITE, |state| !state.finished);
        drop(wait);
    }
}

/// What workers and writer share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    counters: Arc<AccessLogMetrics>,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    pending: Vec<u8>,
    /// How many lines `pending` holds.
    lines: u64,
    /// The writer sleeps until it is told; only then a worker pays for waking it.
    asleep: bool,
    /// The log was dropped.
    closed: bool,
    /// The writer wrote its last line.
    finished: bool,
}

impl Shared {
    fn append(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.pending.len() + line.len() > MAX_PENDING {
            drop(state);
            self.counters.dropped_total.inc();
            return;
        }
        state.pending.extend_from_slice(line);
        state.lines += 1;
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        self.counters.lines_total.inc();
        if wake {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves at worst a part of a line.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
