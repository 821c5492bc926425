//! What the filter accepts: the fields of Istio's RequestAuthentication (`jwtRules`), and a few of our own.

use std::time::Duration;

use portolan_filter_conditions::RequestMatch;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;
use serde_json::Value;

use crate::jwks::Keys;
use crate::rule::{ClaimRule, HeaderSource, KeySource, RemoteKeys, Rule};

/// Most rules; each is asked for each token.
const MAX_RULES: usize = 50;

/// The configuration.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Who makes tokens, and with which keys.
    #[schema(min_items = 1, max_items = 50)]
    rules: Vec<JwtRule>,
    /// Requests without a token are refused as well. Istio's RequestAuthentication lets them pass.
    #[serde(default)]
    required: bool,
    /// Requests that are not looked at.
    #[serde(default)]
    exempt: Vec<RequestMatch>,
    /// Claims that some requests need. Such a request is refused without a token that has them.
    #[serde(default)]
    claims: Vec<ClaimConfig>,
    /// Checked tokens that are remembered, by worker; none beyond its `exp`, or five minutes.
    #[serde(default = "default_cache_size")]
    #[schema(maximum = 100000)]
    cache_size: usize,
    /// Routes a request with a token anew: routes that ask for claims can be found then.
    #[serde(default)]
    clear_route_cache: bool,
}

