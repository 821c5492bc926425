//! `portolan filter test --record`: sends a request through the filter and writes what comes of it as a case.
//!
//! It is sent twice, through a gateway of its own each time: what is not the same both times (ids, times, ports) is left
//! open in the case.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use portolan_config::plain;

use super::runner::{Ended, Runner};
use super::yaml;
use crate::args::TestArgs;
use crate::filter::case::{Answer, Case, Content, Headers, Peer, Request};
use crate::filter::compare::{Call, Lines, Observed, Seen, value};
use crate::filter::target::Target;
use crate::{UsageError, output, run};

/// Headers that the gateway, or HTTP, adds by itself.
const NOT_THE_FILTERS: [&str; 14] = [
    "host",
    "date",
    "content-length",
    "transfer-encoding",
    "connection",
    "trailer",
    "te",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "server",
    "x-envoy-attempt-count",
    "x-envoy-upstream-service-time",
];

/// Whether a header is none of the filter's, and none of the client's that means something to a filter.
pub(in crate::filter) fn is_of_the_gateway(name: &str) -> bool {
    NOT_THE_FILTERS.contains(&name)
}

/// What the recording's upstream answers.
const ANSWER: &str = "hello from the upstream\n";

/// Refuses a name whose file is there already, before anything is built.
pub(super) fn check(folder: &Path, name: &str) -> anyhow::Result<()> {
    let file = file_of(folder, name)?;
    if file.exists() {
        return Err(UsageError(format!("`{}` is there already, and nothing is overwritten", file.display())).into());
    }
    Ok(())
}

/// `tests/NAME.test.yaml`, with `-` for what is neither letter nor digit.
fn file_of(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let lower = name.to_lowercase();
    let words: Vec<_> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(UsageError(format!("`{name}` is no name for a case")).into());
    }
    Ok(folder.join("tests").join(format!("{}.test.yaml", words.join("-"))))
}

