//! [`PluginSettings`] and [`GatewaySettings`]: what the annotations `portolan.dev/...` of a WasmPlugin or
//! TrafficExtension, and of a Gateway, say beyond Istio's fields, and the check that those of a DestinationRule or
//! ServiceEntry ask for. Here alone these annotations are read.

mod gateway;
mod health_check;

use std::collections::BTreeMap;

use portolan_model::{Canary, PathMatch, PluginLimits, PluginMatch};
use serde::Deserialize;

pub(crate) use self::gateway::GatewaySettings;
pub(crate) use self::health_check::health_check;
use crate::duration;
use crate::hosts;
use crate::quantity::parse_bytes;
use crate::suggest;

/// What all annotations of ours begin with.
const PREFIX: &str = "portolan.dev/";

/// The annotations of a filter, without the prefix.
const KNOWN: [&str; 11] = [
    "allow-on-headers-stop-iteration",
    "buffer-limit",
    "callback-deadline",
    "callouts-in-flight",
    "canary",
    "cpu-per-second",
    "log-lines-per-second",
    "match",
    "memory-limit",
    "paused-deadline",
    "schema",
];

/// What the annotations say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PluginSettings {
    pub(crate) limits: PluginLimits,
    pub(crate) canary: Option<Canary>,
    pub(crate) headers_stop_iteration: bool,
    /// A file, relative to the YAML file's folder.
    pub(crate) schema: Option<String>,
    /// Which requests it sees; none for all.
    pub(crate) matches: Option<Vec<PluginMatch>>,
}

/// An annotation that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Path of the annotation in its object.
    pub(crate) path: String,
    pub(crate) message: String,
    /// What would be right.
    pub(crate) label: String,
    /// The annotation is not known: its key is wrong, not its value.
    pub(crate) is_unknown: bool,
    /// Line, column and length in the annotation's text; none for all of it.
    pub(crate) within: Option<(u32, u32, u32)>,
}

/// Reads the annotations of a filter. What is wrong is left at its default and told.
pub(crate) fn plugin_settings(annotations: &BTreeMap<String, String>) -> (PluginSettings, Vec<Fault>) {
    let mut settings = PluginSettings::default();
    let faults = read(annotations, &KNOWN, |name, value| take(&mut settings, name, value));
    (settings, faults)
}

/// Reads the annotations of a Gateway.
pub(crate) fn gateway_settings(annotations: &BTreeMap<String, String>) -> (GatewaySettings, Vec<Fault>) {
    let mut settings = GatewaySettings::default();
    let faults = read(annotations, &gateway::KNOWN, |name, value| settings.take(name, value));
    (settings, faults)
}

/// Hands each annotation of ours to `take`.
fn read(
    annotations: &BTreeMap<String, String>,
    known: &[&str],
    mut take: impl FnMut(&str, &str) -> Result<(), String>,
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let path = format!("metadata.annotations.{key}");
        if !known.contains(&name) {
            let near =
                suggest::nearest(name, known.iter().copied()).map(|near| format!("did you mean `{PREFIX}{near}`?"));
            let label = near.unwrap_or_else(|| format!("known: {}", known.join(", ")));
            faults.push(Fault {
                path,
                message: format!("unknown annotation `{key}`"),
                label,
                is_unknown: true,
                within: None,
            });
        } else if let Err(wants) = take(name, value.trim()) {
            let message = format!("annotation `{key}` cannot be used");
            faults.push(Fault { path, message, label: wants, is_unknown: false, within: None });
        }
    }
    faults
}

