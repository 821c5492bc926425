//! Extension providers that are asked about requests, for AuthorizationPolicies with CUSTOM.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

/// `envoyExtAuthzHttp`: asked over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtAuthzHttp {
    /// Host of the service, with `NAMESPACE/` or without.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Duration; 600 s by default.
    pub timeout: Option<String>,
    /// Stands before the path of each question.
    pub path_prefix: String,
    /// Requests pass when the service cannot be asked or fails.
    pub fail_open: Option<bool>,
    /// The route is chosen anew after a good answer.
    pub clear_route_cache: Option<bool>,
    /// Status of what is refused because the service cannot be asked; 403 by default. Text or a number.
    pub status_on_error: Option<Value>,
    /// Older name of `includeRequestHeadersInCheck`.
    pub include_headers_in_check: Vec<String>,
    /// Headers of the request that the service sees.
    pub include_request_headers_in_check: Vec<String>,
    /// Headers that are added to each question.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// The body goes along.
    pub include_request_body_in_check: Option<ExtAuthzBody>,
    /// Headers of a good answer that the upstream gets.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of a refusal that the client gets; all when absent.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of a good answer that the client gets.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// `envoyExtAuthzGrpc`: asked over gRPC.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtAuthzGrpc {
    /// Host of the service, with `NAMESPACE/` or without.
    pub service: String,
    /// Its port.
    pub port: u32,
    /// Duration; 600 s by default.
    pub timeout: Option<String>,
    /// Requests pass when the service cannot be asked or fails.
    pub fail_open: Option<bool>,
    /// The route is chosen anew after a good answer.
    pub clear_route_cache: Option<bool>,
    /// Status of what is refused because the service cannot be asked; 403 by default. Text or a number.
    pub status_on_error: Option<Value>,
    /// The body goes along.
    pub include_request_body_in_check: Option<ExtAuthzBody>,
}

/// How much of a body goes along.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExtAuthzBody {
    /// Most bytes.
    pub max_request_bytes: u32,
    /// A longer body is sent in part; without, it is answered with 413.
    pub allow_partial_message: Option<bool>,
    /// gRPC: as bytes.
    pub pack_as_bytes: Option<bool>,
}
