//! Spec of the Istio `RequestAuthentication`.

use serde::Deserialize;

use super::wasm_plugin::{LabelSelector, TargetRef};

/// Which tokens are believed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RequestAuthentication {
    /// Must be a subset of the gateway's labels; absent means the whole namespace, in the root namespace everywhere.
    pub selector: Option<LabelSelector>,
    /// Of Gateway API; not for this gateway.
    pub target_ref: Option<TargetRef>,
    /// Of Gateway API; not for this gateway.
    pub target_refs: Vec<TargetRef>,
    /// One for each issuer.
    pub jwt_rules: Vec<JwtRule>,
}

/// An issuer's tokens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtRule {
    /// What `iss` must be; empty, with `jwksUri`, takes any.
    pub issuer: String,
    /// What `aud` must have one of; any when empty.
    pub audiences: Vec<String>,
    /// Where the keys are.
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: Option<String>,
    /// The keys; beats `jwksUri`.
    pub jwks: Option<String>,
    /// Headers that hold tokens.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that hold tokens.
    pub from_params: Vec<String>,
    /// Cookies that hold tokens.
    pub from_cookies: Vec<String>,
    /// Header with the claims for the upstream.
    pub output_payload_to_header: Option<String>,
    /// Headers with single claims for the upstream.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// The upstream gets the token, too.
    pub forward_original_token: bool,
    /// Longest wait for keys, 5 s by default.
    pub timeout: Option<String>,
}

/// A header that holds tokens.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct JwtHeader {
    /// Required.
    pub name: String,
    /// What stands before the token.
    pub prefix: String,
}

/// A claim for the upstream.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Required.
    pub header: String,
    /// Required.
    pub claim: String,
}
