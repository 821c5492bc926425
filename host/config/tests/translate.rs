//! Golden tests: `NAME.in.yaml` is read and translated; `NAME.model.yaml` and `NAME.diagnostics.txt` hold what comes
//! out. `UPDATE=1` writes them anew.
//!
//! A line `# file: NAME` starts a new file; before the first the file is called `in.yaml`. The model is written without
//! what is empty, absent, unlimited or default, and each origin in one line.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's answer")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use portolan_config::translate::{TranslateOptions, translate};
use portolan_config::{ResourceSet, Sources, render_text};
use portolan_model::{Model, RetryPolicy};
use serde_yaml::Value;

#[test]
fn translations_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/translate");
    let mut inputs: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.retain(|path| path.to_string_lossy().ends_with(".in.yaml"));
    inputs.sort();
    assert!(inputs.len() > 10, "{} inputs", inputs.len());
    let mut wrong = String::new();
    for input in inputs {
        let (model, diagnostics) = outcome(&fs::read_to_string(&input).unwrap());
        let stem = input.to_string_lossy().trim_end_matches(".in.yaml").to_owned();
        compare(&format!("{stem}.model.yaml"), &model, &mut wrong);
        compare(&format!("{stem}.diagnostics.txt"), &diagnostics, &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE=1 writes them anew");
}

/// Model and findings of one input. Options stand in comments: `# label: k=v`, `# port-map: 80=8080`,
/// `# host-env: NAME=value`, `# namespace: NAME`. Workloads of endpoints are shown where a line `# workloads` asks for them.
fn outcome(text: &str) -> (String, String) {
    let sources = Sources::from_texts(files(text).iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let mut resources = ResourceSet::default();
    let mut diagnostics = resources.update(&sources);
    let mut translation = translate(&resources, &options(text));
    let again = translate(&resources, &options(text));
    assert_eq!(translation.model, again.model, "the same input gives the same model");
    diagnostics.append(&mut translation.diagnostics);
    if !text.lines().any(|line| line == "# workloads") {
        let endpoints = translation.model.clusters.iter_mut().flat_map(|cluster| &mut cluster.endpoints);
        endpoints.for_each(|endpoint| endpoint.workload = None);
    }
    (shown(&translation.model), render_text(&diagnostics, &sources, false))
}

fn files(text: &str) -> Vec<(String, String)> {
    let mut files = vec![("in.yaml".to_owned(), String::new())];
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("# file: ") {
            Some(name) => files.push((name.trim().to_owned(), String::new())),
            None => files.last_mut().unwrap().1.push_str(line),
        }
    }
    files.retain(|(_, text)| !text.trim().is_empty());
    files
}

fn options(text: &str) -> TranslateOptions {
    let mut options = TranslateOptions::default();
    for line in text.lines() {
        if let Some((name, value)) = line.strip_prefix("# label: ").and_then(|label| label.split_once('=')) {
            options.labels.insert(name.to_owned(), value.to_owned());
        }
        if let Some(locality) = line.strip_prefix("# locality: ") {
            options.locality = locality.to_owned();
        }
        if let Some((from, to)) = line.strip_prefix("# port-map: ").and_then(|map| map.split_once('=')) {
            options.port_map.push((from.parse().unwrap(), to.parse().unwrap()));
        }
        if let Some(name) = line.strip_prefix("# namespace: ") {
            options.namespace = name.to_owned();
        }
        if let Some((name, value)) = line.strip_prefix("# host-env: ").and_then(|env| env.split_once('=')) {
            options.host_env.insert(name.to_owned(), Some(value.to_owned()));
        }
    }
    options
}

fn compare(path: &str, actual: &str, wrong: &mut String) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if let Some((line, (want, got))) = lines(&expected).zip(lines(actual)).enumerate().find(|(_, (a, b))| a != b) {
        let _ = writeln!(wrong, "{path}:{}: wants {want:?}, got {got:?}", line + 1);
    }
}

/// Lines, then nothing for ever: a shorter text differs too.
fn lines(text: &str) -> impl Iterator<Item = Option<&str>> {
    text.lines().map(Some).chain(std::iter::repeat(None)).take(10_000)
}

fn shown(model: &Model) -> String {
    let value = compact(serde_yaml::to_value(model).unwrap()).unwrap_or(Value::Null);
    serde_yaml::to_string(&value).unwrap()
}

/// The value without what says nothing; none when nothing is left.
fn compact(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Number(number) if number.as_u64() == Some(u64::from(u32::MAX)) => None,
        Value::Sequence(items) if items.is_empty() => None,
        // An item that says nothing keeps its place in the list.
        Value::Sequence(items) => {
            let keep = |item: Value| compact(item.clone()).unwrap_or(item);
            Some(Value::Sequence(items.into_iter().map(keep).collect()))
        }
        Value::Mapping(map) if is_origin(&map) => Some(origin(&map)),
        Value::Mapping(map) if serde_yaml::to_value(RetryPolicy::default()).unwrap() == Value::Mapping(map.clone()) => {
            None
        }
        Value::Mapping(map) => {
            let kept = map.into_iter().filter_map(|(key, value)| Some((key, compact(value)?)));
            let kept: serde_yaml::Mapping = kept.collect();
            (!kept.is_empty()).then_some(Value::Mapping(kept))
        }
        Value::Tagged(tagged) => {
            let serde_yaml::value::TaggedValue { tag, value } = *tagged;
            let value = compact(value.clone()).unwrap_or(value);
            Some(Value::Tagged(Box::new(serde_yaml::value::TaggedValue { tag, value })))
        }
        other => Some(other),
    }
}

fn is_origin(map: &serde_yaml::Mapping) -> bool {
    map.len() == 5 && ["kind", "name", "file", "line", "column"].iter().all(|key| map.contains_key(*key))
}

fn origin(map: &serde_yaml::Mapping) -> Value {
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |key: &str| map.get(key).and_then(Value::as_u64).unwrap_or_default();
    let place = format!("{}:{}:{}", text("file"), number("line"), number("column"));
    Value::String(format!("{} {} {place}", text("kind"), text("name")))
}
