//! The process's own log: lines on stderr, with levels that can be changed while it runs.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Metadata;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Why a level could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directives make no sense.
    #[error("`{directives}` is no log level: {reason}")]
    Directives {
        /// As given.
        directives: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Something else in the process installed a log before.
    #[error("the log is set up already")]
    Installed,
}

/// Changes log levels while the process runs. Clones share one state.
///
/// Directives are those of `tracing_subscriber::EnvFilter`: a level for all (`info`) and levels by module
/// (`info,portolan_proxy=debug`).
#[derive(Clone)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    current: Arc<Mutex<String>>,
}

impl LogControl {
    /// Sets up the process's log on stderr, coloured on terminals only.
    pub fn install(directives: &str) -> Result<Self, LogError> {
        let ansi = io::stderr().is_terminal();
        let (control, subscriber) = Self::build(directives, io::stderr, ansi)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
        Ok(control)
    }

    /// The same without the lines of one target, which somebody else tells. They count as wanted all the same.
    pub fn install_without(directives: &str, target: &'static str) -> Result<Self, LogError> {
        let ansi = io::stderr().is_terminal();
        let (control, subscriber) = Self::build(directives, Without { target }, ansi)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Installed)?;
        Ok(control)
    }

    /// A control with a subscriber that writes to `out`; for tests and for callers that install it themselves.
    pub fn build<W>(
        directives: &str,
        out: W,
        ansi: bool,
    ) -> Result<(Self, impl tracing::Subscriber + Send + Sync), LogError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, handle) = reload::Layer::new(parse(directives)?);
        let fields = debug_fn(write_field).delimited(" ");
        let lines = tracing_subscriber::fmt::layer().fmt_fields(fields).with_ansi(ansi).with_writer(out);
        let subscriber = Registry::default().with(filter).with(lines);
        Ok((Self { filter: handle, current: Arc::new(Mutex::new(directives.to_owned())) }, subscriber))
    }

    /// Replaces all levels.
    pub fn set(&self, directives: &str) -> Result<(), LogError> {
        let filter = parse(directives)?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(filter).map_err(|error| refused(directives, &error))?;
        directives.clone_into(&mut current);
        Ok(())
    }

    /// Sets one module's level (`portolan_proxy`, `debug`) and leaves the others.
    pub fn set_module(&self, module: &str, level: &str) -> Result<(), LogError> {
        let directive = format!("{module}={level}");
        if !is_module(module) || !is_level(level) {
            return Err(refused(
                &directive,
                &"expected MODULE=LEVEL, a level being one of off, error, warn, info, debug, trace",
            ));
        }
        let current = self.current();
        let others = current.split(',').filter(|one| one.split_once('=').is_none_or(|(name, _)| name != module));
        let all: Vec<&str> = others.chain([directive.as_str()]).filter(|one| !one.is_empty()).collect();
        self.set(&all.join(","))
    }

    /// The directives in force.
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Standard error but for one target.
struct Without {
    target: &'static str,
}

impl<'a> MakeWriter<'a> for Without {
    type Writer = Box<dyn io::Write>;

    fn make_writer(&'a self) -> Self::Writer {
        Box::new(io::stderr())
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        if metadata.target() == self.target { Box::new(io::sink()) } else { self.make_writer() }
    }
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("current", &self.current()).finish_non_exhaustive()
    }
}

fn parse(directives: &str) -> Result<EnvFilter, LogError> {
    // The parser takes any word for a module's name, so that a misspelt level would silence everything.
    for one in directives.split(',').filter(|one| !one.contains(['=', '['])) {
        if !is_level(one.trim()) {
            return Err(refused(directives, &format!("`{one}` is none of off, error, warn, info, debug, trace")));
        }
    }
    EnvFilter::builder().parse(directives).map_err(|error| refused(directives, &error))
}

fn refused(directives: &str, reason: &dyn fmt::Display) -> LogError {
    LogError::Directives { directives: directives.to_owned(), reason: reason.to_string() }
}

fn is_level(level: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].contains(&level.to_ascii_lowercase().as_str())
}

fn is_module(module: &str) -> bool {
    !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Prints `name=value`, or the bare message.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() == "message" {
        return write!(Escaped(out), "{value:?}");
    }
    write!(out, "{}=", field.name())?;
    write!(Escaped(out), "{value:?}")
}

/// Escapes control characters, so that no value can forge a line or steer a terminal. The layer itself escapes only
/// some of them, and those only in messages.
struct Escaped<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain_from = 0;
        for (at, char) in text.char_indices().filter(|(_, char)| char.is_control()) {
            self.0.write_str(&text[plain_from..at])?;
            plain_from = at + char.len_utf8();
            write!(self.0, "{}", char.escape_default())?;
        }
        self.0.write_str(&text[plain_from..])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Write;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(ansi: bool, deed: impl FnOnce(&LogControl)) -> String {
        let lines = Lines::default();
        let out = lines.clone();
        let (control, subscriber) = LogControl::build("info", move || out.clone(), ansi).unwrap();
        tracing::subscriber::with_default(subscriber, || deed(&control));
        lines.text()
    }

    #[test]
    fn a_field_cannot_forge_a_line() {
        for ansi in [false, true] {
            let text = logged(ansi, |_| tracing::info!(path = %"/\n2026 INFO all is well\r\x07\x1b[2J", "refused"));
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(r"\n2026 INFO") && !text.contains("\x1b[2J") && !text.contains('\x07'), "{text:?}");
            assert!(text.contains("refused") && text.contains("path=/"), "{text:?}");
        }
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(!logged(false, |_| tracing::info!("hello")).contains('\x1b'));
        assert!(logged(true, |_| tracing::info!("hello")).contains('\x1b'));
    }

    #[test]
    fn levels_change_while_the_process_runs() {
        let text = logged(false, |control| {
            tracing::debug!("before");
            control.set_module("portolan_telemetry", "debug").unwrap();
            tracing::debug!("between");
            assert_eq!(control.current(), "info,portolan_telemetry=debug");
            control.set_module("portolan_telemetry", "warn").unwrap();
            tracing::info!("after");
            assert_eq!(control.current(), "info,portolan_telemetry=warn");
        });
        assert!(text.contains("between") && !text.contains("before") && !text.contains("after"), "{text}");
    }

    #[test]
    fn what_is_no_level_changes_nothing() {
        logged(false, |control| {
            for wrong in ["", "loud", "info,loud", "portolan_proxy=loud"] {
                assert!(control.set(wrong).is_err(), "{wrong}");
            }
            assert!(control.set_module("a=b", "info").is_err());
            assert!(control.set_module("[span]", "info").is_err());
            assert!(control.set_module("portolan_proxy", "loud").is_err());
            assert_eq!(control.current(), "info");
        });
    }
}
