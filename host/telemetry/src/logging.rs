//! The process's own log: lines on stderr, with levels that can be changed while it runs.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

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
        let lines = fmt::layer().with_ansi(ansi).with_writer(EscapingOut { out, ansi });
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

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

fn refused(directives: &str, reason: &dyn std::fmt::Display) -> LogError {
    LogError::Directives { directives: directives.to_owned(), reason: reason.to_string() }
}

fn is_level(level: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].contains(&level.to_ascii_lowercase().as_str())
}

fn is_module(module: &str) -> bool {
    !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Writes each event as one line: control characters inside of it are escaped, so that no field can forge a line.
struct EscapingOut<W> {
    out: W,
    ansi: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for EscapingOut<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter { out: self.out.make_writer(), ansi: self.ansi }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        EscapingWriter { out: self.out.make_writer_for(meta), ansi: self.ansi }
    }
}

struct EscapingWriter<W> {
    out: W,
    ansi: bool,
}

impl<W: Write> Write for EscapingWriter<W> {
    /// `event` is one whole event with its line end: the layer writes it in one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        // Escape characters of the colours stay; those of fields have been escaped by the layer.
        let forbidden = |b: u8| b.is_ascii_control() && b != b'\t' && !(self.ansi && b == 0x1b);
        if !line.iter().copied().any(forbidden) {
            self.out.write_all(event)?;
            return Ok(event.len());
        }
        let mut escaped = Vec::with_capacity(line.len() + 16);
        for byte in line {
            match byte {
                b'\n' => escaped.extend_from_slice(b"\\n"),
                b if forbidden(*b) => escaped.extend_from_slice(format!("\\x{b:02x}").as_bytes()),
                b => escaped.push(*b),
            }
        }
        escaped.extend_from_slice(&event[line.len()..]);
        self.out.write_all(&escaped)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
