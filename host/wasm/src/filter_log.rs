//! `FilterLog`: a filter's own lines on their way to the gateway's log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::Level;

use crate::abi::LogLevel;

/// Target of all lines.
const TARGET: &str = "portolan::filter";

/// Longest line in bytes; the rest is cut.
const MAX_LINE: usize = 16 * 1024;

/// Lines kept for the text of a refusal, and the longest of them.
const TAIL_LINES: usize = 5;
const TAIL_LINE: usize = 1024;

/// One VM's log: escapes, limits the rate, and keeps the last lines at warn and above while the VM starts.
#[derive(Debug)]
pub(crate) struct FilterLog {
    plugin: String,
    lines_per_second: u32,
    second: Option<Instant>,
    lines: u32,
    dropped: u64,
    /// None once the VM has started.
    tail: Option<VecDeque<String>>,
}

impl FilterLog {
    pub(crate) fn new(plugin: String, lines_per_second: u32) -> Self {
        Self { plugin, lines_per_second, second: None, lines: 0, dropped: 0, tail: Some(VecDeque::new()) }
    }

    /// True when a line of this level would go anywhere. Cheap: asked before the line is read.
    pub(crate) fn wants(&self, level: LogLevel) -> bool {
        (self.tail.is_some() && level >= LogLevel::Warn) || enabled(level)
    }

    /// Writes one line. Bytes that are no UTF-8 are replaced, control characters are escaped.
    pub(crate) fn write(&mut self, level: LogLevel, line: &[u8]) {
        let line = escape(&line[..line.len().min(MAX_LINE)]);
        if let Some(tail) = self.tail.as_mut().filter(|_| level >= LogLevel::Warn) {
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.chars().take(TAIL_LINE).collect());
        }
        if self.admit() {
            emit(level, &self.plugin, &line);
        }
    }

    /// Ends the start: returns what was kept and keeps nothing more.
    pub(crate) fn end_start(&mut self) -> Vec<String> {
        self.tail.take().map(Vec::from).unwrap_or_default()
    }

    /// Lines dropped so far because there were too many.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts a line against the second that runs.
    fn admit(&mut self) -> bool {
        let now = Instant::now();
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            if self.lines > self.lines_per_second {
                let dropped = self.lines - self.lines_per_second;
                tracing::warn!(target: TARGET, plugin = self.plugin, dropped, "too many log lines, some were dropped");
            }
            self.second = Some(now);
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        let admitted = self.lines <= self.lines_per_second;
        self.dropped += u64::from(!admitted);
        admitted
    }
}

/// The least serious level that the gateway's log takes, for `get_log_level`.
pub(crate) fn least_level() -> LogLevel {
    let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    levels.into_iter().find(|level| enabled(*level)).unwrap_or(LogLevel::Critical)
}

/// tracing's macros want their level as a constant, hence a branch for each.
fn enabled(level: LogLevel) -> bool {
    match level {
        LogLevel::Trace => tracing::enabled!(target: TARGET, Level::TRACE),
        LogLevel::Debug => tracing::enabled!(target: TARGET, Level::DEBUG),
        LogLevel::Info => tracing::enabled!(target: TARGET, Level::INFO),
        LogLevel::Warn => tracing::enabled!(target: TARGET, Level::WARN),
        LogLevel::Error | LogLevel::Critical => tracing::enabled!(target: TARGET, Level::ERROR),
    }
}

fn emit(level: LogLevel, plugin: &str, line: &str) {
    match level {
        LogLevel::Trace => tracing::trace!(target: TARGET, plugin, "{line}"),
        LogLevel::Debug => tracing::debug!(target: TARGET, plugin, "{line}"),
        LogLevel::Info => tracing::info!(target: TARGET, plugin, "{line}"),
        LogLevel::Warn => tracing::warn!(target: TARGET, plugin, "{line}"),
        LogLevel::Error | LogLevel::Critical => tracing::error!(target: TARGET, plugin, "{line}"),
    }
}

/// The line as text without control characters, so that a filter cannot forge a line or colour a terminal. A line
/// break at the end is cut.
fn escape(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut escaped = String::with_capacity(text.len());
    for character in text.trim_end_matches(['\n', '\r']).chars() {
        match character {
            '\t' => escaped.push('\t'),
            control if control.is_control() => escaped.extend(control.escape_default()),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape(b"a\x1b[31mb\nc\n"), "a\\u{1b}[31mb\\nc");
        assert_eq!(escape(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn more_lines_than_allowed_are_dropped_and_counted() {
        let mut log = FilterLog::new("p".to_owned(), 3);
        for _ in 0..5 {
            log.write(LogLevel::Info, b"x");
        }
        assert_eq!(log.dropped(), 2);
    }

    #[test]
    fn the_last_serious_lines_of_the_start_are_kept() {
        let mut log = FilterLog::new("p".to_owned(), 3);
        log.write(LogLevel::Info, b"no");
        for number in 0..7 {
            log.write(LogLevel::Error, number.to_string().as_bytes());
        }
        assert_eq!(log.end_start(), ["2", "3", "4", "5", "6"]);
        assert!(log.end_start().is_empty());
    }
}
