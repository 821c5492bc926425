//! Authorization: the AuthorizationPolicies that are for this gateway, made one plugin with the filter `authorization`.
//! Semantics: Istio's `ListAuthorizationPolicies` and its translation for Envoy's `rbac`.

use portolan_model::{FailPolicy, Plugin, PluginCode, PluginKind, PluginPhase};
use serde_json::{Value, json};

use super::registry::Registry;
use super::{TranslateOptions, age, ext_authz, fits, mesh};
use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Severity};
use crate::object::{Meta, Object};
use crate::resources::istio::AuthorizationPolicy;
use crate::resources::istio::authorization_policy::Rule;
use crate::resources::istio::wasm_plugin::LabelSelector;
use crate::validate::authorization_policy::EXPERIMENTAL;
use crate::validate::dry_run::{DRY_RUN, YES};

/// Plugins that resources ask for, in their order, and what is to say about them.
pub(super) struct SystemPlugin {
    pub(super) plugins: Vec<Plugin>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// `unchecked`: what there is that no HTTP filter sees.
pub(super) fn translate(
    resources: &ResourceSet,
    registry: &Registry<'_>,
    options: &TranslateOptions,
    unchecked: Option<&str>,
) -> SystemPlugin {
    let chosen = |spec: &AuthorizationPolicy| Chosen {
        selector: spec.selector.clone(),
        has_targets: spec.target_ref.is_some() || !spec.target_refs.is_empty(),
    };
    let (selected, mut diagnostics) = for_gateway(resources.authorization_policies(), chosen, resources, options);
    let first = selected.iter().find(|policy| is_served(policy));
    if let (Some(first), Some(unchecked)) = (first, unchecked) {
        let text = format!("{unchecked} are not checked yet: only requests are");
        diagnostics.push(Diagnostic::warning("P0346", first.key_place("spec"), text));
    }
    let is_custom = |policy: &&Object<AuthorizationPolicy>| policy.spec.action.as_deref() == Some("CUSTOM");
    let (custom, own): (Vec<_>, Vec<_>) = selected.into_iter().partition(is_custom);
    let mut written = |policies: &[&Object<AuthorizationPolicy>]| -> Vec<Value> {
        policies.iter().map(|policy| of_policy(policy, &mut diagnostics)).collect()
    };
    let (asked, mut policies) = (written(&custom), written(&own));
    let custom: Vec<_> = custom.into_iter().filter(|policy| is_served(policy)).collect();
    let mut plugins = ext_authz::plugins(&custom, asked.clone(), resources, registry).unwrap_or_else(|reason| {
        // As in Istio, where nobody can be asked nobody passes.
        let refused = |policy: &&Object<AuthorizationPolicy>| {
            let text = format!("{reason}: requests that fit this policy are refused");
            Diagnostic::warning("P0345", policy.place("spec.provider.name"), text)
        };
        diagnostics.extend(custom.iter().map(refused));
        policies.splice(0..0, asked);
        Vec::new()
    });
    let guard = own.iter().copied().find(|policy| is_served(policy));
    let guard = guard.or_else(|| custom.first().copied().filter(|_| plugins.is_empty()));
    let first = guard.or_else(|| own.into_iter().find(|policy| tells(policy)));
    plugins.extend(first.map(|first| {
        let config = json!({ "policies": policies }).to_string();
        let plugin = plugin("authorization", PluginPhase::Authz, config, first);
        // What only tells keeps nobody out, even when it cannot run.
        let fail_policy = if guard.is_some() { FailPolicy::FailClose } else { FailPolicy::FailOpen };
        Plugin { fail_policy, ..plugin }
    }));
    SystemPlugin { plugins, diagnostics }
}

/// What an object says of whom it is for.
pub(super) struct Chosen {
    pub(super) selector: Option<LabelSelector>,
    pub(super) has_targets: bool,
}

/// The objects that are for this gateway, oldest first, and a note for each other one.
pub(super) fn for_gateway<'a, T>(
    objects: impl Iterator<Item = &'a Object<T>>,
    chosen: impl Fn(&T) -> Chosen,
    resources: &ResourceSet,
    options: &TranslateOptions,
) -> (Vec<&'a Object<T>>, Vec<Diagnostic>) {
    let root = mesh::root_namespace(resources);
    let (mut selected, others): (Vec<_>, Vec<_>) =
        objects.partition(|object| is_for_gateway(&object.meta, &chosen(&object.spec), &root, options));
    selected.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    (selected, others.into_iter().map(not_here).collect())
}

