//! Checks of a WasmPlugin.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::WasmPlugin;

/// Checks a WasmPlugin by itself.
pub fn wasm_plugin(object: &Object<WasmPlugin>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.url.is_empty() {
        checker.missing("spec", "url");
    } else if let Some((scheme, _)) = spec.url.split_once("://")
        && !matches!(scheme, "file" | "http" | "https" | "oci")
    {
        checker.error("P0116", "spec.url", format!("`{scheme}` is not a scheme of a module's url"));
        checker.label("one of file, http, https, oci");
    }
    if let Some(digest) = spec.sha256.as_ref().filter(|digest| !digest.is_empty())
        && (digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        checker.error("P0122", "spec.sha256", "this is not a SHA-256 digest");
        checker.label("64 hex digits");
    }
    checker.word("spec.phase", spec.phase.as_ref(), &["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"]);
    checker.word("spec.failStrategy", spec.fail_strategy.as_ref(), &["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]);
    checker.word("spec.type", spec.plugin_type.as_ref(), &["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]);
    let policies = &["UNSPECIFIED_POLICY", "IfNotPresent", "Always"];
    checker.word("spec.imagePullPolicy", spec.image_pull_policy.as_ref(), policies);
    if let Some(priority) = spec.priority {
        checker.range("spec.priority", priority, i64::from(i32::MIN), i64::from(i32::MAX));
    }
    check_env(&mut checker, spec);
    for (i, selector) in spec.matches.iter().enumerate() {
        let modes = &["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"];
        checker.word(&format!("spec.match[{i}].mode"), selector.mode.as_ref(), modes);
        for (j, port) in selector.ports.iter().enumerate() {
            checker.port(&format!("spec.match[{i}].ports[{j}].number"), port.number);
        }
    }
    checker.finish()
}

fn check_env(checker: &mut Checker<'_, WasmPlugin>, spec: &WasmPlugin) {
    let env = spec.vm_config.as_ref().map(|vm| vm.env.as_slice()).unwrap_or_default();
    for (i, variable) in env.iter().enumerate() {
        let path = format!("spec.vmConfig.env[{i}]");
        if variable.name.is_empty() {
            checker.missing(&path, "name");
        }
        checker.word(&format!("{path}.valueFrom"), variable.value_from.as_ref(), &["INLINE", "HOST"]);
        if variable.value_from.as_deref() == Some("HOST") && variable.value.as_ref().is_some_and(|v| !v.is_empty()) {
            checker.error_at_key("P0120", &format!("{path}.value"), "a variable of the host takes no `value`");
        }
    }
    let names = env.iter().enumerate().filter(|(_, v)| !v.name.is_empty());
    checker.unique("variable", names.map(|(i, v)| (format!("spec.vmConfig.env[{i}].name"), v.name.clone())));
}
