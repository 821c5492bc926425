//! Authentication: the RequestAuthentications that are for this gateway, made one plugin with the filter `jwt-auth`.
//! Semantics: Istio's `convertToEnvoyJwtConfig`.

use portolan_model::PluginPhase;
use serde_json::{Map, Value, json};

use super::authorization::{Chosen, SystemPlugin, for_gateway, plugin};
use super::registry::Registry;
use super::{TranslateOptions, conditions};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::object::Object;
use crate::resources::istio::request_authentication::JwtRule;
use crate::resources::istio::{RequestAuthentication, VirtualService};

pub(super) fn translate(resources: &ResourceSet, registry: &Registry<'_>, options: &TranslateOptions) -> SystemPlugin {
    let chosen = |spec: &RequestAuthentication| Chosen {
        selector: spec.selector.clone(),
        has_targets: spec.target_ref.is_some() || !spec.target_refs.is_empty(),
    };
    let (selected, mut diagnostics) = for_gateway(resources.request_authentications(), chosen, resources, options);
    let written =
        selected.iter().flat_map(|object| object.spec.jwt_rules.iter().enumerate().map(|(i, rule)| (*object, i, rule)));
    let mut rules: Vec<(&Object<RequestAuthentication>, usize, &JwtRule)> = written.collect();
    // Stable, as Istio sorts them.
    rules.sort_by(|a, b| a.2.issuer.cmp(&b.2.issuer));
    let config: Vec<Value> =
        rules.iter().map(|(object, i, rule)| of_rule(object, *i, rule, registry, &mut diagnostics)).collect();
    let first = selected.iter().find(|object| !object.spec.jwt_rules.is_empty());
    let mut config = json!({ "rules": config });
    // The first choice of a route knows no claims: the filters that choose come first.
    if first.is_some() && resources.virtual_services().any(asks_for_claims) {
        config["clearRouteCache"] = json!(true);
    }
    let plugin = first.map(|first| plugin("jwt-auth", PluginPhase::Authn, config.to_string(), first));
    SystemPlugin { plugins: plugin.into_iter().collect(), diagnostics }
}

fn asks_for_claims(object: &Object<VirtualService>) -> bool {
    object.spec.http.iter().flat_map(|rule| &rule.matches).any(conditions::asks_for_claims)
}

/// The rule as the filter takes it: Istio's fields, keys of one kind, and times in milliseconds.
fn of_rule(
    object: &Object<RequestAuthentication>,
    place: usize,
    rule: &JwtRule,
    registry: &Registry<'_>,
    found: &mut Vec<Diagnostic>,
) -> Value {
    let headers = rule.from_headers.iter().map(|header| json!({ "name": header.name, "prefix": header.prefix }));
    let outputs = rule.output_claim_to_headers.iter().map(|out| json!({ "header": out.header, "claim": out.claim }));
    let mut fields = Map::new();
    fields.insert("issuer".to_owned(), json!(rule.issuer));
    let lists = [
        ("audiences", json!(rule.audiences)),
        ("fromHeaders", headers.collect()),
        ("fromParams", json!(rule.from_params)),
        ("fromCookies", json!(rule.from_cookies)),
        ("outputClaimToHeaders", outputs.collect()),
    ];
    let lists = lists.into_iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()));
    fields.extend(lists.map(|(name, list)| (name.to_owned(), list)));
    if rule.forward_original_token {
        fields.insert("forwardOriginalToken".to_owned(), json!(true));
    }
    if let Some(name) = rule.output_payload_to_header.as_ref().filter(|name| !name.is_empty()) {
        fields.insert("outputPayloadToHeader".to_owned(), json!(name));
    }
    if let Some(timeout) = rule.timeout.as_deref().and_then(duration::parse_ms) {
        fields.insert("timeoutMilliseconds".to_owned(), json!(timeout.min(60_000)));
    }
    match keys(rule, registry) {
        Ok(keys) => fields.extend(keys),
        Err(reason) => {
            // As Istio does while it has no keys: every token of the issuer is refused.
            fields.insert("jwks".to_owned(), json!({ "keys": [] }));
            let place = object.place(&format!("spec.jwtRules[{place}]"));
            found.push(Diagnostic::warning("P0347", place, format!("{reason}: every token of this issuer is refused")));
        }
    }
    Value::Object(fields)
}

/// Where the keys are; the reason when there is no way to them.
fn keys(rule: &JwtRule, registry: &Registry<'_>) -> Result<Vec<(String, Value)>, String> {
    if let Some(text) = rule.jwks.as_ref().filter(|text| !text.is_empty()) {
        return Ok(vec![("jwks".to_owned(), json!(text))]);
    }
    let given = rule.jwks_uri.as_ref().filter(|uri| !uri.is_empty());
    // As istiod looks for them.
    let discovery = || format!("{}/.well-known/openid-configuration", rule.issuer.trim_end_matches('/'));
    let (field, uri) = given.map_or_else(|| ("discoveryUri", discovery()), |uri| ("jwksUri", uri.clone()));
    let uri = uri.as_str();
    let mut fields = vec![(field.to_owned(), json!(uri))];
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let usual = if scheme == "https" { 443 } else { 80 };
    let with_port = authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = with_port.unwrap_or((authority, usual));
    if registry.ports(host).is_some_and(|ports| ports.contains(&port)) {
        fields.push(("jwksCluster".to_owned(), json!(format!("outbound|{port}||{host}"))));
    } else if given.is_none() {
        let service = "which is asked where its keys are, is no service with this port";
        return Err(format!("`jwksUri` is not set, and the issuer's `{host}:{port}`, {service}"));
    } else if scheme == "https" {
        return Err(format!("keys come over https from what is a service only, and none is `{host}` with port {port}"));
    }
    Ok(fields)
}
