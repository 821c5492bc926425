//! Requests and callbacks as lines.

use std::time::Duration;

use portolan_telemetry::ResponseFlags;
use portolan_wasm::{CallbackTrace, HostCall, Outcome, Value};

use crate::filter::stage::Exchange;

/// Where answers stand, as far as there is room before them.
const COLUMN: usize = 36;

/// Longest path that is shown, in characters.
const PATH: usize = 80;

/// `GET /hello    200   1.3 ms   filter 0.04 ms`, and what went wrong.
pub(super) fn request_line(exchange: &Exchange, plugin: &str) -> String {
    let record = &exchange.record;
    let info = &record.info;
    let method = info.method.as_ref().map_or("-", |method| method.as_str());
    let path = info.path.as_ref().map_or("-", |path| path.as_str());
    let path: String = path.chars().take(PATH).flat_map(char::escape_default).collect();
    let status = match info.response_code {
        0 => "-".to_owned(),
        status => status.to_string(),
    };
    let mut line = format!("{:<COLUMN$}{status:<4} {:>9}", format!("{method} {path}"), millis(info.duration, 1));
    let own = record.callbacks.iter().filter(|callback| *callback.plugin == *plugin);
    let times: Vec<_> = own.map(|callback| callback.took).collect();
    if !times.is_empty() {
        line.push_str(&format!("   filter {}", millis(times.iter().sum(), 2)));
    }
    if info.flags != ResponseFlags::NONE {
        line.push_str(&format!("   {} {}", info.flags, info.details));
    }
    line
}

/// True when something in this request deserves a look.
pub(super) fn has_trouble(exchange: &Exchange) -> bool {
    let record = &exchange.record;
    record.info.response_code == 0 || record.callbacks.iter().any(is_trouble)
}

/// True for a callback that failed, refused, was refused something, or warned.
pub(super) fn is_trouble(callback: &CallbackTrace) -> bool {
    let warns = |call: &HostCall| {
        let level = call.arguments.first().map(|level| &level.value);
        call.word == "log"
            && matches!(level, Some(Value::Word(level)) if matches!(&**level, "warn" | "error" | "critical"))
    };
    callback.has_failed()
        || callback.outcome == Outcome::False
        || callback.calls.iter().any(|call| call.is_refused() && !call.is_wasi() || warns(call))
}

/// True for the callbacks and initialisers that a VM starts with.
pub(super) fn is_of_start(callback: &CallbackTrace) -> bool {
    match callback.function {
        "proxy_on_vm_start" | "proxy_on_configure" => true,
        "proxy_on_context_create" => callback.stream.is_none() && callback.context == 1,
        function => !function.starts_with("proxy_"),
    }
}

/// A callback with its calls, a line each. Without `whole` what says nothing is left out: openings and ends of contexts
/// that ask for nothing, and what a guest's runtime asks by itself. Empty when nothing is left.
pub(super) fn trace_lines(callback: &CallbackTrace, plugin: &str, whole: bool) -> String {
    let calls: Vec<_> = callback.calls.iter().filter(|call| whole || is_telling(call)).collect();
    if calls.is_empty() && !whole && !says_something(callback) {
        return String::new();
    }
    let other = if *callback.plugin == *plugin { String::new() } else { format!("{}: ", callback.plugin) };
    let (outcome, failure) = match &callback.outcome {
        Outcome::Failed(reason) => ("-> failed".to_owned(), Some(reason)),
        _ => (callback.answered(), None),
    };
    let mut text = line(2, &format!("{other}{}", callback.asked()), &outcome);
    for call in calls {
        let context = call.context.map(|context| format!(" [context {context}]")).unwrap_or_default();
        text.push_str(&line(4 + 2 * call.depth as usize, &call.asked(), &format!("{}{context}", call.answered())));
    }
    if callback.left_out > 0 {
        text.push_str(&format!("    and {} calls more\n", callback.left_out));
    }
    // After the calls that led to it.
    for reason in failure.into_iter().flat_map(|failure| failure.lines()) {
        text.push_str(&format!("    {reason}\n"));
    }
    text
}

fn is_telling(call: &HostCall) -> bool {
    !call.is_wasi() || call.word == "write"
}

fn says_something(callback: &CallbackTrace) -> bool {
    let is_quiet = matches!(
        callback.function,
        "proxy_on_context_create" | "proxy_on_log" | "proxy_on_done" | "proxy_on_delete" | "proxy_on_tick"
    );
    callback.has_failed() || !is_quiet && callback.function.starts_with("proxy_")
}

/// What was asked, and in a column of its own what was answered.
fn line(indent: usize, asked: &str, answered: &str) -> String {
    let width = COLUMN.saturating_sub(indent);
    format!("{:indent$}{}\n", "", format!("{asked:<width$} {answered}").trim_end())
}

fn millis(time: Duration, digits: usize) -> String {
    format!("{:.digits$} ms", time.as_secs_f64() * 1e3)
}
