//! Diagnostics as text with the user's line, as JSON, and as annotations of GitHub.
//!
//! What users wrote may be hostile: control characters never reach a terminal, and lines of Secrets are not quoted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::source::Sources;

/// Number of the form of [`render_json`]; grows when a reader would have to change.
pub const JSON_SCHEMA: u32 = 1;

/// A longer line is not quoted, in bytes.
const MAX_LINE: usize = 2000;

/// As rustc does: what, where, the line with a caret, and help.
pub fn render_text(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut quotes = Quotes { sources, lines: HashMap::new() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&renderer.render(&[group(diagnostic, &mut quotes)]));
        out.push('\n');
    }
    out
}

/// One object with `schema`, the number of files, of errors, warnings and notes, and `diagnostics`.
pub fn render_json(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let findings = diagnostics.iter().map(|diagnostic| {
        let Place { file, line, column, length } = &diagnostic.place;
        json!({
            "severity": diagnostic.severity,
            "code": diagnostic.code,
            "message": diagnostic.message,
            "file": file,
            "line": line,
            "column": column,
            "length": length,
            "label": diagnostic.label,
            "help": diagnostic.help,
        })
    });
    let report = json!({
        "schema": JSON_SCHEMA,
        "files": sources.files().len(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "notes": count(Severity::Note),
        "diagnostics": findings.collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

/// Workflow commands of GitHub, one a line, which its pages show beside the lines of a change.
pub fn render_github(diagnostics: &[Diagnostic], _sources: &Sources) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let command = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let Place { file, line, column, .. } = &diagnostic.place;
        let mut message = diagnostic.message.clone();
        for extra in [&diagnostic.label, &diagnostic.help].into_iter().flatten() {
            message.push_str("; ");
            message.push_str(extra);
        }
        let (file, title, message) = (github_value(file), diagnostic.code, github_text(&message));
        // Writing to a String cannot fail.
        writeln!(out, "::{command} file={file},line={line},col={column},title={title}::{message}").ok();
    }
    out
}

/// Text without control characters and without those that turn the direction of writing.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn group<'a>(diagnostic: &'a Diagnostic, quotes: &mut Quotes<'a>) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = level.primary_title(escape(&diagnostic.message)).id(diagnostic.code);
    let Place { file, line, column, .. } = &diagnostic.place;
    let path = escape(file);
    let label = diagnostic.label.as_deref().map(escape);
    let mut group = match quotes.line(&diagnostic.place) {
        Some(quoted) => {
            let span = span(&quoted, &diagnostic.place);
            let snippet = Snippet::source(quoted).path(path).line_start(index(*line));
            title.element(snippet.annotation(AnnotationKind::Primary.span(span).label(label)))
        }
        None => {
            let group = title.element(Origin::path(path).line(index(*line)).char_column(index(*column)));
            group.elements(label.map(|label| Level::NOTE.message(label)))
        }
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(escape(help)));
    }
    group
}

/// Lines of the files, each file split once.
struct Quotes<'a> {
    sources: &'a Sources,
    lines: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Quotes<'a> {
    /// The user's line, with harmful characters replaced one by one so that columns stay.
    fn line(&mut self, place: &'a Place) -> Option<String> {
        let text = self.sources.text(&place.file)?;
        let lines = self.lines.entry(&place.file).or_insert_with(|| text.lines().collect());
        let number = index(place.line).saturating_sub(1);
        let line = lines.get(number).copied().unwrap_or_default();
        if line.len() > MAX_LINE || is_in_secret(lines, number) {
            return None;
        }
        Some(line.chars().map(|c| if is_harmful(c) && c != '\t' { '\u{fffd}' } else { c }).collect())
    }
}

/// Whether the document around a line has a line `kind: Secret`, in YAML or JSON.
fn is_in_secret(lines: &[&str], number: usize) -> bool {
    let (above, below) = lines.split_at(number.min(lines.len()));
    let is_marker = |line: &&&str| line.starts_with("---");
    let mut above = above.iter().rev().take_while(|line| !is_marker(line));
    let mut below = below.iter().enumerate().take_while(|(at, line)| *at == 0 || !is_marker(line));
    above.any(|line| names_secret(line)) || below.any(|(_, line)| names_secret(line))
}

fn names_secret(line: &str) -> bool {
    let Some((_, value)) = line.split_once("kind") else { return false };
    value.trim_start_matches(['"', '\'', ' ', ':', '\t']).starts_with("Secret")
}

/// Bytes of a place within its line; at the end of the line at least.
fn span(line: &str, place: &Place) -> std::ops::Range<usize> {
    let at = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = index(place.column).saturating_sub(1);
    at(start)..at(start.saturating_add(index(place.length)))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn github_text(text: &str) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    escape(&text).into_owned()
}