/// One issuer, with the fields of Istio's JWTRule.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct JwtRule {
    /// What `iss` must be; empty, with `jwksUri`, takes any.
    issuer: String,
    /// What `aud` must have one of; any when empty.
    #[serde(default)]
    audiences: Vec<String>,
    /// The keys: a JSON Web Key Set, as text or as an object. An object without any key refuses every token.
    jwks: Option<Value>,
    /// Where the keys are: `http://HOST[:PORT]/PATH`; with `jwksCluster` also `https`.
    jwks_uri: Option<String>,
    /// Where the issuer says where its keys are, instead of `jwksUri`: `HOST/.well-known/openid-configuration` (OpenID Connect
    /// Discovery). It needs `jwksCluster`, and the keys must be at a service (`outbound|PORT||HOST`).
    discovery_uri: Option<String>,
    /// The cluster that is asked for `jwksUri` (`outbound|443||issuer.example.com`).
    jwks_cluster: Option<String>,
    /// Seconds after which keys are fetched again.
    #[serde(default = "default_refresh")]
    jwks_refresh_seconds: u32,
    /// Longest wait for keys, in milliseconds.
    #[serde(default = "default_timeout")]
    timeout_milliseconds: u32,
    /// Headers that hold tokens, instead of `authorization: Bearer`.
    #[serde(default)]
    from_headers: Vec<FromHeader>,
    /// Query parameters that hold tokens, instead of `access_token`.
    #[serde(default)]
    from_params: Vec<String>,
    /// Cookies that hold tokens.
    #[serde(default)]
    from_cookies: Vec<String>,
    /// The upstream gets the token, too.
    #[serde(default)]
    forward_original_token: bool,
    /// Header with the claims (base64url, as in the token) for the upstream.
    output_payload_to_header: Option<String>,
    /// Headers with single claims for the upstream.
    #[serde(default)]
    output_claim_to_headers: Vec<ClaimToHeader>,
    /// Seconds that clocks may differ by.
    #[serde(default = "default_skew")]
    clock_skew_seconds: u32,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct FromHeader {
    /// The header.
    name: String,
    /// What stands before the token, e.g. `Bearer `.
    #[serde(default)]
    prefix: String,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct ClaimToHeader {
    /// The header.
    header: String,
    /// The claim; names within objects are joined with dots.
    claim: String,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct ClaimConfig {
    /// Which requests need them; all when empty.
    #[serde(default, rename = "match")]
    when: RequestMatch,
    /// All of them must hold.
    require: Vec<RequiredClaim>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct RequiredClaim {
    /// The claim; names within objects are joined with dots.
    name: String,
    /// What it must be, or have one of when it is a list (or a text of words, as `scope`); any value when empty.
    #[serde(default)]
    values: Vec<String>,
}

fn default_cache_size() -> usize {
    1_000
}

/// Istio's `PILOT_JWT_PUB_KEY_REFRESH_INTERVAL`.
fn default_refresh() -> u32 {
    20 * 60
}

/// Istio's default of `timeout`.
fn default_timeout() -> u32 {
    5_000
}

/// Envoy's `clock_skew_seconds`.
fn default_skew() -> u32 {
    60
}

/// What holds for requests.
#[derive(Debug)]
pub(crate) struct Policy {
    /// The issuers.
    pub(crate) rules: Vec<Rule>,
    /// Requests without a token are refused.
    pub(crate) required: bool,
    /// Requests that are not looked at.
    pub(crate) exempt: Vec<RequestMatch>,
    /// Claims that some requests need.
    pub(crate) claims: Vec<ClaimRule>,
    /// Entries of the cache.
    pub(crate) cache_size: usize,
    /// A request with a token is routed anew.
    pub(crate) clear_route_cache: bool,
}

impl Policy {
    /// Keys of the configuration that are of no use: the rule's place, and why.
    pub(crate) fn skipped_keys(&self) -> impl Iterator<Item = (usize, &str)> {
        self.rules.iter().enumerate().flat_map(|(place, rule)| {
            let skipped = match &rule.keys {
                KeySource::Inline(keys) => keys.skipped.as_slice(),
                KeySource::Remote(_) => &[],
            };
            skipped.iter().map(move |reason| (place, reason.as_str()))
        })
    }
}

/// Checks the configuration.
pub(crate) fn read(config: Config) -> Result<Policy, ConfigError> {
    if config.rules.is_empty() || config.rules.len() > MAX_RULES {
        return Err(ConfigError::new(format!("`rules` wants 1 to {MAX_RULES} rules")));
    }
    if config.cache_size > 100_000 {
        return Err(ConfigError::new("`cacheSize` is at most 100000"));
    }
    let rules =
        config.rules.into_iter().enumerate().map(|(place, rule)| {
            read_rule(rule).map_err(|reason| ConfigError::new(format!("rules[{place}]: {reason}")))
        });
    Ok(Policy {
        rules: rules.collect::<Result<_, _>>()?,
        required: config.required,
        exempt: config.exempt,
        claims: config.claims.into_iter().map(claim_rule).collect(),
        cache_size: config.cache_size,
        clear_route_cache: config.clear_route_cache,
    })
}

fn claim_rule(config: ClaimConfig) -> ClaimRule {
    let require = config.require.into_iter().map(|claim| (claim.name, claim.values)).collect();
    ClaimRule { when: config.when, require }
}

fn read_rule(rule: JwtRule) -> Result<Rule, String> {
    if rule.issuer.is_empty() && rule.jwks_uri.is_none() {
        return Err("`issuer` is empty".to_owned());
    }
    let keys = key_source(&rule)?;
    let anywhere = rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty();
    let header = |header: FromHeader| HeaderSource { name: header.name.to_ascii_lowercase(), prefix: header.prefix };
    let (headers, params) = if anywhere {
        let bearer = HeaderSource { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() };
        (vec![bearer], vec!["access_token".to_owned()])
    } else {
        (rule.from_headers.into_iter().map(header).collect(), rule.from_params)
    };
    let outputs = rule.output_claim_to_headers.into_iter().map(|out| (out.header.to_ascii_lowercase(), out.claim));
    let rule = Rule {
        issuer: rule.issuer,
        audiences: rule.audiences,
        keys,
        headers,
        params,
        cookies: rule.from_cookies,
        forward: rule.forward_original_token,
        payload_header: rule.output_payload_to_header.map(|name| name.to_ascii_lowercase()),
        claim_headers: outputs.collect(),
        skew: u64::from(rule.clock_skew_seconds),
    };
    rule.check_names()?;
    Ok(rule)
}

fn key_source(rule: &JwtRule) -> Result<KeySource, String> {
    let uri = rule.jwks_uri.as_ref().xor(rule.discovery_uri.as_ref());
    if uri.is_none() && rule.jwks_uri.is_some() || rule.discovery_uri.is_some() && rule.jwks_cluster.is_none() {
        return Err("`discoveryUri` stands instead of `jwksUri`, with `jwksCluster`".to_owned());
    }
    match (&rule.jwks, uri) {
        (Some(inline), None) if has_no_key(inline) => Ok(KeySource::Inline(Keys::default())),
        (Some(inline), None) => {
            let text = inline.as_str().map_or_else(|| inline.to_string(), str::to_owned);
            Keys::read(text.as_bytes()).map(KeySource::Inline).map_err(|reason| format!("jwks: {reason}"))
        }
        (None, Some(uri)) => {
            let remote = RemoteKeys::new(uri, rule.jwks_cluster.as_deref())?;
            let refresh = Duration::from_secs(rule.jwks_refresh_seconds.max(1).into());
            let timeout = Duration::from_millis(rule.timeout_milliseconds.clamp(1, 60_000).into());
            let discovers = rule.discovery_uri.is_some();
            Ok(KeySource::Remote(RemoteKeys { refresh, timeout, discovers, ..remote }))
        }
        _ => Err("set exactly one of `jwks`, `jwksUri` and `discoveryUri`".to_owned()),
    }
}

/// Written so on purpose: an issuer whose keys there is no way to.
fn has_no_key(inline: &Value) -> bool {
    inline.get("keys").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn refusal(json: &str) -> String {
        match serde_json::from_str(json).map(read) {
            Ok(Ok(_)) => "accepted".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn istios_defaults_hold() {
        let json = r#"{"rules": [{"issuer": "i", "jwksUri": "http://keys.test:8080/a?b"}]}"#;
        let policy = read(serde_json::from_str(json).unwrap()).unwrap();
        let rule = &policy.rules[0];
        assert_eq!((rule.headers[0].name.as_str(), rule.headers[0].prefix.as_str()), ("authorization", "Bearer "));
        assert_eq!((rule.params.as_slice(), rule.skew), (["access_token".to_owned()].as_slice(), 60));
        let KeySource::Remote(remote) = &rule.keys else { unreachable!("the keys are fetched") };
        assert_eq!((remote.cluster.as_str(), remote.authority.as_str()), ("keys.test:8080", "keys.test:8080"));
        assert_eq!((remote.path.as_str(), remote.refresh.as_secs()), ("/a?b", 1200));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (json, reason) in [
            (r#"{"rules": []}"#, "`rules` wants 1 to 50 rules"),
            (r#"{"rules": [{"issuer": ""}]}"#, "rules[0]: `issuer` is empty"),
            (r#"{"rules": [{"issuer": "i"}]}"#, "rules[0]: set exactly one of `jwks`, `jwksUri` and `discoveryUri`"),
            (r#"{"rules": [{"issuer": "i", "jwks": "{}"}]}"#, "rules[0]: jwks: Jwks does not have [keys] field"),
            (
                r#"{"rules": [{"issuer": "i", "jwksUri": "ftp://x/"}]}"#,
                "rules[0]: `jwksUri` is `http://HOST[:PORT]/PATH`",
            ),
            (
                r#"{"rules": [{"issuer": "i", "jwksUri": "http://x/", "fromHeaders": [{"name": "a b"}]}]}"#,
                "rules[0]: `a b` is not a header name",
            ),
        ] {
            assert!(refusal(json).starts_with(reason), "{json}: {}", refusal(json));
        }
        let https = refusal(r#"{"rules": [{"issuer": "i", "jwksUri": "https://x/"}]}"#);
        assert!(https.contains("`jwksCluster`"), "{https}");
        assert!(
            refusal(r#"{"rules": [{"issuer": "i", "jwksUrl": "https://x/"}]}"#).contains("unknown field `jwksUrl`")
        );
    }
}
