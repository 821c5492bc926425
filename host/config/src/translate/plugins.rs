//! Plugins: the WasmPlugins and TrafficExtensions that select this gateway, in the order in which requests meet them.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portolan_model::{
    FailPolicy, LIBRARY, Plugin, PluginCode, PluginKind, PluginPhase, PullPolicy, PullSecret, RemoteModule,
};

use super::authorization::SystemPlugin;
use super::gateways::Gateways;
use super::plugin_traffic::{self, Traffic};
use super::{TranslateOptions, age, fits};
use crate::ResourceSet;
use crate::annotations;
use crate::diagnostic::Diagnostic;
use crate::extension::Extension;
use crate::resources::core::Secret;
use crate::resources::istio::wasm_plugin::EnvVar;

/// The type of a Secret that `imagePullSecret` may name, and its one entry.
const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";

/// Plugins, and what is not served of them.
pub(super) struct Plugins {
    pub(super) plugins: Vec<Plugin>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// `has_udp`: there are servers of UDP, whose datagrams no filter sees.
pub(super) fn translate(
    resources: &ResourceSet,
    gateways: &Gateways<'_>,
    options: &TranslateOptions,
    has_udp: bool,
) -> Plugins {
    let plugins = resources.wasm_plugins().map(Extension::of_plugin);
    let others = resources.traffic_extensions().filter_map(Extension::of_traffic_extension);
    let selected = |extension: &Extension<'_>| {
        extension.selector.is_none_or(|selector| fits(&selector.match_labels, &options.labels))
    };
    let mut extensions: Vec<_> = plugins.chain(others).filter(selected).collect();
    extensions.sort_by(|a, b| age(&a.object.meta).cmp(&age(&b.object.meta)));
    let mut all = Plugins { plugins: Vec::new(), diagnostics: Vec::new() };
    for extension in &extensions {
        let before = all.plugins.len();
        all.add(extension, resources, gateways, options);
        let is_network = all.plugins.get(before).is_some_and(|plugin| plugin.kind == PluginKind::Network);
        if has_udp && is_network {
            let text = "filters of type NETWORK see no datagrams: UDP servers of this gateway pass this one by";
            let place = extension.object.place(&extension.path("type"));
            all.diagnostics.push(Diagnostic::warning("P0350", place, text));
        }
    }
    // Stable: within phase and priority the order of age stays.
    all.plugins.sort_by_key(|plugin| (plugin.phase, std::cmp::Reverse(plugin.priority)));
    all
}

impl Plugins {
    /// With plugins that resources of other kinds ask for. Istio has its own filters follow the WasmPlugins of their phase.
    pub(super) fn with(mut self, system: SystemPlugin) -> Self {
        self.diagnostics.extend(system.diagnostics);
        for plugin in system.plugins {
            let place = self.plugins.partition_point(|other| other.phase <= plugin.phase);
            self.plugins.insert(place, plugin);
        }
        self
    }

    fn add(
        &mut self,
        extension: &Extension<'_>,
        resources: &ResourceSet,
        gateways: &Gateways<'_>,
        options: &TranslateOptions,
    ) {
        let settings = annotations::plugin_settings(&extension.object.meta.annotations).0;
        let Traffic { matches, diagnostics } =
            plugin_traffic::translate(extension, settings.matches, gateways, resources);
        self.diagnostics.extend(diagnostics);
        if matches.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let code = self.code(extension, resources);
        let env = self.env(extension, options);
        let meta = &extension.object.meta;
        let wasm = &extension.wasm;
        let config = wasm.plugin_config.as_ref().and_then(|config| serde_json::to_string(config).ok());
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        self.plugins.push(Plugin {
            name: self.name(&format!("{}.{}", meta.namespace, meta.name)),
            root_id: wasm.plugin_name.clone().unwrap_or_default(),
            kind: kind(wasm.plugin_type.as_deref()),
            phase: phase(extension.phase),
            priority: extension.priority.unwrap_or(0),
            code,
            sha256: given(&wasm.sha256).map(|digest| digest.to_lowercase()),
            verification_key: given(&wasm.verification_key),
            config: config.unwrap_or_default(),
            schema: settings.schema.map(|file| beside(extension.object.places.file(), &file)),
            fail_policy: fail_policy(wasm.fail_strategy.as_deref()),
            env,
            matches,
            limits: settings.limits,
            canary: settings.canary,
            headers_stop_iteration: settings.headers_stop_iteration || holds_heads(extension),
            origin: extension.object.origin(""),
        });
    }

    /// `namespace.name`; the younger of a WasmPlugin and a TrafficExtension of one name gets an addition, for metrics
    /// and running filters are told apart by it.
    fn name(&self, name: &str) -> String {
        let is_taken = self.plugins.iter().any(|plugin| plugin.name == name);
        if is_taken { format!("{name}.2") } else { name.to_owned() }
    }

