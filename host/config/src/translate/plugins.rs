//! Plugins: the WasmPlugins whose selector fits this gateway, in the order in which requests meet them.

use std::path::{Path, PathBuf};

use portolan_model::{FailPolicy, Plugin, PluginCode, PluginKind, PluginPhase};

use super::{TranslateOptions, age, fits};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::WasmPlugin;

/// Plugins, and what is not served of them.
pub(super) struct Plugins {
    pub(super) plugins: Vec<Plugin>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

pub(super) fn translate(resources: &ResourceSet, options: &TranslateOptions) -> Plugins {
    let selected = |object: &&Object<WasmPlugin>| {
        object.spec.selector.as_ref().is_none_or(|selector| fits(&selector.match_labels, &options.labels))
    };
    let mut objects: Vec<_> = resources.wasm_plugins().filter(selected).collect();
    objects.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    let mut plugins = Vec::new();
    let mut diagnostics = Vec::new();
    for object in objects {
        diagnostics.extend(unserved(object));
        match module_path(&object.spec.url, &object.places.file) {
            Some(path) => plugins.push(plugin(object, PluginCode::File(path))),
            None => {
                diagnostics.push(not_a_file(object));
                plugins.push(plugin(object, PluginCode::Unavailable(object.spec.url.clone())));
            }
        }
    }
    // Stable: within phase and priority the order of age stays.
    plugins.sort_by_key(|plugin| (plugin.phase, std::cmp::Reverse(plugin.priority)));
    Plugins { plugins, diagnostics }
}

fn not_a_file(object: &Object<WasmPlugin>) -> Diagnostic {
    let instead = match fail_policy(object) {
        FailPolicy::FailClose => "requests get 503",
        FailPolicy::FailOpen => "requests pass without it",
    };
    let text = format!("`{}` is not a file: only files can be loaded yet, and {instead}", object.spec.url);
    let finding = Diagnostic::error("P0319", object.place("spec.url"), text);
    finding.with_help("fetch the module and write `file:///path/to/it.wasm`")
}

fn fail_policy(object: &Object<WasmPlugin>) -> FailPolicy {
    match object.spec.fail_strategy.as_deref() {
        Some("FAIL_OPEN") => FailPolicy::FailOpen,
        _ => FailPolicy::FailClose,
    }
}

fn plugin(object: &Object<WasmPlugin>, code: PluginCode) -> Plugin {
    let spec = &object.spec;
    let config = spec.plugin_config.as_ref().and_then(|config| serde_json::to_string(config).ok());
    Plugin {
        name: format!("{}.{}", object.meta.namespace, object.meta.name),
        root_id: spec.plugin_name.clone().unwrap_or_default(),
        kind: kind(spec.plugin_type.as_deref()),
        phase: phase(spec.phase.as_deref()),
        priority: spec.priority.unwrap_or(0),
        code,
        sha256: spec.sha256.as_ref().filter(|digest| !digest.is_empty()).map(|digest| digest.to_lowercase()),
        config: config.unwrap_or_default(),
        fail_policy: fail_policy(object),
        origin: object.origin(""),
    }
}

/// The file of a module; none when the url names a registry or a server. In Istio a bare reference is an image, hence
/// only what looks like a path is taken for one. Relative paths start at the folder of the YAML file.
fn module_path(url: &str, yaml: &str) -> Option<PathBuf> {
    let path = match url.strip_prefix("file://") {
        Some(path) => path,
        None if url.contains("://") => return None,
        None if url.starts_with(['/', '.']) || url.ends_with(".wasm") => url,
        None => return None,
    };
    Some(Path::new(yaml).parent().unwrap_or(Path::new("")).join(path))
}

fn kind(written: Option<&str>) -> PluginKind {
    if written == Some("NETWORK") { PluginKind::Network } else { PluginKind::Http }
}

fn phase(written: Option<&str>) -> PluginPhase {
    match written {
        Some("AUTHN") => PluginPhase::Authn,
        Some("AUTHZ") => PluginPhase::Authz,
        Some("STATS") => PluginPhase::Stats,
        _ => PluginPhase::Unspecified,
    }
}

fn unserved(object: &Object<WasmPlugin>) -> Vec<Diagnostic> {
    let spec = &object.spec;
    let env = spec.vm_config.as_ref().is_some_and(|vm| !vm.env.is_empty());
    let settings = [
        ("verificationKey", spec.verification_key.is_some(), "no signature is checked"),
        ("vmConfig", env, "the filter sees no variables"),
        ("match", !spec.matches.is_empty(), "the filter sees all traffic"),
        ("targetRef", spec.target_ref.is_some(), "the filter sees all traffic"),
        ("targetRefs", spec.target_refs.is_some(), "the filter sees all traffic"),
        ("type", spec.plugin_type.as_deref() == Some("NETWORK"), "the filter is not run"),
        ("failStrategy", spec.fail_strategy.as_deref() == Some("FAIL_RELOAD"), "it works like FAIL_CLOSE"),
    ];
    let given = settings.into_iter().filter(|(_, given, _)| *given);
    let findings = given.map(|(field, _, instead)| {
        let text = format!("`{field}` is not served yet: {instead}");
        Diagnostic::warning("P0320", object.key_place(&format!("spec.{field}")), text)
    });
    findings.collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::module_path;

    #[test]
    fn only_files_are_taken() {
        assert_eq!(module_path("file:///a.wasm", "conf/x.yaml"), Some(PathBuf::from("/a.wasm")));
        assert_eq!(module_path("./a.wasm", "conf/x.yaml"), Some(PathBuf::from("conf/./a.wasm")));
        assert_eq!(module_path("filters/a.wasm", "x.yaml"), Some(PathBuf::from("filters/a.wasm")));
        assert_eq!(module_path("oci://ghcr.io/a:1", "x.yaml"), None);
        assert_eq!(module_path("ghcr.io/a:1", "x.yaml"), None);
        assert_eq!(module_path("https://a/b.wasm", "x.yaml"), None);
    }
}
