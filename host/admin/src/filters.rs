//! `/filters`: the Wasm filters, how they are, and what they cost.

use std::fmt::Write;

use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Serialize;

use crate::output::{Form, json, text, unknown_form};

/// One filter.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FilterView {
    /// `namespace.name` of its object, or the name of a bundled filter.
    pub name: String,
    /// `file:line` of its object; `built in` for a bundled filter.
    pub origin: String,
    /// Istio's phase; none for a bundled filter, whose place is fixed.
    pub phase: Option<String>,
    /// Within a phase, higher runs first.
    pub priority: i64,
    /// `FAIL_CLOSE`, `FAIL_OPEN` or `FAIL_RELOAD`.
    pub fail_strategy: String,
    /// `running`, `backing off` or `failed`.
    pub state: &'static str,
    /// Milliseconds until a filter that backs off is tried again.
    pub retry_in_ms: Option<u64>,
    /// Why it, or its newest version, could not be started.
    pub error: Option<String>,
    /// How a canary is doing; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<serde_json::Value>,
    /// What is alive of it: the version that serves new streams, and older ones that end their streams.
    pub versions: Vec<VersionView>,
    /// The last failure of any version.
    pub last_failure: Option<FailureView>,
    /// Cost by callback.
    pub callbacks: Vec<CallbackView>,
    /// Counters, by the last part of their metric's name.
    pub totals: Vec<(&'static str, u64)>,
}

/// One version of a filter.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VersionView {
    /// SHA-256 of the module.
    pub sha256: String,
    /// Its ABI.
    pub abi: String,
    /// New streams get it.
    pub serves: bool,
    /// VMs in use, one for each worker.
    pub vms: i64,
    /// VMs that wait to replace a failed one.
    pub spares: usize,
    /// Streams that have a context in it.
    pub streams: i64,
    /// Linear memory of the VMs in use.
    pub memory_bytes: i64,
}

/// A failure.
#[derive(Clone, Debug, Serialize)]
pub struct FailureView {
    /// Seconds ago.
    pub seconds_ago: u64,
    /// On one line.
    pub reason: String,
    /// The guest's frames, innermost first.
    pub backtrace: Vec<String>,
}

/// What a callback costs: CPU time in microseconds; quick calls are sampled.
#[derive(Clone, Debug, Serialize)]
pub struct CallbackView {
    /// Name of the callback.
    pub name: &'static str,
    /// Calls so far.
    pub calls: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median, as the upper bound of a bucket.
    pub p50_us: f64,
    /// 99th of 100.
    pub p99_us: f64,
}

/// Answers `/filters`.
pub(crate) fn respond(uri: &Uri, filters: &[FilterView]) -> Response {
    match Form::of(uri) {
        Some(Form::Text) => text(StatusCode::OK, table(filters)),
        Some(Form::Json) => json(&serde_json::json!({ "filters": filters })),
        None => unknown_form(),
    }
}

/// A line for each filter, and below it what is not as it should be.
fn table(filters: &[FilterView]) -> String {
    let head =
        ["FILTER", "STATE", "PHASE", "VERSION", "ABI", "VMS", "STREAMS", "MEMORY", "CALLS", "FAILED", "P50", "P99"];
    let rows: Vec<_> = filters.iter().map(FilterView::row).collect();
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = line(&head.map(str::to_owned), &widths);
    for (filter, row) in filters.iter().zip(&rows) {
        table.push_str(&line(row, &widths));
        filter.remarks(&mut table);
    }
    table
}

fn line(cells: &[String; 12], widths: &[usize; 12]) -> String {
    let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    padded.join("  ").trim_end().to_owned() + "\n"
}

