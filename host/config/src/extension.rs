//! [`Extension`]: a WasmPlugin or the `wasm` section of a TrafficExtension, which say the same in different places.

use std::borrow::Cow;

use portolan_model::library::SCHEME;

use crate::object::Object;
use crate::resources::istio::traffic_extension::WasmConfig;
use crate::resources::istio::wasm_plugin::{LabelSelector, TargetRef, TrafficSelector};
use crate::resources::istio::{TrafficExtension, WasmPlugin};

/// What both kinds say of a WebAssembly filter.
pub(crate) struct Extension<'a> {
    /// Who it is, and where its fields stand.
    pub(crate) object: Object<()>,
    pub(crate) selector: Option<&'a LabelSelector>,
    /// Each with its path.
    pub(crate) targets: Vec<(String, &'a TargetRef)>,
    /// Without `EXECUTION_PHASE_`.
    pub(crate) phase: Option<&'a str>,
    pub(crate) priority: Option<i64>,
    pub(crate) matches: &'a [TrafficSelector],
    pub(crate) wasm: Cow<'a, WasmConfig>,
    /// Where the fields of `wasm` stand.
    at: &'static str,
}

impl<'a> Extension<'a> {
    /// Of a WasmPlugin.
    pub(crate) fn of_plugin(object: &'a Object<WasmPlugin>) -> Self {
        let spec = &object.spec;
        let newer = spec.target_refs.iter().enumerate();
        let newer = newer.map(|(i, target)| (format!("spec.targetRefs[{i}]"), target));
        let older = spec.target_ref.iter().map(|target| ("spec.targetRef".to_owned(), target));
        Self {
            object: bare(object),
            selector: spec.selector.as_ref(),
            targets: older.chain(newer).collect(),
            phase: spec.phase.as_deref(),
            priority: spec.priority,
            matches: &spec.matches,
            wasm: Cow::Owned(WasmConfig {
                url: spec.url.clone(),
                sha256: spec.sha256.clone(),
                image_pull_policy: spec.image_pull_policy.clone(),
                image_pull_secret: spec.image_pull_secret.clone(),
                verification_key: spec.verification_key.clone(),
                plugin_config: spec.plugin_config.clone(),
                plugin_name: spec.plugin_name.clone(),
                fail_strategy: spec.fail_strategy.clone(),
                vm_config: spec.vm_config.clone(),
                plugin_type: spec.plugin_type.clone(),
            }),
            at: "spec",
        }
    }

    /// Of a TrafficExtension; none when it is no WebAssembly.
    pub(crate) fn of_traffic_extension(object: &'a Object<TrafficExtension>) -> Option<Self> {
        let spec = &object.spec;
        let targets = spec.target_refs.iter().enumerate();
        Some(Self {
            object: bare(object),
            selector: spec.selector.as_ref(),
            targets: targets.map(|(i, target)| (format!("spec.targetRefs[{i}]"), target)).collect(),
            phase: spec.phase.as_deref().map(|phase| phase.strip_prefix("EXECUTION_PHASE_").unwrap_or(phase)),
            priority: spec.priority,
            matches: &spec.matches,
            wasm: Cow::Borrowed(spec.wasm.as_ref()?),
            at: "spec.wasm",
        })
    }

    /// The name of a filter that comes with the binary, when `url` says so.
    pub(crate) fn bundled(&self) -> Option<&str> {
        self.wasm.url.strip_prefix(SCHEME)
    }

    /// The path of a field of the WebAssembly part.
    pub(crate) fn path(&self, field: &str) -> String {
        format!("{}.{field}", self.at)
    }
}

/// The object without its fields.
fn bare<T>(object: &Object<T>) -> Object<()> {
    Object { meta: object.meta.clone(), spec: (), places: object.places.clone() }
}