/// One annotation; the error tells what it wants.
fn take(settings: &mut PluginSettings, name: &str, value: &str) -> Result<(), String> {
    let limits = &mut settings.limits;
    match name {
        "memory-limit" => limits.memory_bytes = Some(bytes(value)?),
        "buffer-limit" => limits.buffer_bytes = Some(bytes(value)?),
        "callback-deadline" => limits.callback_deadline_ms = Some(time(value)?),
        "paused-deadline" => limits.paused_deadline_ms = Some(time(value)?),
        "cpu-per-second" => limits.cpu_per_second_ms = Some(time(value)?),
        "log-lines-per-second" => limits.log_lines_per_second = Some(count(value)?),
        "callouts-in-flight" => limits.callouts_in_flight = Some(count(value)?),
        "canary" => settings.canary = Some(canary(value)?),
        "schema" => settings.schema = Some(file(value)?),
        "allow-on-headers-stop-iteration" => settings.headers_stop_iteration = truth(value)?,
        _ => settings.matches = Some(matches(value)?),
    }
    Ok(())
}

fn bytes(value: &str) -> Result<u64, String> {
    let bytes = parse_bytes(value).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a number of bytes, e.g. `64Mi` or `500k`".to_owned())
}

fn time(value: &str) -> Result<u64, String> {
    duration::parse_ms(value).filter(|ms| *ms > 0).ok_or_else(|| "a duration, e.g. `100ms` or `15s`".to_owned())
}

fn count(value: &str) -> Result<u32, String> {
    value.parse().map_err(|_| "a whole number".to_owned())
}

fn truth(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| "`\"true\"` or `\"false\"`, in quotes".to_owned())
}

fn file(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("a file".to_owned()) } else { Ok(value.to_owned()) }
}

/// `10%`, `header NAME` or `header NAME=VALUE`.
fn canary(value: &str) -> Result<Canary, String> {
    let wants = || "`10%`, `header x-canary` or `header x-canary=yes`".to_owned();
    if let Some(percent) = value.strip_suffix('%') {
        let percent = percent.trim().parse::<u8>().ok().filter(|percent| (1..=100).contains(percent));
        return percent.map(Canary::Weight).ok_or_else(wants);
    }
    let header = value.strip_prefix("header ").ok_or_else(wants)?;
    let (name, value) = match header.split_once('=') {
        Some((name, value)) => (name, Some(value.trim().to_owned())),
        None => (header, None),
    };
    let name = name.trim().to_ascii_lowercase();
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(wants());
    }
    Ok(Canary::Header { name, value })
}

/// One entry of the annotation `match`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MatchEntry {
    hosts: Vec<String>,
    paths: Vec<PathEntry>,
    routes: Vec<String>,
    ports: Vec<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PathEntry {
    exact: Option<String>,
    prefix: Option<String>,
}

fn matches(value: &str) -> Result<Vec<PluginMatch>, String> {
    let entries: Vec<MatchEntry> = serde_yaml::from_str(value)
        .map_err(|error| format!("a list of {{hosts, paths: [{{prefix}} or {{exact}}], routes, ports}}: {error}"))?;
    if entries.is_empty() {
        return Err("at least one entry: an empty list would match nothing".to_owned());
    }
    entries.into_iter().map(entry).collect()
}

fn entry(entry: MatchEntry) -> Result<PluginMatch, String> {
    if let Some((host, fault)) = entry.hosts.iter().find_map(|host| Some((host, hosts::fault_of(host, true)?))) {
        return Err(format!("`{host}` is not a host name: {fault}"));
    }
    if entry.ports.contains(&0) {
        return Err("ports go from 1 to 65535".to_owned());
    }
    let paths: Result<_, _> = entry.paths.into_iter().map(path).collect();
    Ok(PluginMatch {
        ports: entry.ports,
        hosts: entry.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        paths: paths?,
        routes: entry.routes,
        objects: Vec::new(),
    })
}