impl FilterView {
    fn row(&self) -> [String; 12] {
        let serves = self.versions.iter().rev().find(|version| version.serves);
        let of = |text: fn(&VersionView) -> String| serves.map_or_else(|| "-".to_owned(), text);
        let sum = |number: fn(&VersionView) -> i64| self.versions.iter().map(number).sum::<i64>();
        let total = |name: &str| self.totals.iter().find(|(known, _)| *known == name).map_or(0, |(_, count)| *count);
        let costly = self.callbacks.iter().max_by_key(|callback| callback.calls);
        let time = |time: fn(&CallbackView) -> f64| costly.map_or_else(|| "-".to_owned(), |c| micros(time(c)));
        [
            self.name.clone(),
            self.state.to_owned(),
            self.phase.clone().unwrap_or_else(|| "-".to_owned()),
            of(|version| version.sha256.chars().take(12).collect()),
            of(|version| version.abi.clone()),
            of(|version| format!("{}+{}", version.vms, version.spares)),
            sum(|version| version.streams).to_string(),
            format!("{:.1} MiB", sum(|version| version.memory_bytes) as f64 / 1_048_576.0),
            self.callbacks.iter().map(|callback| callback.calls).sum::<u64>().to_string(),
            (total("traps") + total("deadlines") + total("memory_limit")).to_string(),
            time(|callback| callback.p50_us),
            time(|callback| callback.p99_us),
        ]
    }

    /// What is not as it should be. Writing to a string cannot fail.
    fn remarks(&self, out: &mut String) {
        if let Some(error) = &self.error {
            let _ = writeln!(out, "  {}: {error}", self.origin);
        }
        if let Some(wait) = self.retry_in_ms {
            let _ = writeln!(out, "  put aside because it keeps failing; tried again in {:.1} s", wait as f64 / 1e3);
        }
        if let Some(rollout) = &self.rollout {
            let _ = writeln!(out, "  canary: {rollout}");
        }
        for old in self.versions.iter().filter(|version| !version.serves) {
            let digest: String = old.sha256.chars().take(12).collect();
            let _ = writeln!(out, "  {digest} ends {} streams", old.streams);
        }
        if let Some(failure) = &self.last_failure {
            let _ = writeln!(out, "  last failure {} s ago: {}", failure.seconds_ago, failure.reason);
            for frame in &failure.backtrace {
                let _ = writeln!(out, "    {frame}");
            }
        }
    }
}

/// A time with a unit that fits it.
fn micros(time: f64) -> String {
    if time < 1000.0 { format!("{time} us") } else { format!("{} ms", time / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> FilterView {
        FilterView {
            name: "default.auth".to_owned(),
            origin: "auth.yaml:3".to_owned(),
            state: "running",
            phase: Some("AUTHN".to_owned()),
            versions: vec![
                VersionView { sha256: "ab".repeat(32), streams: 2, ..VersionView::default() },
                VersionView {
                    sha256: "cd".repeat(32),
                    abi: "0.2.1".to_owned(),
                    serves: true,
                    vms: 2,
                    spares: 1,
                    memory_bytes: 1_572_864,
                    ..VersionView::default()
                },
            ],
            callbacks: vec![CallbackView {
                name: "on_request_headers",
                calls: 7,
                mean_us: 3.0,
                p50_us: 2.5,
                p99_us: 2500.0,
            }],
            totals: vec![("traps", 1)],
            last_failure: Some(FailureView {
                seconds_ago: 4,
                reason: "unreachable".to_owned(),
                backtrace: vec!["0: auth!check".to_owned()],
            }),
            ..FilterView::default()
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_filter_and_remarks_below() {
        let table = table(&[filter()]);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("FILTER        STATE    PHASE"), "{table}");
        for part in ["cdcdcdcdcdcd", "0.2.1", "2+1", "1.5 MiB", "2.5 us", "2.5 ms"] {
            assert!(lines[1].contains(part), "{part}: {table}");
        }
        assert_eq!(
            lines[2..],
            ["  abababababab ends 2 streams", "  last failure 4 s ago: unreachable", "    0: auth!check"]
        );
    }
}
