//! Access logs: those that Telemetries turn on, and without any Telemetry or default provider the one of
//! `meshConfig.accessLogFile`. Semantics: Istio's `mergeLogs`.

use std::collections::{BTreeMap, BTreeSet};

use portolan_model::{AccessLog, AccessLogFormat};

use super::{TranslateOptions, age, fits, mesh};
use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Place};
use crate::object::Object;
use crate::resources::istio::telemetry::AccessLogging;
use crate::resources::istio::{ExtensionProvider, FileAccessLog, MeshConfig, Telemetry};
use crate::suggest;

/// Istio's own provider: standard output.
const BUILT_IN: &str = "envoy";
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// Logs, and what is to say about the Telemetries.
pub(super) struct AccessLogs {
    pub(super) logs: Vec<AccessLog>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(resources: &ResourceSet, options: &TranslateOptions) -> AccessLogs {
    let root = mesh::root_namespace(resources);
    let applicable = applicable(resources, &root, options);
    let mut diagnostics = unserved(resources);
    diagnostics.extend(not_here(resources, &applicable));
    let defaults = mesh::first(resources, |mesh| {
        Some(mesh.default_providers.as_ref()?.access_logging.clone()).filter(|names| !names.is_empty())
    });
    let defaults = defaults.unwrap_or_default();
    let logging: Vec<&Object<Telemetry>> =
        applicable.into_iter().filter(|telemetry| !telemetry.spec.access_logging.is_empty()).collect();
    if logging.is_empty() && defaults.is_empty() {
        return AccessLogs { logs: of_mesh(resources).into_iter().collect(), diagnostics };
    }
    let mut logs = Vec::new();
    for (name, turned_on) in merge(&logging, &defaults) {
        match provider(resources, &name) {
            Some(written) => logs.extend(of_provider(resources, &written, turned_on)),
            None => diagnostics.extend(turned_on.map(|on| unknown_provider(resources, &name, on))),
        }
    }
    AccessLogs { logs, diagnostics }
}

/// An entry that turned a provider on: its object and place in the list.
type Entry<'a> = (&'a Object<Telemetry>, usize, &'a AccessLogging);

/// The Telemetries that count for this gateway, the widest first: of the root namespace, of its own, by labels.
pub(super) fn applicable<'a>(
    resources: &'a ResourceSet,
    root: &str,
    options: &TranslateOptions,
) -> Vec<&'a Object<Telemetry>> {
    let mut all: Vec<&Object<Telemetry>> = resources.telemetries().collect();
    all.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    let labels = |telemetry: &Object<Telemetry>| {
        telemetry.spec.selector.as_ref().map(|selector| selector.match_labels.clone()).unwrap_or_default()
    };
    let wide = |namespace: &str| all.iter().copied().find(|t| t.meta.namespace == namespace && labels(t).is_empty());
    let own = options.namespace.as_str();
    let of_own = (own != root).then(|| wide(own)).flatten();
    let selected = all.iter().copied().find(|telemetry| {
        let wanted = labels(telemetry);
        telemetry.meta.namespace == own && !wanted.is_empty() && fits(&wanted, &options.labels)
    });
    [wide(root), of_own, selected].into_iter().flatten().collect()
}

/// Providers by name with the entry that turned each on; none for a default one.
fn merge<'a>(logging: &[&'a Object<Telemetry>], defaults: &[String]) -> BTreeMap<String, Option<Entry<'a>>> {
    if logging.is_empty() {
        return defaults.iter().map(|name| (name.clone(), None)).collect();
    }
    let names = |entry: &AccessLogging| entry.providers.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
    // The nearest object that names providers decides which ones count at all.
    let mut in_scope: BTreeSet<String> = defaults.iter().cloned().collect();
    for telemetry in logging {
        let named: BTreeSet<String> = telemetry.spec.access_logging.iter().flat_map(names).collect();
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let mut on = BTreeMap::new();
    let mut parents = defaults.to_vec();
    for telemetry in logging {
        for (i, entry) in telemetry.spec.access_logging.iter().enumerate() {
            if !entry.providers.is_empty() {
                parents = names(entry);
            }
            // Requests that pass a gateway are a client's in Istio's words.
            if entry.matches.as_ref().is_some_and(|matches| matches.mode.as_deref() == Some("SERVER")) {
                continue;
            }
            for provider in parents.iter().filter(|provider| in_scope.contains(*provider)) {
                if entry.disabled == Some(true) {
                    on.remove(provider);
                } else {
                    on.insert(provider.clone(), Some((*telemetry, i, entry)));
                }
            }
        }
    }
    on
}

