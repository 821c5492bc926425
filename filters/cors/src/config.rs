//! What the filter accepts: the fields of Istio's `corsPolicy`, and a few more.

use portolan_filter_conditions::{HeaderName, Pattern, Period, StringMatch};
use portolan_model::filter::{CorsConfig, SCHEMA};
use portolan_model::{CorsPolicy, RouteId, StringMatch as Written, from_re2};
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::policy::{Names, Policy};

/// Most entries of a list.
const MAX_ENTRIES: usize = 256;

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Conditions on `origin`, of which one must hold; `{exact: "*"}` holds for all.
    #[schema(min_items = 1, max_items = 256)]
    allow_origins: Vec<StringMatch>,
    /// Methods that scripts may use; `*` for whichever they ask for.
    #[serde(default)]
    #[schema(max_items = 256)]
    allow_methods: Vec<String>,
    /// Headers that scripts may send; `*` for whichever they ask for.
    #[serde(default)]
    #[schema(max_items = 256)]
    allow_headers: Vec<String>,
    /// Headers of responses that scripts may read.
    #[serde(default)]
    #[schema(max_items = 256)]
    expose_headers: Vec<String>,
    /// How long a browser keeps the answer to a preflight. Default: the browser's own.
    #[serde(default)]
    max_age: Option<Period>,
    /// Scripts may send cookies and the like. Default: false.
    #[serde(default)]
    allow_credentials: bool,
    /// Public pages may ask this gateway on a private network. Default: false.
    #[serde(default)]
    allow_private_network: bool,
    /// What becomes of preflights of other origins. Default: FORWARD.
    #[serde(default)]
    unmatched_preflights: UnmatchedPreflights,
}

/// Istio's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum UnmatchedPreflights {
    /// They go upstream.
    #[default]
    Forward,
    /// They are answered with 200 and nothing that allows anything.
    Ignore,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn policy(self) -> Result<Policy, ConfigError> {
        if self.allow_origins.is_empty() {
            return Err(ConfigError::new("allowOrigins: no origin is allowed, so there is nothing to do"));
        }
        let policy = Policy {
            any_origin: self.allow_origins.iter().any(is_star),
            origins: bounded("allowOrigins", self.allow_origins)?,
            methods: names("allowMethods", self.allow_methods)?,
            headers: names("allowHeaders", self.allow_headers)?,
            expose: match names("exposeHeaders", self.expose_headers)? {
                Names::Listed(text) => text,
                Names::Asked => "*".to_owned(),
            },
            max_age: self.max_age.map(|age| age.duration().as_secs().to_string()),
            credentials: self.allow_credentials,
            private_network: self.allow_private_network,
            ignores_others: self.unmatched_preflights == UnmatchedPreflights::Ignore,
            like_envoy: false,
        };
        if policy.credentials && policy.allows(STRANGER) {
            return Err(ConfigError::new(
                "allowCredentials: with origins that hold for every site, any page could act for whoever looks at it; \
                 list the origins",
            ));
        }
        if policy.credentials && policy.expose == "*" {
            return Err(ConfigError::new(
                "exposeHeaders: with `allowCredentials` browsers take `*` for a header's name",
            ));
        }
        Ok(policy)
    }
}

/// The policies of the gateway's own routes, by rising id.
pub(crate) fn of_routes(config: CorsConfig) -> Result<Vec<(RouteId, Policy)>, ConfigError> {
    if config.schema != SCHEMA {
        let text = format!("schema {} is not {SCHEMA}, the one that this filter knows", config.schema);
        return Err(ConfigError::new(text));
    }
    Ok(config.routes.into_iter().map(|(route, policy)| (route, of_policy(policy))).collect())
}

fn of_policy(policy: CorsPolicy) -> Policy {
    let mut origins = Vec::with_capacity(policy.allow_origins.len());
    for written in policy.allow_origins {
        origins.extend(match written {
            Written::Exact(text) => Some(StringMatch::Exact(text)),
            Written::Prefix(text) => StringMatch::prefix(&text),
            // One that cannot be read here allows nobody; the other routes keep their policies.
            Written::Regex(text) => Pattern::new(&from_re2(&text)).ok().map(StringMatch::Regex),
            Written::Present => None,
        });
    }
    let names = |list: String| if list == "*" { Names::Asked } else { Names::Listed(list) };
    Policy {
        any_origin: origins.iter().any(|condition| condition.holds(b"*")),
        origins,
        methods: names(policy.allow_methods),
        headers: names(policy.allow_headers),
        expose: policy.expose_headers,
        max_age: policy.max_age.map(|seconds| seconds.to_string()),
        credentials: policy.allow_credentials,
        private_network: false,
        ignores_others: !policy.forward_unmatched,
        like_envoy: true,
    }
}

fn is_star(condition: &StringMatch) -> bool {
    matches!(condition, StringMatch::Exact(text) if text == "*")
}

/// An origin that nobody lists.
const STRANGER: &str = "https://stranger.invalid";

fn bounded<T>(field: &str, list: Vec<T>) -> Result<Vec<T>, ConfigError> {
    if list.len() > MAX_ENTRIES {
        return Err(ConfigError::new(format!("{field}: {} entries are too many: at most {MAX_ENTRIES}", list.len())));
    }
    Ok(list)
}

/// Methods are tokens as names of headers are.
fn names(field: &str, list: Vec<String>) -> Result<Names, ConfigError> {
    let list = bounded(field, list)?;
    if list.iter().any(|name| name == "*") {
        return Ok(Names::Asked);
    }
    for name in &list {
        let is_name =
            HeaderName::new(name).is_ok_and(|known| known.as_str().eq_ignore_ascii_case(name) && !known.is_pseudo());
        if !is_name {
            return Err(ConfigError::new(format!("{field}: `{name}` is no name")));
        }
    }
    Ok(Names::Listed(list.join(",")))
}
