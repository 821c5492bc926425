//! [`read`]: the text of one object into the type of its kind, with every unknown field told.
//!
//! The text is parsed straight into the type. serde's ways of choosing a type while parsing (`tag`, `untagged`,
//! `flatten`) buffer the document and lose every line number.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::kind::{Kind, Resource};
use crate::known::{Step, known_fields, nearest};
use crate::locate::{push_index, push_key};
use crate::object::{Meta, Object, Places};
use crate::resource_set::ActiveObject;
use crate::resources::Unread;
use crate::resources::core::{ConfigMap, EndpointSlice, Endpoints, Namespace, Pod, Secret, Service};
use crate::resources::istio::{
    AuthorizationPolicy, DestinationRule, Gateway, IstioOperator, RequestAuthentication, ServiceEntry, Telemetry,
    TrafficExtension, VirtualService, WasmPlugin, WorkloadEntry,
};
use crate::validate::dry_run;

/// One object's text and places.
pub(crate) struct Raw<'a> {
    pub(crate) text: &'a str,
    /// Line in the file of the text's first line.
    pub(crate) first_line: u32,
    pub(crate) places: Arc<Places>,
    /// Its keys were found wrong already, which explains errors of serde's.
    pub(crate) has_findings: bool,
    /// No value of it may be told.
    pub(crate) is_secret: bool,
}