/// Sends, compares, writes.
pub(super) fn record(target: &Target, name: &str, args: &TestArgs) -> anyhow::Result<ExitCode> {
    let case = asked(name, args)?;
    let runner = Runner::new(target)?;
    let text = run::runtime()?.block_on(async {
        let first = through(&runner, &case).await?;
        let second = through(&runner, &case).await?;
        let text = written(&case, &first, &second);
        // Whoever finds it must find it passing.
        let (mut read, findings) = plain::read::<Case>("recorded case", &text, "a test case");
        if let Some(finding) = findings.first() {
            bail!("what was recorded cannot be read back: {}", finding.message);
        }
        let again = read.pop().context("what was recorded cannot be read back")?;
        let ran = runner.run(&again).await?;
        match ran.differences.first() {
            None => Ok(text),
            Some(first) => {
                bail!(
                    "the filter does not do the same each time: `{}` was {}, then {}",
                    first.field,
                    first.expected,
                    first.got
                )
            }
        }
    })?;
    let file = file_of(&target.folder, name)?;
    create(&file, &text)?;
    let shown = file.strip_prefix(".").unwrap_or(&file);
    output::answer(&format!("recorded {}\n", shown.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// A file that appears meanwhile stays as it is.
fn create(file: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", file.display());
    fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).with_context(cannot)?;
    let mut created = File::create_new(file).with_context(cannot)?;
    created.write_all(text.as_bytes()).with_context(cannot)
}

/// The request of the command line.
fn asked(name: &str, args: &TestArgs) -> anyhow::Result<Case> {
    let url = args.url.as_deref().unwrap_or("/");
    let (host, path) = match url.split_once("://") {
        None => (None, url.to_owned()),
        Some((_, rest)) => match rest.find(['/', '?']) {
            Some(at) if rest[at..].starts_with('/') => (Some(&rest[..at]), rest[at..].to_owned()),
            Some(at) => (Some(&rest[..at]), format!("/{}", &rest[at..])),
            None => (Some(rest), "/".to_owned()),
        },
    };
    let named = args.headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
    let headers = args.headers.iter().filter(|(name, _)| name != "host").cloned().collect();
    let body = args.data.as_ref().map(|data| Content { bytes: data.as_bytes().to_vec(), is_json: false });
    let default = Request::default();
    let method = args.method.clone().unwrap_or_else(|| if body.is_some() { "POST".to_owned() } else { default.method });
    let host = named.or(host).map_or(default.host, str::to_owned);
    let request = Request { method, path, host, headers: Headers(headers), body, trailers: default.trailers };
    let answer = Answer {
        headers: Headers(vec![("content-type".to_owned(), "text/plain".to_owned())]),
        body: Some(Content { bytes: ANSWER.as_bytes().to_vec(), is_json: false }),
        ..Answer::default()
    };
    let (upstream, config) = (Peer::Answers(answer), args.plugin_config.clone());
    let case = Case { name: name.to_owned(), config, request, upstream, ..Case::default() };
    // The command line's mistakes are those of a case.
    if let Some(wrong) = crate::filter::case::first_mistake(&case.request) {
        return Err(UsageError(wrong).into());
    }
    Ok(case)
}

async fn through(runner: &Runner<'_>, case: &Case) -> anyhow::Result<Observed> {
    match runner.observe(case).await? {
        Ended::Observed(observed) => Ok(*observed),
        Ended::Refused(reason) => bail!("the filter does not start: {reason}"),
    }
}

/// The case as a document.
pub(super) fn written(case: &Case, first: &Observed, second: &Observed) -> String {
    let mut out = "# Recorded by `portolan filter test --record`.\n".to_owned();
    yaml::entry(&mut out, 0, "name", &case.name);
    if let Some(config) = &case.config {
        // JSON is YAML.
        let _ = writeln!(out, "config: {config}");
    }
    request(&mut out, &case.request);
    if let Peer::Answers(answer) = &case.upstream
        && !first.arrived.is_empty()
    {
        upstream(&mut out, answer);
    }
    out.push_str("expect:\n");
    match (first.arrived.last(), second.arrived.last()) {
        (Some(seen), Some(again)) => arrived(&mut out, &case.request, seen, again),
        _ => out.push_str("  request: none\n"),
    }
    response(&mut out, case, first, second);
    calls(&mut out, first, second);
    out
}

fn request(out: &mut String, request: &Request) {
    let default = Request::default();
    out.push_str("request:\n");
    if request.method != default.method {
        yaml::entry(out, 2, "method", &request.method);
    }
    if request.host != default.host {
        yaml::entry(out, 2, "host", &request.host);
    }
    yaml::entry(out, 2, "path", &request.path);
    headers(out, 2, &request.headers.0);
    if let Some(body) = &request.body {
        yaml::entry(out, 2, "body", &String::from_utf8_lossy(&body.bytes));
    }
}

fn upstream(out: &mut String, answer: &Answer) {
    let _ = writeln!(out, "upstream:\n  status: {}", answer.status);
    headers(out, 2, &answer.headers.0);
    if let Some(body) = &answer.body {
        yaml::entry(out, 2, "body", &String::from_utf8_lossy(&body.bytes));
    }
}

/// Of a name that stands twice all values, as a list of pairs.
fn headers(out: &mut String, indent: usize, lines: &Lines) {
    let blanks = " ".repeat(indent);
    let names: BTreeSet<_> = lines.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "{blanks}headers:");
    for (name, value) in lines {
        if names.len() == lines.len() {
            yaml::entry(out, indent + 2, name, value);
        } else {
            let _ = writeln!(out, "{blanks}  - [{}, {}]", quoted(name), quoted(value));
        }
    }
}

/// Within a list in brackets.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What the filter has made of the request.
fn arrived(out: &mut String, sent: &Request, seen: &Seen, again: &Seen) {
    out.push_str("  request:\n");
    yaml::entry(out, 4, "method", &seen.method);
    if seen.path == again.path {
        yaml::entry(out, 4, "path", &seen.path);
    }
    changed(out, &sent.headers.0, &seen.headers, &again.headers);
    let body = sent.body.as_ref().map(|body| body.bytes.as_slice()).unwrap_or_default();
    if seen.body != body || !body.is_empty() {
        content(out, &seen.body, &again.body);
    }
}

fn response(out: &mut String, case: &Case, first: &Observed, second: &Observed) {
    let (Ok(got), Ok(again)) = (&first.response, &second.response) else { return };
    out.push_str("  response:\n");
    if got.status == again.status {
        let _ = writeln!(out, "    status: {}", got.status);
    }
    let nothing = Headers::default();
    let before = match &case.upstream {
        Peer::Answers(answer) if !first.arrived.is_empty() => &answer.headers,
        _ => &nothing,
    };
    changed(out, &before.0, &got.headers, &again.headers);
    content(out, &got.body, &again.body);
}

/// Headers that are other than before, and those that are gone.
fn changed(out: &mut String, before: &Lines, after: &Lines, again: &Lines) {
    let names: BTreeSet<_> = before.iter().chain(after).map(|(name, _)| name.to_ascii_lowercase()).collect();
    let mut is_first = true;
    for name in names.iter().filter(|name| !is_of_the_gateway(name)) {
        let (was, is, then) = (value(before, name), value(after, name), value(again, name));
        if was == is && is == then {
            continue;
        }
        if std::mem::take(&mut is_first) {
            out.push_str("    headers:\n");
        }
        match (&is, &then) {
            (Some(is), Some(then)) if is == then => yaml::entry(out, 6, name, is),
            (None, None) => {
                let _ = writeln!(out, "      {name}: {{present: false}}");
            }
            (Some(_), Some(_)) => {
                let _ = writeln!(out, "      {name}: {{present: true}}");
            }
            _ => {}
        }
    }
}

fn content(out: &mut String, body: &[u8], again: &[u8]) {
    if body != again {
        return;
    }
    match std::str::from_utf8(body) {
        Ok(text) => yaml::entry(out, 4, "body", text),
        Err(_) => {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(body);
            let _ = writeln!(out, "    body: {{base64: {text}}}");
        }
    }
}

/// The calls, if they are the same ones both times.
fn calls(out: &mut String, first: &Observed, second: &Observed) {
    let of = |observed: &Observed| -> Vec<Call> {
        observed.trace.iter().flat_map(|traced| traced.calls.iter().cloned()).collect()
    };
    let (first, second) = (of(first), of(second));
    let name = |call: &Call| call.head.split('(').next().unwrap_or_default().to_owned();
    if first.is_empty() || !first.iter().map(name).eq(second.iter().map(name)) {
        return;
    }
    out.push_str("  calls:\n");
    for (call, again) in first.iter().zip(&second) {
        let _ = writeln!(out, "    - {}", yaml::scalar(&same(&call.whole, &again.whole)));
    }
}

/// A text that stands for both: `...` where they part.
fn same(a: &str, b: &str) -> String {
    if a == b {
        return a.to_owned();
    }
    let ahead = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect::<String>();
    let (a, b) = (&a[ahead.len()..], &b[ahead.len()..]);
    let behind =
        a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum::<usize>();
    // A part of an id that happens to be the same would not be the next time.
    let ahead = ahead.trim_end_matches(|c: char| c.is_alphanumeric() || c == '-');
    let behind = a[a.len() - behind..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '-');
    format!("{ahead}...{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_left_open_as_a_whole_word() {
        assert_eq!(same("a(\"x\") = \"1f-2a\"", "a(\"x\") = \"1f-3a\""), "a(\"x\") = \"...\"");
        assert_eq!(same("t() = 1000", "t() = 1001"), "t() = ...");
        assert_eq!(same("a(\"é1\")", "a(\"é2\")"), "a(\"...\")");
        assert_eq!(same("a()", "a()"), "a()");
    }
}