/// A provider by name, case ignored as in Istio; `envoy` is there without being written.
fn provider(resources: &ResourceSet, name: &str) -> Option<ExtensionProvider> {
    let named = |mesh: &MeshConfig| {
        mesh.extension_providers.iter().find(|provider| provider.name.eq_ignore_ascii_case(name)).cloned()
    };
    let built_in = || ExtensionProvider {
        name: BUILT_IN.to_owned(),
        envoy_file_access_log: Some(FileAccessLog { path: STANDARD_OUTPUT.to_owned(), ..FileAccessLog::default() }),
        ..ExtensionProvider::default()
    };
    mesh::first(resources, named).or_else(|| name.eq_ignore_ascii_case(BUILT_IN).then(built_in))
}

fn of_provider(
    resources: &ResourceSet,
    provider: &ExtensionProvider,
    turned_on: Option<Entry<'_>>,
) -> Option<AccessLog> {
    let file = provider.envoy_file_access_log.as_ref()?;
    let format = match &file.log_format {
        None if provider.name == BUILT_IN && file.omit_empty_values != Some(true) => mesh_format(resources),
        None => AccessLogFormat::Default,
        Some(format) => match (&format.text, &format.labels) {
            (Some(text), _) if !text.is_empty() => AccessLogFormat::Text(text.trim_end_matches('\n').to_owned()),
            (_, Some(labels)) => json(labels),
            _ => AccessLogFormat::Default,
        },
    };
    let origin = match turned_on {
        Some((telemetry, i, _)) => telemetry.origin(&format!("spec.accessLogging[{i}]")),
        None => mesh::origin(resources, "defaultProviders", |mesh| mesh.default_providers.is_some()),
    };
    Some(AccessLog {
        path: Some(file.path.clone()).filter(|path| !path.is_empty()).unwrap_or_else(|| STANDARD_OUTPUT.to_owned()),
        format,
        omit_empty_values: file.omit_empty_values == Some(true),
        filter: turned_on.and_then(|(_, _, entry)| Some(entry.filter.as_ref()?.expression.clone())),
        origin,
    })
}

/// The log of `meshConfig.accessLogFile`.
fn of_mesh(resources: &ResourceSet) -> Option<AccessLog> {
    let path = mesh::first(resources, |mesh| mesh.access_log_file.clone()).filter(|path| !path.is_empty())?;
    Some(AccessLog {
        path,
        format: mesh_format(resources),
        omit_empty_values: false,
        filter: None,
        origin: mesh::origin(resources, "accessLogFile", |mesh| mesh.access_log_file.is_some()),
    })
}

/// `accessLogEncoding` and `accessLogFormat`. JSON that cannot be read falls back to the default, as in Istio.
fn mesh_format(resources: &ResourceSet) -> AccessLogFormat {
    let encoding = mesh::first(resources, |mesh| mesh.access_log_encoding.clone());
    let format = mesh::first(resources, |mesh| mesh.access_log_format.clone()).filter(|format| !format.is_empty());
    match (encoding.as_deref(), format) {
        (Some("JSON"), Some(format)) => match serde_yaml::from_str(&format) {
            Ok(labels) => json(&labels),
            Err(_) => AccessLogFormat::DefaultJson,
        },
        (Some("JSON"), None) => AccessLogFormat::DefaultJson,
        (_, Some(format)) => AccessLogFormat::Text(format.trim_end_matches('\n').to_owned()),
        (_, None) => AccessLogFormat::Default,
    }
}

