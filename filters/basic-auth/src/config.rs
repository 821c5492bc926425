//! What the filter accepts.

use std::time::Duration;

use portolan_filter_conditions::Period;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::htpasswd::Users;

/// Longest time that a verified password is remembered.
const MAX_TTL: Duration = Duration::from_secs(3_600);

/// The plugin's configuration.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Lines of an htpasswd file, `NAME:HASH`: bcrypt, `$apr1$` or `{SHA}`. At most 10,000.
    pub users: String,
    /// What the browser's dialogue shows. Default: `restricted`.
    #[serde(default = "realm")]
    pub realm: String,
    /// A header that tells the upstream the user's name; what clients send in it is removed. Default: none.
    pub forward_username_header: Option<String>,
    /// Whether the upstream sees the header `authorization`, with the password in it. Default: false.
    #[serde(default)]
    pub forward_authorization: bool,
    /// Paths that need no password.
    #[serde(default)]
    pub exempt: Vec<PathMatch>,
    /// Highest cost of bcrypt, 4 to 14; each step takes twice the time. Default: 12.
    #[serde(default = "max_bcrypt_cost")]
    pub max_bcrypt_cost: u32,
    /// How long a password that was right is remembered, up to an hour; `0s` for not at all. Default: 5 minutes.
    #[serde(default = "cache_ttl")]
    pub cache_ttl: String,
    /// Most time of a second that goes into passwords, by each worker. Who would have to wait for more than 5 s, and is
    /// not remembered, is answered with 503. Default: 200 ms.
    #[serde(default = "max_cpu")]
    pub max_cpu_per_second: String,
}

/// A path's condition; queries do not count.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// It is this.
    Exact(String),
    /// It begins with this; a prefix that does not end with `/` ends where a segment does.
    Prefix(String),
}

/// The configuration as it is used.
pub(crate) struct Settings {
    pub(crate) users: Users,
    /// Value of `www-authenticate`.
    pub(crate) challenge: String,
    pub(crate) cache_ttl: Duration,
    pub(crate) cpu_per_second: Duration,
}

pub(crate) fn read(config: &Config) -> Result<Settings, ConfigError> {
    let fault = |text: &str| ConfigError::new(text);
    if !(4..=14).contains(&config.max_bcrypt_cost) {
        return Err(fault("`maxBcryptCost` must be 4 to 14"));
    }
    if config.realm.len() > 256 || !config.realm.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Err(fault("`realm` must be printable ASCII of at most 256 bytes"));
    }
    if config.forward_username_header.as_ref().is_some_and(|name| name.is_empty() || name.starts_with(':')) {
        return Err(fault("`forwardUsernameHeader` is no name of a header"));
    }
    for path in &config.exempt {
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = path;
        if !path.starts_with('/') {
            return Err(ConfigError::new(format!("`exempt`: `{path}` does not begin with `/`")));
        }
    }
    let users = Users::read(&config.users, config.max_bcrypt_cost)?;
    let escaped = config.realm.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(Settings {
        users,
        challenge: format!("Basic realm=\"{escaped}\", charset=\"UTF-8\""),
        cache_ttl: duration("cacheTtl", &config.cache_ttl, Duration::ZERO, MAX_TTL)?,
        cpu_per_second: duration(
            "maxCpuPerSecond",
            &config.max_cpu_per_second,
            Duration::from_millis(1),
            Duration::from_secs(1),
        )?,
    })
}

fn duration(name: &str, text: &str, least: Duration, most: Duration) -> Result<Duration, ConfigError> {
    let value = Period::read(text).map(Period::duration).filter(|value| (least..=most).contains(value));
    value.ok_or_else(|| ConfigError::new(format!("`{name}` must be a duration from {least:?} to {most:?}")))
}

impl PathMatch {
    /// True when the path fulfils it.
    pub(crate) fn is_met(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => path
                .strip_prefix(prefix.as_bytes())
                .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with(b"/")),
        }
    }
}

fn realm() -> String {
    "restricted".into()
}

fn max_bcrypt_cost() -> u32 {
    12
}

fn cache_ttl() -> String {
    "5m".into()
}

fn max_cpu() -> String {
    "200ms".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        let prefix = |prefix: &str, path: &str| PathMatch::Prefix(prefix.into()).is_met(path.as_bytes());
        assert!(prefix("/public", "/public") && prefix("/public", "/public/a") && prefix("/public/", "/public/a"));
        assert!(prefix("/", "/x"));
        assert!(!prefix("/public", "/publicity") && !prefix("/public/", "/public"));
    }
}
