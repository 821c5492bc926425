//! AuthorizationPolicies with CUSTOM: the filter `authorization` marks what they fit, and the filter `ext-authz` asks the
//! provider about that. Semantics: Istio's `extauthz.go`.

use portolan_model::{Plugin, PluginPhase};
use serde_json::{Map, Value, json};

use super::authorization::plugin;
use super::mesh;
use super::registry::Registry;
use crate::ResourceSet;
use crate::duration;
use crate::object::Object;
use crate::resources::istio::ext_authz::{ExtAuthzBody, ExtAuthzGrpc, ExtAuthzHttp};
use crate::resources::istio::{AuthorizationPolicy, ExtensionProvider};

/// Istio's default, and the filter's longest.
const TIMEOUT_MS: u64 = 600_000;

/// The filter's largest body.
const MAX_BODY: u32 = 1024 * 1024;

/// The plugins of these policies, `written` for the filter; the reason when their provider cannot be asked.
pub(super) fn plugins(
    policies: &[&Object<AuthorizationPolicy>],
    written: Vec<Value>,
    resources: &ResourceSet,
    registry: &Registry<'_>,
) -> Result<Vec<Plugin>, String> {
    let Some(first) = policies.first() else { return Ok(Vec::new()) };
    let name =
        |policy: &Object<AuthorizationPolicy>| policy.spec.provider.as_ref().map(|provider| provider.name.clone());
    let wanted = name(first).unwrap_or_default();
    if policies.iter().any(|policy| name(policy).as_ref() != Some(&wanted)) {
        return Err("policies with CUSTOM name several providers".to_owned());
    }
    let provider = mesh::first(resources, |mesh| {
        mesh.extension_providers.iter().find(|provider| provider.name == wanted).cloned()
    });
    let Some(provider) = provider else {
        return Err(format!("the mesh configuration has no extension provider `{wanted}`"));
    };
    let asked = config(&provider, registry)?;
    let marking = json!({ "markForExtAuthz": true, "policies": written });
    let mut marker = plugin("authorization", PluginPhase::Authz, marking.to_string(), first);
    marker.name = "authorization-custom".to_owned();
    let mut asking = plugin("ext-authz", PluginPhase::Authz, asked.to_string(), first);
    // Requests wait for the provider as long as it may take.
    asking.limits.paused_deadline_ms = asked["timeoutMilliseconds"].as_u64().map(|timeout| timeout + 1000);
    Ok(vec![marker, asking])
}

/// The provider as the filter takes it.
fn config(provider: &ExtensionProvider, registry: &Registry<'_>) -> Result<Value, String> {
    match (&provider.envoy_ext_authz_http, &provider.envoy_ext_authz_grpc) {
        (Some(http), _) => of_http(http, registry),
        (_, Some(grpc)) => of_grpc(grpc, registry),
        (None, None) => Err(format!("provider `{}` is no authorization service", provider.name)),
    }
}

fn of_http(http: &ExtAuthzHttp, registry: &Registry<'_>) -> Result<Value, String> {
    if !http.path_prefix.is_empty() && !http.path_prefix.starts_with('/') {
        return Err("`pathPrefix` does not start with `/`".to_owned());
    }
    let mut fields = Map::new();
    fields.insert("cluster".to_owned(), json!(cluster(&http.service, http.port, registry)?));
    if !http.path_prefix.is_empty() {
        fields.insert("pathPrefix".to_owned(), json!(http.path_prefix));
    }
    let sent = if http.include_request_headers_in_check.is_empty() {
        &http.include_headers_in_check
    } else {
        &http.include_request_headers_in_check
    };
    let lists = [
        ("includeRequestHeadersInCheck", sent),
        ("headersToUpstreamOnAllow", &http.headers_to_upstream_on_allow),
        ("headersToDownstreamOnDeny", &http.headers_to_downstream_on_deny),
        ("headersToDownstreamOnAllow", &http.headers_to_downstream_on_allow),
    ];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    fields.extend(lists.map(|(name, list)| (name.to_owned(), json!(list))));
    if !http.include_additional_headers_in_check.is_empty() {
        let added = json!(http.include_additional_headers_in_check);
        fields.insert("includeAdditionalHeadersInCheck".to_owned(), added);
    }
    let common = Common {
        timeout: http.timeout.as_deref(),
        fail_open: http.fail_open,
        clear_route_cache: http.clear_route_cache,
        status_on_error: http.status_on_error.as_ref(),
        body: http.include_request_body_in_check.as_ref(),
    };
    common.with("http", Value::Object(fields))
}

fn of_grpc(grpc: &ExtAuthzGrpc, registry: &Registry<'_>) -> Result<Value, String> {
    let common = Common {
        timeout: grpc.timeout.as_deref(),
        fail_open: grpc.fail_open,
        clear_route_cache: grpc.clear_route_cache,
        status_on_error: grpc.status_on_error.as_ref(),
        body: grpc.include_request_body_in_check.as_ref(),
    };
    common.with("grpc", json!({ "cluster": cluster(&grpc.service, grpc.port, registry)? }))
}

/// What both kinds have.
struct Common<'a> {
    timeout: Option<&'a str>,
    fail_open: Option<bool>,
    clear_route_cache: Option<bool>,
    status_on_error: Option<&'a serde_yaml::Value>,
    body: Option<&'a ExtAuthzBody>,
}

impl Common<'_> {
    fn with(&self, kind: &str, service: Value) -> Result<Value, String> {
        let timeout = self.timeout.and_then(duration::parse_ms).unwrap_or(TIMEOUT_MS).clamp(1, TIMEOUT_MS);
        let mut config = json!({ kind: service, "onlyMarked": true, "timeoutMilliseconds": timeout });
        if self.fail_open == Some(true) {
            config["failOpen"] = json!(true);
        }
        if self.clear_route_cache == Some(true) {
            config["clearRouteCache"] = json!(true);
        }
        if let Some(status) = self.status_on_error.map(status).transpose()?.flatten() {
            config["statusOnError"] = json!(status);
        }
        if let Some(body) = self.body.filter(|body| body.max_request_bytes > 0) {
            config["includeRequestBodyInCheck"] = json!({
                "maxRequestBytes": body.max_request_bytes.min(MAX_BODY),
                "allowPartialMessage": body.allow_partial_message == Some(true),
                "packAsBytes": body.pack_as_bytes == Some(true),
            });
        }
        Ok(config)
    }
}

/// None for an empty text, which is the default.
fn status(value: &serde_yaml::Value) -> Result<Option<u64>, String> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    match number {
        Some(status) if (200..600).contains(&status) => Ok(Some(status)),
        None if value.as_str().is_some_and(str::is_empty) => Ok(None),
        _ => Err("`statusOnError` is not a status from 200 to 599".to_owned()),
    }
}

fn cluster(service: &str, port: u32, registry: &Registry<'_>) -> Result<String, String> {
    let host = service.rsplit('/').next().unwrap_or_default();
    let port = u16::try_from(port).unwrap_or_default();
    if registry.ports(host).is_some_and(|ports| ports.contains(&port)) {
        return Ok(format!("outbound|{port}||{host}"));
    }
    Err(format!("nothing defines `{host}` with port {port}"))
}
