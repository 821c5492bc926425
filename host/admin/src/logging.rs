//! `/logging`: shows log levels by GET, changes them by POST.

use axum::response::Response;
use http::{Method, StatusCode};
use portolan_telemetry::{LogControl, LogError};

use crate::output::{method_not_allowed, text};

/// GET: the levels in force. With a query it is refused, since the caller seems to expect a change.
pub(crate) fn show(log: &LogControl, query: &[(String, String)]) -> Response {
    if !query.is_empty() {
        return method_not_allowed(&Method::POST, "levels are changed by POST\n");
    }
    text(StatusCode::OK, lines(log))
}

/// POST: `?level=debug` for all, `?portolan_proxy=debug` for one module. Answers with the levels in force.
pub(crate) fn change(log: &LogControl, query: &[(String, String)]) -> Response {
    if query.is_empty() {
        return text(StatusCode::BAD_REQUEST, "say ?level=LEVEL or ?MODULE=LEVEL\n");
    }
    for (name, level) in query {
        if let Err(error) = apply(log, name, level) {
            return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
        }
    }
    tracing::info!(levels = log.current(), "log levels changed");
    text(StatusCode::OK, lines(log))
}

fn apply(log: &LogControl, name: &str, level: &str) -> Result<(), LogError> {
    match name {
        "level" => log.set(level),
        module => log.set_module(module, level),
    }
}

fn lines(log: &LogControl) -> String {
    let mut lines = String::from("active loggers:\n");
    for directive in log.current().split(',') {
        let (module, level) = directive.split_once('=').unwrap_or(("all", directive));
        lines.push_str(&format!("  {module}: {level}\n"));
    }
    lines
}