    fn code(&mut self, extension: &Extension<'_>, resources: &ResourceSet) -> PluginCode {
        let written = &extension.wasm.url;
        if let Some(name) = extension.bundled() {
            return PluginCode::Bundled(name.to_owned());
        }
        if let Some(path) = module_path(written, extension.object.places.file()) {
            return PluginCode::File(path);
        }
        let url = if written.contains("://") { written.clone() } else { format!("oci://{written}") };
        let pull_policy = match extension.wasm.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            _ if is_latest(&url) => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        };
        let secret = extension.wasm.image_pull_secret.as_ref().filter(|name| !name.is_empty());
        let pull_secret = secret.and_then(|name| match pull_secret(extension, name, resources) {
            Ok(secret) => Some(secret),
            Err(reason) => {
                let place = extension.object.place(&extension.path("imagePullSecret"));
                let text = format!("Secret `{name}` {reason}: the module is asked for without credentials");
                self.diagnostics.push(Diagnostic::error("P0218", place, text));
                None
            }
        });
        PluginCode::Remote(RemoteModule { url, pull_policy, pull_secret })
    }

    fn env(&mut self, extension: &Extension<'_>, options: &TranslateOptions) -> Vec<(String, String)> {
        let written = extension.wasm.vm_config.as_ref().map(|vm| vm.env.as_slice()).unwrap_or_default();
        let value = |(index, variable): (usize, &EnvVar)| {
            if variable.value_from.as_deref() != Some("HOST") {
                return Some((variable.name.clone(), variable.value.clone().unwrap_or_default()));
            }
            let Some(value) = options.host_env.get(&variable.name) else {
                let place = extension.object.place(&extension.path(&format!("vmConfig.env[{index}].name")));
                let text = format!("variable `{}` of the host is not passed on", variable.name);
                let help = format!("allow it with `--wasm-env {}`", variable.name);
                self.diagnostics.push(Diagnostic::warning("P0325", place, text).with_help(help));
                return None;
            };
            Some((variable.name.clone(), value.clone()?))
        };
        written.iter().enumerate().filter_map(value).collect()
    }
}

/// A filter of the library that sees the body before it lets the head go.
fn holds_heads(extension: &Extension<'_>) -> bool {
    let holds = |name| LIBRARY.iter().any(|filter| filter.name == name && filter.holds_heads);
    extension.bundled().is_some_and(holds)
}

fn kind(written: Option<&str>) -> PluginKind {
    if written == Some("NETWORK") { PluginKind::Network } else { PluginKind::Http }
}

fn fail_policy(written: Option<&str>) -> FailPolicy {
    match written {
        Some("FAIL_OPEN") => FailPolicy::FailOpen,
        Some("FAIL_RELOAD") => FailPolicy::FailReload,
        _ => FailPolicy::FailClose,
    }
}

fn phase(written: Option<&str>) -> PluginPhase {
    match written {
        Some("AUTHN") => PluginPhase::Authn,
        Some("AUTHZ") => PluginPhase::Authz,
        Some("STATS") => PluginPhase::Stats,
        _ => PluginPhase::Unspecified,
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
    Some(beside(yaml, path))
}

fn beside(yaml: &str, path: &str) -> PathBuf {
    Path::new(yaml).parent().unwrap_or(Path::new("")).join(path)
}

/// An image by tag `latest`, which is also meant when no tag is given.
fn is_latest(url: &str) -> bool {
    let Some(image) = url.strip_prefix("oci://") else { return false };
    let name = image.rsplit('/').next().unwrap_or(image);
    !name.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn pull_secret(extension: &Extension<'_>, name: &str, resources: &ResourceSet) -> Result<PullSecret, &'static str> {
    let namespace = &extension.object.meta.namespace;
    let secret = resources.get::<Secret>(namespace, name).ok_or("is not there")?;
    if secret.spec.secret_type.as_deref().is_some_and(|kind| kind != DOCKER_CONFIG) {
        return Err("is not of type `kubernetes.io/dockerconfigjson`");
    }
    let plain = secret.spec.string_data.get(DOCKER_CONFIG_KEY).cloned();
    let decoded = || {
        let bytes = STANDARD.decode(secret.spec.data.get(DOCKER_CONFIG_KEY)?.trim()).ok()?;
        String::from_utf8(bytes).ok()
    };
    let docker_config = plain.or_else(decoded).ok_or("has no entry `.dockerconfigjson` in base64")?;
    let value: Result<serde_json::Value, _> = serde_json::from_str(&docker_config);
    if !value.is_ok_and(|value| value.get("auths").is_some_and(serde_json::Value::is_object)) {
        return Err("holds no Docker configuration with `auths`");
    }
    Ok(PullSecret { name: format!("{namespace}/{name}"), docker_config })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{is_latest, module_path};

    #[test]
    fn only_files_are_taken_for_files() {
        assert_eq!(module_path("file:///a.wasm", "conf/x.yaml"), Some(PathBuf::from("/a.wasm")));
        assert_eq!(module_path("./a.wasm", "conf/x.yaml"), Some(PathBuf::from("conf/./a.wasm")));
        assert_eq!(module_path("filters/a.wasm", "x.yaml"), Some(PathBuf::from("filters/a.wasm")));
        assert_eq!(module_path("oci://ghcr.io/a:1", "x.yaml"), None);
        assert_eq!(module_path("ghcr.io/a:1", "x.yaml"), None);
        assert_eq!(module_path("https://a/b.wasm", "x.yaml"), None);
    }

    #[test]
    fn an_image_without_tag_is_the_latest() {
        for latest in ["oci://r.io/a", "oci://r.io:5000/a", "oci://r.io:5000/a:latest", "oci://a"] {
            assert!(is_latest(latest), "{latest}");
        }
        for fixed in ["oci://r.io/a:1", "oci://r.io/a@sha256:00", "https://r.io/a", "oci://r.io/a:latest@sha256:00"] {
            assert!(!is_latest(fixed), "{fixed}");
        }
    }
}