fn path(entry: PathEntry) -> Result<PathMatch, String> {
    match (entry.exact, entry.prefix) {
        (Some(path), None) if path.starts_with('/') => Ok(PathMatch::Exact(path)),
        (None, Some(path)) if path.starts_with('/') => Ok(PathMatch::Prefix(path)),
        (Some(_), Some(_)) | (None, None) => Err("a path is either `{exact: /a}` or `{prefix: /a}`".to_owned()),
        _ => Err("a path begins with `/`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)]) -> (PluginSettings, Vec<Fault>) {
        let annotations = entries.iter().map(|(key, value)| (format!("{PREFIX}{key}"), (*value).to_owned()));
        plugin_settings(&annotations.collect())
    }

    #[test]
    fn limits_have_the_units_of_kubernetes() {
        let (settings, faults) = read(&[
            ("memory-limit", "64Mi"),
            ("buffer-limit", "1000"),
            ("callback-deadline", "50ms"),
            ("cpu-per-second", "200ms"),
            ("paused-deadline", "15s"),
            ("log-lines-per-second", "10"),
            ("callouts-in-flight", "4"),
        ]);
        let limits = PluginLimits {
            memory_bytes: Some(64 << 20),
            callback_deadline_ms: Some(50),
            cpu_per_second_ms: Some(200),
            buffer_bytes: Some(1000),
            log_lines_per_second: Some(10),
            callouts_in_flight: Some(4),
            paused_deadline_ms: Some(15_000),
        };
        assert_eq!((settings.limits, faults), (limits, vec![]));
    }

    #[test]
    fn a_canary_is_a_share_or_a_header() {
        let of = |text: &str| read(&[("canary", text)]).0.canary;
        assert_eq!(of("10%"), Some(Canary::Weight(10)));
        assert_eq!(of("header X-Canary"), Some(Canary::Header { name: "x-canary".into(), value: None }));
        let with_value = Canary::Header { name: "x-canary".into(), value: Some("yes".into()) };
        assert_eq!(of("header x-canary=yes"), Some(with_value));
        for bad in ["0%", "101%", "10", "header ", "header a b=c", ""] {
            assert_eq!(read(&[("canary", bad)]).1.len(), 1, "{bad}");
        }
    }

    #[test]
    fn matches_are_a_list_in_yaml() {
        let text = "[{hosts: [Shop.example.com], paths: [{prefix: /api}, {exact: /x}], ports: [80]}, {routes: [a]}]";
        let matches = read(&[("match", text)]).0.matches;
        let first = PluginMatch {
            ports: vec![80],
            hosts: vec!["shop.example.com".into()],
            paths: vec![PathMatch::Prefix("/api".into()), PathMatch::Exact("/x".into())],
            ..PluginMatch::default()
        };
        let second = PluginMatch { routes: vec!["a".into()], ..PluginMatch::default() };
        assert_eq!(matches, Some(vec![first, second]));
    }

    #[test]
    fn what_cannot_be_used_is_told_with_what_is_wanted() {
        for (key, value) in [
            ("memory-limit", "64MB"),
            ("memory-limit", "99999999999Gi"),
            ("callback-deadline", "50"),
            ("log-lines-per-second", "-1"),
            ("allow-on-headers-stop-iteration", "yes"),
            ("schema", ""),
            ("match", "[]"),
            ("match", "{hosts: [a]}"),
            ("match", "[{host: a}]"),
            ("match", "[{hosts: ['http://a']}]"),
            ("match", "[{paths: [{prefix: api}]}]"),
            ("match", "[{paths: [{}]}]"),
            ("match", "[{ports: [0]}]"),
        ] {
            let (settings, faults) = read(&[(key, value)]);
            assert_eq!((settings, faults.len()), (PluginSettings::default(), 1), "{key}: {value}");
            assert!(!faults[0].label.is_empty() && !faults[0].is_unknown, "{key}: {value}");
        }
    }

    #[test]
    fn unknown_annotations_of_ours_are_told_and_others_are_not() {
        let (_, faults) = read(&[("memory-limits", "1Mi")]);
        assert!(faults[0].is_unknown && faults[0].label.contains("portolan.dev/memory-limit"), "{faults:?}");
        let foreign = BTreeMap::from([("example.com/memory-limits".to_owned(), String::new())]);
        assert_eq!(plugin_settings(&foreign).1, []);
    }
}