/// A plugin with a filter of the library. Its name has no dot, so that no object's plugin has the same.
pub(super) fn plugin<T>(filter: &str, phase: PluginPhase, config: String, object: &Object<T>) -> Plugin {
    Plugin {
        name: filter.to_owned(),
        root_id: String::new(),
        kind: PluginKind::Http,
        phase,
        priority: 0,
        code: PluginCode::Bundled(filter.to_owned()),
        sha256: None,
        verification_key: None,
        config,
        schema: None,
        fail_policy: FailPolicy::FailClose,
        env: Vec::new(),
        matches: None,
        limits: portolan_model::PluginLimits::default(),
        canary: None,
        headers_stop_iteration: false,
        origin: object.origin(""),
    }
}

/// Policies of the root namespace count everywhere, others in their own; what is for Gateway API is not for this gateway.
fn is_for_gateway(meta: &Meta, chosen: &Chosen, root: &str, options: &TranslateOptions) -> bool {
    let is_here = meta.namespace == root || meta.namespace == options.namespace;
    let fits = |selector: &LabelSelector| fits(&selector.match_labels, &options.labels);
    is_here && !chosen.has_targets && chosen.selector.as_ref().is_none_or(fits)
}

/// A note, for all of a folder's policies are mostly meant for this gateway.
fn not_here<T>(object: &Object<T>) -> Diagnostic {
    let text =
        format!("this {} has no effect here: it is for another namespace, other labels or targets", object.meta.kind);
    let finding = Diagnostic::warning("P0251", object.key_place("metadata.namespace"), text);
    let help = "a gateway goes by those of the root namespace and of its own whose selector fits its labels";
    Diagnostic { severity: Severity::Note, ..finding.with_help(help) }
}

/// Whether something is refused for this policy.
fn is_served(policy: &Object<AuthorizationPolicy>) -> bool {
    policy.spec.action.as_deref() != Some("AUDIT") && !is_dry_run(policy)
}

/// Whether something is told of this policy only: it is tried out, or audits.
fn tells(policy: &Object<AuthorizationPolicy>) -> bool {
    let action = policy.spec.action.as_deref().unwrap_or("ALLOW");
    action != "CUSTOM" && is_dry_run(policy) != (action == "AUDIT")
}

fn is_dry_run(policy: &Object<AuthorizationPolicy>) -> bool {
    let value = policy.meta.annotations.get(DRY_RUN);
    value.is_some_and(|value| YES.contains(&value.as_str()))
}

/// The policy for the filter.
fn of_policy(policy: &Object<AuthorizationPolicy>, found: &mut Vec<Diagnostic>) -> Value {
    let action = policy.spec.action.as_deref().unwrap_or("ALLOW");
    let dry_run = is_dry_run(policy);
    let is_allow = action == "ALLOW";
    // A rule keeps its number, which the access log tells.
    let rules = policy.spec.rules.iter().enumerate().map(|(i, rule)| of_rule(policy, i, rule, is_allow, found));
    let rules: Vec<Value> = rules.collect();
    let action = if action == "CUSTOM" { "DENY" } else { action };
    let (name, namespace) = (&policy.meta.name, &policy.meta.namespace);
    let mut written = json!({ "name": name, "namespace": namespace, "action": action, "rules": rules });
    if dry_run {
        written["dryRun"] = json!(true);
    }
    written
}

/// What cannot be asked makes less pass: a rule that allows does not count, one that refuses asks for the rest only.
fn of_rule(
    policy: &Object<AuthorizationPolicy>,
    place: usize,
    rule: &Rule,
    is_allow: bool,
    found: &mut Vec<Diagnostic>,
) -> Value {
    let mut rule = rule.clone();
    let is_unserved = |key: &str| key.starts_with(EXPERIMENTAL);
    let unserved: Vec<usize> =
        rule.when.iter().enumerate().filter(|(_, condition)| is_unserved(&condition.key)).map(|(i, _)| i).collect();
    for i in &unserved {
        let instead = if is_allow { "this rule allows nothing" } else { "the rest of this rule decides" };
        let at = policy.place(&format!("spec.rules[{place}].when[{i}].key"));
        let text = format!("metadata of Envoy's filters is not served: {instead}");
        found.push(Diagnostic::warning("P0345", at, text));
    }
    rule.when.retain(|condition| !is_unserved(&condition.key));
    if is_allow && !unserved.is_empty() {
        // Fits nothing: every request has a method.
        return json!({ "to": [{ "operation": { "notMethods": ["*"] } }] });
    }
    without_empty(serde_json::to_value(rule).unwrap_or_default())
}

/// Without the lists that nothing stands in.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let is_there = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
            let kept = map.into_iter().filter(|(_, value)| is_there(value));
            Value::Object(kept.map(|(name, value)| (name, without_empty(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without_empty).collect()),
        other => other,
    }
}