/// Reads an object of a kind; none when it is invalid, and then the diagnostics say why.
pub(crate) fn read(kind: Kind, raw: &Raw<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<ActiveObject> {
    let read = match kind {
        Kind::Gateway => read_as::<Gateway>,
        Kind::VirtualService => read_as::<VirtualService>,
        Kind::DestinationRule => read_as::<DestinationRule>,
        Kind::ServiceEntry => read_as::<ServiceEntry>,
        Kind::WorkloadEntry => read_as::<WorkloadEntry>,
        Kind::WasmPlugin => read_as::<WasmPlugin>,
        Kind::TrafficExtension => read_as::<TrafficExtension>,
        Kind::IstioOperator => read_as::<IstioOperator>,
        Kind::Service => read_as::<Service>,
        Kind::Endpoints => read_as::<Endpoints>,
        Kind::EndpointSlice => read_as::<EndpointSlice>,
        Kind::Pod => read_as::<Pod>,
        Kind::Namespace => read_as::<Namespace>,
        Kind::Secret => read_as::<Secret>,
        Kind::Telemetry => read_as::<Telemetry>,
        Kind::RequestAuthentication => read_as::<RequestAuthentication>,
        Kind::AuthorizationPolicy => read_as::<AuthorizationPolicy>,
        Kind::ConfigMap => read_as::<ConfigMap>,
    };
    read(raw, diagnostics)
}

/// Reads an object that is no resource, with every field that `T` does not name told as one of `what`.
pub(crate) fn read_plain<T: DeserializeOwned>(
    what: &str,
    raw: &Raw<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let (read, unknown) = parse::<T>(raw.text);
    diagnostics.extend(unknown.iter().map(|path| unknown_field::<T>(path, what, &raw.places)));
    told(read, raw, diagnostics)
}

/// The YAML parser's own opinion of a text; none when it has nothing against it.
pub(crate) fn syntax_error(text: &str, first_line: u32, file: &Arc<str>) -> Option<Diagnostic> {
    let error = serde_yaml::from_str::<Unread>(text).err()?;
    let place = place_of(&error, first_line, file);
    Some(Diagnostic::error("P0001", place, with_true_lines(&error.to_string(), first_line)))
}

fn read_as<T: Resource>(raw: &Raw<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<ActiveObject> {
    let (metadata, mut spec) =
        if T::IS_SPEC { read_spec::<T>(raw, diagnostics) } else { read_bare::<T>(raw, diagnostics) }?;
    spec.shrink();
    let object = Object { meta: Arc::new(metadata.into_meta(T::KIND)), spec, places: raw.places.clone() };
    let mut findings = T::validate(&object);
    findings.extend(dry_run::misplaced(&object, T::KIND));
    let is_valid = findings.iter().all(|finding| finding.severity != Severity::Error);
    diagnostics.extend(findings);
    is_valid.then(|| Arc::new(object) as ActiveObject)
}

/// An object whose fields stand below `spec`.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", bound = "T: Resource")]
struct WithSpec<T: Resource> {
    #[serde(rename = "apiVersion")]
    _api_version: Unread,
    #[serde(rename = "kind")]
    _kind: Unread,
    metadata: Metadata,
    spec: Option<T>,
    #[serde(rename = "status")]
    _status: Unread,
}

impl<T: Resource> Default for WithSpec<T> {
    fn default() -> Self {
        Self { _api_version: Unread, _kind: Unread, metadata: Metadata::default(), spec: None, _status: Unread }
    }
}

fn read_spec<T: Resource>(raw: &Raw<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<(Metadata, T)> {
    let (read, unknown) = parse::<WithSpec<T>>(raw.text);
    if T::KIND.knows_its_fields() {
        diagnostics.extend(unknown.iter().map(|path| unknown_field::<WithSpec<T>>(path, T::KIND.name(), &raw.places)));
    }
    let WithSpec { metadata, spec, .. } = told(read, raw, diagnostics)?;
    Some((metadata, spec.unwrap_or_default()))
}

/// The part of an object without `spec` that all kinds share.
#[derive(Default, Deserialize)]
#[serde(default)]
struct OnlyMetadata {
    metadata: Metadata,
}

fn read_bare<T: Resource>(raw: &Raw<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<(Metadata, T)> {
    let is_shared = |path: &&Vec<Step>| matches!(path.as_slice(), [Step::Key(key)] if matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
    let is_below_metadata = |path: &&Vec<Step>| path.len() > 1 && path[0] == Step::Key("metadata".to_owned());
    let (metadata, unknown) = parse::<OnlyMetadata>(raw.text);
    let of_metadata = unknown.iter().filter(is_below_metadata);
    diagnostics.extend(of_metadata.map(|path| unknown_field::<OnlyMetadata>(path, T::KIND.name(), &raw.places)));
    let metadata = told(metadata, raw, diagnostics)?;
    let (object, unknown) = parse::<T>(raw.text);
    if T::KIND.knows_its_fields() {
        let of_object = unknown.iter().filter(|path| !is_shared(path));
        diagnostics.extend(of_object.map(|path| unknown_field::<T>(path, T::KIND.name(), &raw.places)));
    }
    Some((metadata.metadata, told(object, raw, diagnostics)?))
}

/// `metadata`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<String>,
    #[serde(rename = "generateName")]
    _generate_name: Unread,
    #[serde(rename = "generation")]
    _generation: Unread,
    #[serde(rename = "uid")]
    _uid: Unread,
    #[serde(rename = "resourceVersion")]
    _resource_version: Unread,
    #[serde(rename = "selfLink")]
    _self_link: Unread,
    #[serde(rename = "deletionTimestamp")]
    _deletion_timestamp: Unread,
    #[serde(rename = "deletionGracePeriodSeconds")]
    _deletion_grace_period_seconds: Unread,
    #[serde(rename = "ownerReferences")]
    _owner_references: Unread,
    #[serde(rename = "finalizers")]
    _finalizers: Unread,
    #[serde(rename = "managedFields")]
    _managed_fields: Unread,
}

impl Metadata {
    fn into_meta(self, kind: Kind) -> Meta {
        Meta {
            kind: kind.name(),
            namespace: self.namespace.filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned()),
            name: self.name,
            labels: self.labels.unwrap_or_default(),
            annotations: self.annotations.unwrap_or_default(),
            creation_timestamp: self.creation_timestamp.unwrap_or_default(),
        }
    }
}

/// Parses, and lists the path of each field that no type names.
fn parse<D: DeserializeOwned>(text: &str) -> (Result<D, serde_yaml::Error>, Vec<Vec<Step>>) {
    let mut unknown = Vec::new();
    let deserializer = serde_yaml::Deserializer::from_str(text);
    let read = serde_ignored::deserialize(deserializer, |path| unknown.push(steps(&path)));
    (read, unknown)
}

fn steps(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    let (parent, step) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(Step::Item(*index))),
        Path::Map { parent, key } => (parent, Some(Step::Key(key.clone()))),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut steps = steps(parent);
    steps.extend(step);
    steps
}

fn unknown_field<D: DeserializeOwned>(path: &[Step], root: &str, places: &Places) -> Diagnostic {
    let (last, parent) = path.split_last().map_or(("", path), |(last, parent)| match last {
        Step::Key(key) => (key.as_str(), parent),
        Step::Item(_) => ("", parent),
    });
    let message = format!("unknown field `{last}` in {}", dotted(root, parent));
    let diagnostic = Diagnostic::error("P0007", places.of_key(&dotted("", path)), message);
    let known = known_fields::<D>(parent).unwrap_or_default();
    match nearest(last, known.iter().copied()) {
        Some(known) => diagnostic.with_help(format!("did you mean `{known}`?")),
        None if (1..=12).contains(&known.len()) => diagnostic.with_label(format!("known fields: {}", known.join(", "))),
        None => diagnostic,
    }
}

fn dotted(root: &str, steps: &[Step]) -> String {
    let mut path = root.to_owned();
    for step in steps {
        match step {
            Step::Key(key) => push_key(&mut path, key),
            Step::Item(index) => push_index(&mut path, *index),
        }
    }
    path
}

/// The value, or its error told.
fn told<D>(read: Result<D, serde_yaml::Error>, raw: &Raw<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<D> {
    let error = match read {
        Ok(value) => return Some(value),
        Err(error) => error,
    };
    if !(raw.has_findings && error.to_string().contains("duplicate field")) {
        let syntax = syntax_error(raw.text, raw.first_line, raw.places.file());
        diagnostics.push(syntax.unwrap_or_else(|| type_error(&error, raw)));
    }
    None
}

fn type_error(error: &serde_yaml::Error, raw: &Raw<'_>) -> Diagnostic {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let (path, problem) = match text.split_once(": ") {
        Some((path, problem)) if raw.places.has(path) => (path, problem),
        _ => ("", text),
    };
    let place = match path {
        "" => place_of(error, raw.first_line, raw.places.file()),
        path => raw.places.of(path),
    };
    // serde quotes what it found, which must not come into a log when it is a key.
    let problem = match Problem(problem).to_string().split_once(", found ") {
        Some((expected, _)) if raw.is_secret => format!("{expected}, found something else"),
        _ if raw.is_secret => "not of the expected type".to_owned(),
        _ => Problem(problem).to_string(),
    };
    if let Some((field, known)) = refused_field(&problem) {
        return refused(field, &known, path, &raw.places);
    }
    let message = if path.is_empty() { problem } else { format!("`{path}`: {problem}") };
    let diagnostic = Diagnostic::error("P0002", place, message);
    match text.ends_with("expected a boolean") {
        true => diagnostic.with_help("booleans are `true` and `false`"),
        false => diagnostic,
    }
}

/// The field that a type with `deny_unknown_fields` refuses, and those that it has, out of serde's message. Types which
/// can be written in several forms refuse fields so: what is behind a choice is hidden from [`known_fields`].
fn refused_field(problem: &str) -> Option<(&str, Vec<&str>)> {
    let (field, known) = problem.strip_prefix("unknown field `")?.split_once('`')?;
    let known = known.split('`').skip(1).step_by(2);
    Some((field, known.collect()))
}

fn refused(field: &str, known: &[&str], path: &str, places: &Places) -> Diagnostic {
    let mut whole = path.to_owned();
    push_key(&mut whole, field);
    let parent = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
    let diagnostic = Diagnostic::error("P0007", places.of_key(&whole), format!("unknown field `{field}`{parent}"));
    match nearest(field, known.iter().copied()) {
        Some(known) => diagnostic.with_help(format!("did you mean `{known}`?")),
        None => diagnostic.with_label(format!("known fields: {}", known.join(", "))),
    }
}

/// serde's message in words of YAML instead of Rust.
struct Problem<'a>(&'a str);

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0.strip_prefix("invalid type: ").or_else(|| self.0.strip_prefix("invalid value: "));
        let Some((found, expected)) = found.and_then(|found| found.rsplit_once(", expected ")) else {
            return f.write_str(self.0);
        };
        let expected = match expected {
            "a sequence" => "a list",
            "u8" | "u16" | "u32" | "u64" => "a whole number that fits",
            "i8" | "i16" | "i32" | "i64" => "a whole number that fits",
            "f32" | "f64" => "a number",
            expected if expected.starts_with("struct ") => "a map",
            expected => expected,
        };
        let found = match found {
            "sequence" => "a list".to_owned(),
            "map" => "a map".to_owned(),
            "unit value" => "nothing".to_owned(),
            found => found.replace('"', "`"),
        };
        write!(f, "expected {expected}, found {found}")
    }
}

fn place_of(error: &serde_yaml::Error, first_line: u32, file: &Arc<str>) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (line, column) = error.location().map_or((1, 1), |at| (number(at.line()), number(at.column())));
    Place { file: file.clone(), line: (line - 1).saturating_add(first_line), column, length: 1 }
}

/// Without its own place at the end, and with `line 2` of the document made the file's line.
fn with_true_lines(message: &str, first_line: u32) -> String {
    let mut parts = message.split(" at line ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let (line, rest) = part.split_at(digits);
        let after_column =
            rest.strip_prefix(" column ").map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        match (line.parse::<u32>(), after_column) {
            (Ok(_), Some(rest)) if index == 0 => out.push_str(rest),
            (Ok(line), _) => {
                out.push_str(&format!(" at line {}{rest}", line.saturating_add(first_line).saturating_sub(1)))
            }
            (Err(_), _) => out.push_str(&format!(" at line {part}")),
        }
    }
    out
}
