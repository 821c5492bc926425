//! What the filter accepts: the fields of Istio's `envoyExtAuthzHttp` and `envoyExtAuthzGrpc` (MeshConfig.extensionProviders).

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_filter_conditions::RequestMatch;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::names::Names;

/// Largest body that may be asked for: more than the host holds of one would never come together.
const MAX_BODY: usize = 1024 * 1024;

/// The configuration.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Ask over HTTP.
    http: Option<HttpConfig>,
    /// Ask over gRPC (`envoy.service.auth.v3.Authorization/Check`).
    grpc: Option<GrpcConfig>,
    /// Longest wait for the service, in milliseconds.
    #[serde(default = "default_timeout")]
    #[schema(minimum = 1, maximum = 600000)]
    timeout_milliseconds: u32,
    /// Requests pass when the service cannot be asked or fails. The default refuses them.
    #[serde(default)]
    fail_open: bool,
    /// Status of a request that is refused because the service cannot be asked or fails.
    #[serde(default = "default_status")]
    #[schema(minimum = 200, maximum = 599)]
    status_on_error: u32,
    /// Sends the request's body along.
    include_request_body_in_check: Option<BodyConfig>,
    /// Routes the request anew when the service has changed it.
    #[serde(default)]
    clear_route_cache: bool,
    /// Asks only about requests that the filter `authorization` has marked: those that Istio's action CUSTOM is for.
    #[serde(default)]
    only_marked: bool,
    /// Requests that are not asked about.
    #[serde(default)]
    exempt: Vec<RequestMatch>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HttpConfig {
    /// Who is asked: a cluster (`outbound|8000||authz.example.com`) or `HOST:PORT`.
    #[schema(min_length = 1)]
    cluster: String,
    /// Stands before the path of each question.
    #[serde(default)]
    path_prefix: String,
    /// Headers of the request that the service sees, besides host, method, path and authorization; `x-*` and `*-id` are patterns.
    #[serde(default)]
    include_request_headers_in_check: Vec<String>,
    /// Headers that are added to each question.
    #[serde(default)]
    include_additional_headers_in_check: BTreeMap<String, String>,
    /// Headers of a good answer that the upstream gets.
    #[serde(default)]
    headers_to_upstream_on_allow: Vec<String>,
    /// Headers of a refusal that the client gets; all when not given.
    headers_to_downstream_on_deny: Option<Vec<String>>,
    /// Headers of a good answer that the client gets with the response.
    #[serde(default)]
    headers_to_downstream_on_allow: Vec<String>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GrpcConfig {
    /// Who is asked: a cluster (`outbound|9000||authz.example.com`) or `HOST:PORT`.
    #[schema(min_length = 1)]
    cluster: String,
    /// `context_extensions` of each question.
    #[serde(default)]
    context_extensions: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BodyConfig {
    /// Most bytes that are sent.
    #[schema(minimum = 1, maximum = 1048576)]
    max_request_bytes: usize,
    /// A longer body is sent in part; without, it is answered with 413.
    #[serde(default)]
    allow_partial_message: bool,
    /// gRPC: as bytes (`raw_body`) instead of text.
    #[serde(default)]
    pack_as_bytes: bool,
}

/// Envoy's own default of 200 ms is short for a service that asks others; Istio's of ten minutes holds requests too long.
fn default_timeout() -> u32 {
    2_000
}

fn default_status() -> u32 {
    403
}

/// How requests are asked about.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Whom and how.
    pub(crate) service: Service,
    /// Longest wait.
    pub(crate) timeout: Duration,
    /// Requests pass when the service cannot be asked.
    pub(crate) fail_open: bool,
    /// Otherwise they get this status.
    pub(crate) status_on_error: u32,
    /// The body goes along.
    pub(crate) body: Option<Body>,
    /// A changed request is routed anew.
    pub(crate) clear_route_cache: bool,
    /// Only what is marked is asked about.
    pub(crate) only_marked: bool,
    /// Requests that are not asked about.
    pub(crate) exempt: Vec<RequestMatch>,
}

/// Whom to ask.
#[derive(Debug)]
pub(crate) enum Service {
    /// Over HTTP.
    Http(Http),
    /// Over gRPC: cluster and context extensions.
    Grpc(String, Vec<(String, String)>),
}

/// How to ask over HTTP.
#[derive(Debug)]
pub(crate) struct Http {
    /// Who is asked.
    pub(crate) cluster: String,
    /// Stands before the path.
    pub(crate) path_prefix: String,
    /// Headers that are sent.
    pub(crate) request: Names,
    /// Headers that are added.
    pub(crate) additional: Vec<(String, String)>,
    /// Headers from a good answer to the upstream.
    pub(crate) to_upstream: Names,
    /// Headers from a refusal to the client; all when absent.
    pub(crate) to_client_on_deny: Option<Names>,
    /// Headers from a good answer to the client.
    pub(crate) to_client_on_allow: Names,
}

/// How much of a body goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Most bytes.
    pub(crate) limit: usize,
    /// A longer one is sent in part.
    pub(crate) partial: bool,
    /// As bytes.
    pub(crate) as_bytes: bool,
}

