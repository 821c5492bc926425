//! The report for people.

use std::fmt::Write;

use super::figures::{Report, Row};
use crate::change::number;

/// A table with a row for each callback, and what else was measured.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  {} kB  compiled in {}, started in {}",
        report.module,
        report.module_bytes.div_ceil(1000),
        time(report.compile_ns),
        time(report.start_ns)
    );
    let case = report.case.as_ref().map(|case| format!(" of case `{case}`")).unwrap_or_default();
    let _ = writeln!(text, "{}{case}, {} times\n", report.request, report.requests);
    let _ = writeln!(text, "{:<24}{:>8}{:>11}{:>11}{:>12}", "callback", "calls", "median", "p99", "host calls");
    for row in report.callbacks.iter().chain([&report.per_request]) {
        text.push_str(&line(row));
    }
    let _ = writeln!(
        text,
        "\nmemory   {} for each instance at start, {} after the run; each worker has one",
        memory(report.memory_at_start_bytes),
        memory(report.memory_after_bytes)
    );
    let _ = writeln!(
        text,
        "noise    the medians of ten slices of the run lie {} % apart; {} for the clock are taken off",
        report.spread_percent,
        time(report.clock_ns)
    );
    for (count, what) in [(report.answered, "answered by the filter"), (report.held, "held for good and given up")] {
        if count > 0 {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            let _ = writeln!(text, "note     {} {what}", number(count, "request"));
        }
    }
    if let Some(budget) = report.budget_ns {
        let kept = if report.is_over_budget() { "exceeded" } else { "kept" };
        let median = time(report.per_request.median_ns);
        let _ = writeln!(text, "budget   {} for the median of a request, {median}: {kept}", time(budget));
    }
    text
}

fn line(row: &Row) -> String {
    let Row { callback, calls, median_ns, p99_ns, host_calls } = row;
    let (median, p99) = (time(*median_ns), time(*p99_ns));
    format!("{callback:<24}{:>8}{median:>11}{p99:>11}{:>12}\n", short(*calls), short(*host_calls))
}

/// With a digit behind the point where it is no whole number.
fn short(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

/// Three digits and a unit.
fn time(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (nanos as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    match value {
        0.0..10.0 => format!("{value:.2} {unit}"),
        10.0..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

fn memory(bytes: u64) -> String {
    format!("{} kB", bytes.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_have_three_digits() {
        assert_eq!([7, 999, 1_000, 45_678, 999_499].map(time), ["7 ns", "999 ns", "1.00 us", "45.7 us", "999 us"]);
        assert_eq!(time(2_500_000_000), "2.50 s");
    }
}