fn github_value(text: &str) -> String {
    github_text(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;

    const ESCAPE: char = char::from_u32(27).unwrap();
    const TEXT: &str = "kind: VirtualService\nspec:\n  hosst: [\"\u{1b}[31mé\"]\n  subset: v3\n";

    fn place(line: u32, column: u32, length: u32) -> Place {
        Place { file: "a.yaml".into(), line, column, length }
    }

    fn findings() -> Vec<Diagnostic> {
        vec![
            Diagnostic::error("P0204", place(4, 11, 2), "subset `v3` is not defined")
                .with_label("known subsets: v1, v2")
                .with_help("did you mean `v2`?"),
            Diagnostic::warning("P0310", place(3, 3, 5), "odd \u{1b}[31m text\nof two lines, 100 %"),
            Diagnostic::error("P0001", place(5, 1, 1), "did not find expected key"),
            Diagnostic::error("P0008", Place { file: "gone,x.yaml".into(), ..place(1, 1, 1) }, "cannot read: gone"),
        ]
    }

    #[test]
    fn text_quotes_the_line_with_a_caret() {
        let sources = Sources::from_texts([("a.yaml", TEXT)]);
        assert_snapshot!(render_text(&findings(), &sources, false), @r#"
        error[P0204]: subset `v3` is not defined
         --> a.yaml:4:11
          |
        4 |   subset: v3
          |           ^^ known subsets: v1, v2
          |
          = help: did you mean `v2`?
        warning[P0310]: odd \u{1b}[31m text\nof two lines, 100 %
         --> a.yaml:3:3
          |
        3 |   hosst: ["�[31mé"]
          |   ^^^^^
        error[P0001]: did not find expected key
         --> a.yaml:5:1
          |
        5 |
          | ^
        error[P0008]: cannot read: gone
        --> gone,x.yaml:1:1
        "#);
    }

    #[test]
    fn json_has_a_schema_number() {
        let sources = Sources::from_texts([("a.yaml", TEXT)]);
        assert_snapshot!(render_json(&findings()[..1], &sources), @r#"
        {
          "diagnostics": [
            {
              "code": "P0204",
              "column": 11,
              "file": "a.yaml",
              "help": "did you mean `v2`?",
              "label": "known subsets: v1, v2",
              "length": 2,
              "line": 4,
              "message": "subset `v3` is not defined",
              "severity": "error"
            }
          ],
          "errors": 1,
          "files": 1,
          "notes": 0,
          "schema": 1,
          "warnings": 0
        }
        "#);
    }

    #[test]
    fn github_gets_one_line_for_each() {
        assert_snapshot!(render_github(&findings(), &Sources::default()), @r"
        ::error file=a.yaml,line=4,col=11,title=P0204::subset `v3` is not defined; known subsets: v1, v2; did you mean `v2`?
        ::warning file=a.yaml,line=3,col=3,title=P0310::odd \u{1b}[31m text%0Aof two lines, 100 %25
        ::error file=a.yaml,line=5,col=1,title=P0001::did not find expected key
        ::error file=gone%2Cx.yaml,line=1,col=1,title=P0008::cannot read: gone
        ");
    }

    #[test]
    fn lines_of_secrets_are_not_quoted() {
        let text = "kind: Service\n---\nkind: \"Secret\"\ndata: {a: hunter2}\n";
        let sources = Sources::from_texts([("a.yaml", text)]);
        let render = |line| render_text(&[Diagnostic::error("P0002", place(line, 1, 1), "x")], &sources, false);
        assert!(!render(4).contains("hunter2"));
        assert!(render(1).contains("kind: Service"));
    }

    #[test]
    fn colors_are_given_on_demand_only() {
        let sources = Sources::from_texts([("a.yaml", TEXT)]);
        assert!(!render_text(&findings(), &sources, false).contains('\u{1b}'));
        assert!(render_text(&findings(), &sources, true).contains("\u{1b}["));
    }

    proptest! {
        #[test]
        fn any_place_in_any_text_renders(text in "(?s).{0,80}", line in 1u32..9, column in 1u32..90, length in 1u32..90) {
            let sources = Sources::from_texts([("a.yaml", text.as_str())]);
            let rendered = render_text(&[Diagnostic::error("P0001", place(line, column, length), text.clone())], &sources, false);
            prop_assert!(rendered.starts_with("error[P0001]"));
            let has_escape = rendered.contains(ESCAPE);
            prop_assert!(!has_escape);
        }
    }
}