/// Checks the configuration.
pub(crate) fn read(config: Config) -> Result<Policy, ConfigError> {
    if !(200..600).contains(&config.status_on_error) {
        return Err(ConfigError::new(format!(
            "`statusOnError` {} is not a status from 200 to 599",
            config.status_on_error
        )));
    }
    if config.timeout_milliseconds == 0 || config.timeout_milliseconds > 600_000 {
        return Err(ConfigError::new("`timeoutMilliseconds` wants 1 to 600000"));
    }
    let body = config.include_request_body_in_check.map(body).transpose()?;
    Ok(Policy {
        service: service(config.http, config.grpc)?,
        timeout: Duration::from_millis(config.timeout_milliseconds.into()),
        fail_open: config.fail_open,
        status_on_error: config.status_on_error,
        body,
        clear_route_cache: config.clear_route_cache,
        only_marked: config.only_marked,
        exempt: config.exempt,
    })
}

fn body(config: BodyConfig) -> Result<Body, ConfigError> {
    if config.max_request_bytes == 0 || config.max_request_bytes > MAX_BODY {
        return Err(ConfigError::new(format!("`maxRequestBytes` wants 1 to {MAX_BODY}")));
    }
    Ok(Body { limit: config.max_request_bytes, partial: config.allow_partial_message, as_bytes: config.pack_as_bytes })
}

fn service(http: Option<HttpConfig>, grpc: Option<GrpcConfig>) -> Result<Service, ConfigError> {
    let service = match (http, grpc) {
        (Some(http), None) => Service::Http(read_http(http)?),
        (None, Some(grpc)) => Service::Grpc(grpc.cluster, grpc.context_extensions.into_iter().collect()),
        _ => return Err(ConfigError::new("set exactly one of `http` and `grpc`")),
    };
    let cluster = match &service {
        Service::Http(http) => &http.cluster,
        Service::Grpc(cluster, _) => cluster,
    };
    if cluster.is_empty() { Err(ConfigError::new("`cluster` is empty")) } else { Ok(service) }
}

fn read_http(config: HttpConfig) -> Result<Http, ConfigError> {
    if !config.path_prefix.is_empty() && !config.path_prefix.starts_with('/') {
        return Err(ConfigError::new("`pathPrefix` starts with `/`"));
    }
    let headers = |field, list| Names::read(field, list, str::to_ascii_lowercase);
    let mut additional = Vec::new();
    for (name, value) in config.include_additional_headers_in_check {
        if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err(ConfigError::new(format!(
                "`includeAdditionalHeadersInCheck`: no header can hold the value of `{name}`"
            )));
        }
        additional.push((name.to_ascii_lowercase(), value));
    }
    let to_client_on_deny = config.headers_to_downstream_on_deny;
    Ok(Http {
        cluster: config.cluster,
        path_prefix: config.path_prefix,
        request: headers("includeRequestHeadersInCheck", config.include_request_headers_in_check)?,
        additional,
        to_upstream: headers("headersToUpstreamOnAllow", config.headers_to_upstream_on_allow)?,
        to_client_on_deny: to_client_on_deny.map(|list| headers("headersToDownstreamOnDeny", list)).transpose()?,
        to_client_on_allow: headers("headersToDownstreamOnAllow", config.headers_to_downstream_on_allow)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn parse(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json)
            .map_err(|error| error.to_string())
            .and_then(|config| read(config).map_err(|error| error.to_string()))
    }

    #[test]
    fn the_default_refuses_when_nobody_answers() {
        let policy = parse(r#"{"grpc": {"cluster": "authz:9000"}}"#).unwrap();
        assert!(!policy.fail_open && policy.body.is_none());
        assert_eq!((policy.status_on_error, policy.timeout.as_millis()), (403, 2_000));
    }

    #[test]
    fn mistakes_are_told() {
        for (json, reason) in [
            ("{}", "set exactly one of `http` and `grpc`"),
            (r#"{"http": {"cluster": ""}}"#, "`cluster` is empty"),
            (r#"{"http": {"cluster": "a:1", "pathPrefix": "x"}}"#, "`pathPrefix` starts with `/`"),
            (
                r#"{"grpc": {"cluster": "a:1"}, "statusOnError": 99}"#,
                "`statusOnError` 99 is not a status from 200 to 599",
            ),
            (r#"{"grpc": {"cluster": "a:1"}, "timeoutMilliseconds": 0}"#, "`timeoutMilliseconds` wants 1 to 600000"),
            (
                r#"{"grpc": {"cluster": "a:1"}, "includeRequestBodyInCheck": {"maxRequestBytes": 0}}"#,
                "`maxRequestBytes` wants 1 to 1048576",
            ),
            (
                r#"{"http": {"cluster": "a:1", "includeRequestHeadersInCheck": ["a*b"]}}"#,
                "`includeRequestHeadersInCheck`: `a*b` has a star inside",
            ),
        ] {
            assert_eq!(parse(json).map(|_| ()), Err(reason.to_owned()), "{json}");
        }
    }
}