fn json(labels: &serde_yaml::Value) -> AccessLogFormat {
    match serde_json::to_string(labels) {
        Ok(text) if labels.as_mapping().is_some_and(|labels| !labels.is_empty()) => AccessLogFormat::Json(text),
        _ => AccessLogFormat::DefaultJson,
    }
}

fn unknown_provider(resources: &ResourceSet, name: &str, (telemetry, i, entry): Entry<'_>) -> Diagnostic {
    let j = entry.providers.iter().position(|provider| provider.name == name).unwrap_or_default();
    let place = telemetry.place(&format!("spec.accessLogging[{i}].providers[{j}].name"));
    no_such_provider(resources, name, place, "this entry has no effect", &[BUILT_IN])
}

/// A provider that the mesh configuration does not have; `built_in` ones are there without being written.
pub(super) fn no_such_provider(
    resources: &ResourceSet,
    name: &str,
    place: Place,
    effect: &str,
    built_in: &[&str],
) -> Diagnostic {
    let text = format!("the mesh configuration has no extension provider `{name}`: {effect}");
    let known = mesh::first(resources, |mesh| {
        Some(mesh.extension_providers.iter().map(|p| p.name.clone()).collect::<Vec<_>>()).filter(|n| !n.is_empty())
    });
    let known = known.unwrap_or_default();
    let names = known.iter().map(String::as_str).chain(built_in.iter().copied());
    let finding = Diagnostic::warning("P0240", place, text);
    if names.clone().next().is_none() {
        return finding;
    }
    let finding = finding.with_label(format!("known: {}", suggest::list(names.clone())));
    match suggest::nearest(name, names) {
        Some(near) => finding.with_help(format!("did you mean `{near}`?")),
        None => finding,
    }
}

/// Logs that go elsewhere than into a file, and choices of workloads other than by labels.
fn unserved(resources: &ResourceSet) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for telemetry in resources.telemetries() {
        let settings = [
            (telemetry.spec.target_ref.is_some(), "targetRef", "the selector alone decides"),
            (!telemetry.spec.target_refs.is_empty(), "targetRefs", "the selector alone decides"),
        ];
        for (_, field, instead) in settings.iter().filter(|(given, ..)| *given) {
            let place = telemetry.key_place(&format!("spec.{field}"));
            found.push(Diagnostic::warning("P0340", place, format!("`{field}` is not served yet: {instead}")));
        }
        for (i, entry) in telemetry.spec.access_logging.iter().enumerate() {
            for (j, named) in entry.providers.iter().enumerate() {
                let provider = provider(resources, &named.name);
                if provider.is_some_and(|provider| provider.envoy_file_access_log.is_none()) {
                    let place = telemetry.place(&format!("spec.accessLogging[{i}].providers[{j}].name"));
                    let text = "only providers of kind `envoyFileAccessLog` are served yet: this entry has no effect";
                    found.push(Diagnostic::warning("P0340", place, text));
                }
            }
        }
    }
    found
}

/// Telemetries that are for other workloads: worth a note, as all of a folder's are mostly meant for this gateway.
fn not_here(resources: &ResourceSet, applicable: &[&Object<Telemetry>]) -> Vec<Diagnostic> {
    let others = resources.telemetries().filter(|telemetry| !applicable.iter().any(|a| std::ptr::eq(*a, *telemetry)));
    let say = |telemetry: &Object<Telemetry>| {
        let text =
            "this Telemetry has no effect here: it is for another namespace or other labels, or an older one counts";
        let finding = Diagnostic::warning("P0241", telemetry.key_place("metadata.namespace"), text);
        let finding = finding.with_help("a gateway reads those of the root namespace and of its own");
        Diagnostic { severity: crate::diagnostic::Severity::Note, ..finding }
    };
    others.map(say).collect()
}
