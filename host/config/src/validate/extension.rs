//! Checks of a WasmPlugin and of a TrafficExtension.

use portolan_model::LIBRARY;
use portolan_model::library::SCHEME;

use super::checker::Checker;
use super::selector;
use crate::annotations;
use crate::diagnostic::Diagnostic;
use crate::extension::Extension;
use crate::object::Object;
use crate::resources::istio::{TrafficExtension, WasmPlugin};
use crate::suggest;

/// Istio's limits of the environment.
const MAX_VARIABLES: usize = 256;
const MAX_VARIABLE_NAME: usize = 256;
const MAX_VARIABLE_VALUE: usize = 2048;

/// Istio's limits of names.
const MAX_SECRET_NAME: usize = 253;
const MAX_PLUGIN_NAME: usize = 256;

/// Checks a WasmPlugin by itself.
pub fn wasm_plugin(object: &Object<WasmPlugin>) -> Vec<Diagnostic> {
    check(&Extension::of_plugin(object), &["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"])
}

/// Checks a TrafficExtension by itself.
pub fn traffic_extension(object: &Object<TrafficExtension>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    match (Extension::of_traffic_extension(object), &object.spec.lua) {
        (Some(extension), None) => return check(&extension, &["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]),
        (None, Some(_)) => {
            checker.error_at_key("P0125", "spec.lua", "scripts in Lua are not run: this filter is not in force");
            checker.help("build the filter for WebAssembly, and name it in `wasm.url`");
        }
        (Some(_), Some(_)) => checker.error_at_key("P0102", "spec.lua", "`wasm` and `lua` exclude each other"),
        (None, None) => checker.missing("spec", "wasm"),
    }
    checker.finish()
}

fn check(extension: &Extension<'_>, phases: &[&str]) -> Vec<Diagnostic> {
    let mut checker = Checker::new(&extension.object);
    check_module(&mut checker, extension);
    let phase = extension.phase.map(str::to_owned);
    checker.word("spec.phase", phase.as_ref(), phases);
    let wasm = &extension.wasm;
    let strategies = &["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"];
    checker.word(&extension.path("failStrategy"), wasm.fail_strategy.as_ref(), strategies);
    let types = &["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"];
    checker.word(&extension.path("type"), wasm.plugin_type.as_ref(), types);
    if let Some(priority) = extension.priority {
        checker.range("spec.priority", priority, i64::from(i32::MIN), i64::from(i32::MAX));
    }
    let names = [
        ("imagePullSecret", &wasm.image_pull_secret, MAX_SECRET_NAME),
        ("pluginName", &wasm.plugin_name, MAX_PLUGIN_NAME),
    ];
    for (field, name, most) in names {
        too_long(&mut checker, &extension.path(field), name.as_deref().unwrap_or_default(), most);
    }
    if let Some(selector) = extension.selector {
        selector::check_labels(&mut checker, "spec.selector.matchLabels", &selector.match_labels);
    }
    check_env(&mut checker, extension);
    check_traffic(&mut checker, extension);
    check_annotations(&mut checker, extension);
    checker.finish()
}

fn check_module(checker: &mut Checker<'_, ()>, extension: &Extension<'_>) {
    let wasm = &extension.wasm;
    let url = extension.path("url");
    if wasm.url.is_empty() {
        checker.missing(extension.path("").trim_end_matches('.'), "url");
    } else if let Some(name) = extension.bundled() {
        return check_bundled(checker, extension, name);
    } else if let Some((scheme, _)) = wasm.url.split_once("://")
        && !matches!(scheme, "file" | "http" | "https" | "oci")
    {
        checker.error("P0116", &url, format!("`{scheme}` is not a scheme of a module's url"));
        checker.label("one of bundled, file, http, https, oci");
    }
    if let Some(digest) = wasm.sha256.as_ref().filter(|digest| !digest.is_empty()) {
        let path = extension.path("sha256");
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            checker.error("P0122", &path, "this is not a SHA-256 digest");
            checker.label("64 hex digits, in lower case");
        } else if wasm.url.rsplit_once("@sha256:").is_some_and(|(_, named)| !named.eq_ignore_ascii_case(digest)) {
            checker.error("P0120", &path, "`url` names another digest than `sha256`");
        }
    }
    let policies = &["UNSPECIFIED_POLICY", "IfNotPresent", "Always"];
    checker.word(&extension.path("imagePullPolicy"), wasm.image_pull_policy.as_ref(), policies);
    if let Some(key) = wasm.verification_key.as_ref().filter(|key| !key.trim().is_empty())
        && !(key.contains("-----BEGIN PUBLIC KEY-----") && key.contains("-----END PUBLIC KEY-----"))
    {
        checker.error("P0126", &extension.path("verificationKey"), "this is not a public key");
        checker.label("PEM, `-----BEGIN PUBLIC KEY-----`, as `cosign generate-key-pair` writes it");
    }
}

/// A filter of the library: the name is known, and nothing is said of a module that would be fetched.
fn check_bundled(checker: &mut Checker<'_, ()>, extension: &Extension<'_>, name: &str) {
    let known = || LIBRARY.iter().map(|filter| filter.name);
    if !known().any(|known| known == name) {
        checker.error("P0127", &extension.path("url"), format!("no filter `{name}` comes with this binary"));
        checker.label(format!("one of {}", known().collect::<Vec<_>>().join(", ")));
        if let Some(near) = suggest::nearest(name, known()) {
            checker.help(format!("did you mean `{SCHEME}{near}`?"));
        }
    }
    let wasm = &extension.wasm;
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
    let policy = wasm.image_pull_policy.as_ref().filter(|policy| *policy != "UNSPECIFIED_POLICY");
    let of_modules = [
        ("sha256", given(&wasm.sha256)),
        ("verificationKey", given(&wasm.verification_key)),
        ("imagePullPolicy", policy.is_some()),
        ("imagePullSecret", given(&wasm.image_pull_secret)),
    ];
    for (field, _) in of_modules.iter().filter(|(_, is_given)| *is_given) {
        let message = format!("`{field}` is for modules that are fetched, and `{name}` comes with the binary");
        checker.error_at_key("P0120", &extension.path(field), message);
        checker.help(format!("remove `{field}`"));
    }
    if wasm.plugin_type.as_deref() == Some("NETWORK") {
        checker.error("P0120", &extension.path("type"), format!("`{name}` is a filter for HTTP"));
    }
}

fn check_env(checker: &mut Checker<'_, ()>, extension: &Extension<'_>) {
    let env = extension.wasm.vm_config.as_ref().map(|vm| vm.env.as_slice()).unwrap_or_default();
    if env.len() > MAX_VARIABLES {
        checker.error_at_key("P0117", &extension.path("vmConfig.env"), format!("{} variables are too many", env.len()));
        checker.label(format!("at most {MAX_VARIABLES}"));
    }
    for (i, variable) in env.iter().enumerate() {
        let path = extension.path(&format!("vmConfig.env[{i}]"));
        if variable.name.is_empty() {
            checker.missing(&path, "name");
        }
        let value = variable.value.as_deref().unwrap_or_default();
        too_long(checker, &format!("{path}.name"), &variable.name, MAX_VARIABLE_NAME);
        too_long(checker, &format!("{path}.value"), value, MAX_VARIABLE_VALUE);
        checker.word(&format!("{path}.valueFrom"), variable.value_from.as_ref(), &["INLINE", "HOST"]);
        if variable.value_from.as_deref() == Some("HOST") && variable.value.as_ref().is_some_and(|v| !v.is_empty()) {
            checker.error_at_key("P0120", &format!("{path}.value"), "a variable of the host takes no `value`");
        }
    }
    let names = env.iter().enumerate().filter(|(_, v)| !v.name.is_empty());
    let names = names.map(|(i, v)| (extension.path(&format!("vmConfig.env[{i}].name")), v.name.clone()));
    checker.unique("variable", names);
}

fn too_long(checker: &mut Checker<'_, ()>, path: &str, text: &str, most: usize) {
    if text.len() > most {
        checker.error("P0117", path, format!("{} characters are too many", text.len()));
        checker.label(format!("at most {most}"));
    }
}

fn check_traffic(checker: &mut Checker<'_, ()>, extension: &Extension<'_>) {
    for (i, selector) in extension.matches.iter().enumerate() {
        let modes = &["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"];
        checker.word(&format!("spec.match[{i}].mode"), selector.mode.as_ref(), modes);
        for (j, port) in selector.ports.iter().enumerate() {
            checker.port(&format!("spec.match[{i}].ports[{j}].number"), port.number);
        }
    }
    if let (Some(_), Some((path, _))) = (extension.selector, extension.targets.first()) {
        let path = path.split('[').next().unwrap_or_default();
        checker.error_at_key("P0120", path, "`selector` and `targetRefs` exclude each other");
    }
    for (path, target) in &extension.targets {
        for (field, value) in [("kind", &target.kind), ("name", &target.name)] {
            if value.is_empty() {
                checker.missing(path, field);
            }
        }
        let namespace = &extension.object.meta.namespace;
        if target.namespace.as_ref().is_some_and(|other| !other.is_empty() && other != namespace) {
            let message = format!("a target is in the object's own namespace, which is `{namespace}`");
            checker.error("P0120", &format!("{path}.namespace"), message);
        }
    }
}

fn check_annotations(checker: &mut Checker<'_, ()>, extension: &Extension<'_>) {
    check_faults(checker, annotations::plugin_settings(&extension.object.meta.annotations).1);
}

/// Annotations of ours that cannot be used.
pub(super) fn check_faults<T>(checker: &mut Checker<'_, T>, faults: Vec<annotations::Fault>) {
    for fault in faults {
        match fault.within {
            _ if fault.is_unknown => checker.warn("P0124", &fault.path, fault.message),
            None => checker.error("P0124", &fault.path, fault.message),
            Some(spot) => checker.error_within("P0124", &fault.path, spot, fault.message),
        }
        if !fault.label.is_empty() {
            checker.label(fault.label);
        }
    }
}
