//! [`Screen`]: what the author reads: one line for each version and each request, and the trace below it.

mod trace_text;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use portolan_config::Diagnostic;
use portolan_wasm::{AbiVersion, CallbackTrace, VmToken};

use self::trace_text::{has_trouble, is_of_start, request_line, trace_lines};
use super::command::KEYS;
use super::target::{Module, NotBuilt};
use crate::args::TraceMode;
use crate::change::number;
use crate::filter::stage::{Change, Exchange};
use crate::{output, report};

/// File names in a line; further ones are counted.
const NAMED_FILES: usize = 3;

/// Writes to standard output.
pub(super) struct Screen {
    trace: TraceMode,
    quiet: bool,
    color: bool,
    /// The VM whose start is told: all VMs of a version start alike.
    starting: Cell<Starting>,
}

/// Whose start is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Starting {
    /// The next that starts.
    Anyone,
    /// This one.
    This(VmToken),
}

/// A module with what the host knows of it.
pub(super) struct Version<'a> {
    pub(super) module: &'a Module,
    /// Number of imports, and ABI; none when another version serves.
    pub(super) about: Option<(usize, AbiVersion)>,
}

impl Screen {
    pub(super) fn new(trace: TraceMode, quiet: bool, color: bool) -> Self {
        Self { trace, quiet, color, starting: Cell::new(Starting::Anyone) }
    }

    /// One remark.
    pub(super) fn says(&self, text: &str) {
        // A terminal that has gone away ends the loop by its signal.
        let _ = output::answer(&format!("{text}\n"));
    }

    /// The first version serves.
    pub(super) fn begins(&self, version: &Version<'_>, took: Duration, address: SocketAddr) {
        self.says(&about(version));
        self.says(&format!("live  {}  http://{address}/        {KEYS}", seconds(took)));
    }

    /// Nothing serves yet.
    pub(super) fn waits(&self, address: SocketAddr) {
        self.says(&format!("waits for a version that works: requests to http://{address}/ get 503        {KEYS}"));
    }

    /// Another version has taken over.
    pub(super) fn live(&self, names: &[String], version: &Version<'_>, took: Duration, in_flight: u64) {
        let built = version.module.took.map(|built| format!("   built {}", seconds(built))).unwrap_or_default();
        let rest = match in_flight {
            0 => String::new(),
            1 => "   (1 request in flight finishes on the old one)".to_owned(),
            many => format!("   ({many} requests in flight finish on the old one)"),
        };
        self.says(&format!("{}{built}   live {}{rest}", changed(names), seconds(took)));
    }

    /// The sources have changed and the module has not.
    pub(super) fn unchanged(&self, names: &[String], built: Option<Duration>) {
        let built = built.map(|built| format!("   built {}", seconds(built))).unwrap_or_default();
        self.says(&format!("{}{built}   the module is as before", changed(names)));
    }

    /// There is no module: what the compiler says comes first, as it wrote it.
    pub(super) fn not_built(&self, names: &[String], error: &NotBuilt, serves: bool) {
        let said = error.output();
        if !said.is_empty() {
            self.says(said.trim_end());
        }
        self.says(&self.red(&format!("{}   not built: {error}{}", changed(names), rest(serves))));
    }

    /// The gateway does not take the module.
    pub(super) fn refused(&self, names: &[String], reason: &str, serves: bool) {
        self.says(&self.red(&format!("{}   refused: {reason}{}", changed(names), rest(serves))));
    }

    /// The user's own configuration has changed.
    pub(super) fn configured(&self, change: anyhow::Result<Change>, took: Duration) {
        match change {
            Ok(change) => {
                self.findings(&change.findings);
                self.says(&format!("changed configuration   live {}", seconds(took)));
            }
            Err(error) => self.says(&self.red(&format!("changed configuration   {error:#}"))),
        }
    }

    /// What is to be said of the configuration.
    pub(super) fn findings(&self, findings: &[Diagnostic]) {
        for finding in findings {
            self.says(&report::line(finding));
        }
    }

    /// Events that nobody took in time.
    pub(super) fn lost(&self, count: u64) {
        self.says(&format!("({} not shown: there were too many)", number(count as usize, "event")));
    }

    /// A request has ended.
    pub(super) fn exchange(&self, exchange: &Exchange, plugin: &str) {
        let trouble = has_trouble(exchange);
        if self.quiet && !trouble {
            return;
        }
        let line = request_line(exchange, plugin);
        self.says(&if trouble { self.red(&line) } else { line });
        if self.trace == TraceMode::All || self.trace == TraceMode::Errors && trouble {
            self.callbacks(exchange, plugin, false);
        }
    }

    /// The last request again, with all of its trace.
    pub(super) fn again(&self, last: Option<&Exchange>, plugin: &str) {
        let Some(last) = last else { return self.says("no request has come yet") };
        self.says(&request_line(last, plugin));
        self.callbacks(last, plugin, true);
    }

    /// From now on the start of the next VM is told.
    pub(super) fn awaits_start(&self) {
        self.starting.set(Starting::Anyone);
    }

    /// A callback that belongs to no request.
    pub(super) fn callback(&self, callback: &CallbackTrace, plugin: &str) {
        let is_start = is_of_start(callback);
        if is_start {
            match self.starting.get() {
                Starting::Anyone => self.starting.set(Starting::This(callback.vm)),
                Starting::This(vm) if vm == callback.vm => {}
                Starting::This(_) => return,
            }
        }
        let trouble = trace_text::is_trouble(callback);
        let wanted = match self.trace {
            TraceMode::All => !self.quiet || trouble,
            TraceMode::Errors => trouble,
            TraceMode::Off => false,
        };
        if wanted {
            self.lines(&trace_lines(callback, plugin, trouble));
        }
    }

    fn callbacks(&self, exchange: &Exchange, plugin: &str, whole: bool) {
        for callback in &exchange.record.callbacks {
            self.lines(&trace_lines(callback, plugin, whole));
        }
        if exchange.record.left_out > 0 {
            self.says(&format!("  and {} more", number(exchange.record.left_out, "callback")));
        }
    }

    fn lines(&self, text: &str) {
        if !text.is_empty() {
            self.says(text.trim_end_matches('\n'));
        }
    }

    fn red(&self, text: &str) -> String {
        if self.color { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `built 0.7 s   stamp.wasm 212 kB   imports ok (14 of 14)   ABI 0.2.1`.
fn about(version: &Version<'_>) -> String {
    let Module { name, bytes, took } = version.module;
    let built = took.map_or_else(|| "module".to_owned(), |took| format!("built {}", seconds(took)));
    let mut text = format!("{built}   {name} {} kB", bytes.len().div_ceil(1000));
    if let Some((imports, abi)) = version.about {
        text.push_str(&format!("   imports ok ({imports} of {imports})   ABI {abi}"));
    }
    text
}

/// What has changed; without names somebody has asked for it.
fn changed(names: &[String]) -> String {
    if names.is_empty() {
        return "again".to_owned();
    }
    let more = names.len().saturating_sub(NAMED_FILES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("changed {}{more}", names[..names.len().min(NAMED_FILES)].join(", "))
}

fn rest(serves: bool) -> &'static str {
    if serves { "; the one before serves on" } else { "" }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
