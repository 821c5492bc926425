//! Values as YAML that is pleasant to read: plain where that is the same text, else in quotes, long ones as blocks.

use std::fmt::Write;

/// Words that YAML's readers take for something else than text.
const TAKEN: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "none", "y"];

/// A text on one line.
pub(super) fn scalar(text: &str) -> String {
    if portolan_config::render::escape(text) != text {
        // JSON's strings are YAML's.
        return serde_json::Value::from(text).to_string();
    }
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// `KEY: TEXT`, indented by this many blanks; a text of several lines stands below its key.
pub(super) fn entry(out: &mut String, indent: usize, key: &str, text: &str) {
    let lines = text.strip_suffix('\n').unwrap_or(text);
    let fits = |line: &str| !line.chars().any(char::is_control) && !line.starts_with(' ') && !line.is_empty();
    let blanks = " ".repeat(indent);
    if lines.contains('\n') && lines.split('\n').all(fits) {
        let keep = if text.ends_with('\n') { "|" } else { "|-" };
        let _ = writeln!(out, "{blanks}{key}: {keep}");
        for line in lines.split('\n') {
            let _ = writeln!(out, "{blanks}  {line}");
        }
    } else {
        let _ = writeln!(out, "{blanks}{key}: {}", scalar(text));
    }
}

fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_taken = TAKEN.contains(&text.to_ascii_lowercase().as_str());
    begins && !is_taken && !text.contains(": ") && !text.contains(" #") && !text.ends_with([':', ' '])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use portolan_config::plain;

    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was() {
        let texts = [
            "a",
            "",
            " a ",
            "1",
            "1.5",
            "true",
            "No",
            "none",
            "~",
            "a: b",
            "a #b",
            "#",
            "- a",
            "it's",
            "\"q\"",
            "a\nb\n",
            "a\nb",
            "a\n\nb\n",
            " a\nb",
            "\n",
            "\t",
            "{a: 1}",
            "[1]",
            "é\u{202e}",
            "set_header(\"a\", \"b\")",
            "/a?b=c",
            "a\r\nb",
            "*x",
            "&x",
            "!x",
            "%x",
            "@x",
            "`x`",
            "2026-01-01",
            "0x1f",
            "key:",
        ];
        for text in texts {
            let mut out = String::new();
            entry(&mut out, 0, "a", text);
            let (read, findings) = plain::read::<std::collections::BTreeMap<String, String>>("a.yaml", &out, "a map");
            assert!(findings.is_empty(), "{out}: {findings:?}");
            assert_eq!(read[0].value["a"], text, "{out}");
        }
    }
}
