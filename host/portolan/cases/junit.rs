//! The report as JUnit's XML, which most CI systems read.

use std::fmt::Write;

use super::report::{self, Ran};

/// One suite.
pub(crate) fn render(suite: &str, ran: &[Ran<'_>]) -> String {
    let failed = ran.iter().filter(|ran| !ran.passed()).count();
    let seconds: f64 = ran.iter().map(|ran| ran.took.as_secs_f64()).sum();
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n".to_owned();
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" time=\"{seconds:.3}\">",
        escaped(suite),
        ran.len()
    );
    for one in ran {
        let at = one.places.of("name");
        let _ = write!(
            xml,
            "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
            escaped(suite),
            escaped(one.name),
            escaped(&at.file),
            at.line,
            one.took.as_secs_f64()
        );
        match one.differences.first() {
            None => xml.push_str("/>\n"),
            Some(first) => {
                let message = escaped(&format!("{}: expected {}, got {}", first.field, first.expected, first.got));
                let text = escaped(&report::text(one));
                let _ = writeln!(xml, ">\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>");
            }
        }
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Characters that XML has no form for are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
