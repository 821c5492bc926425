//! What the filter accepts, and what becomes of it.

use std::time::Duration;

use portolan_filter_conditions::{ClientAddress, Period, time};
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::share::{self, Share};

/// Shortest secret, in bytes.
const MIN_SECRET: usize = 16;

/// The plugin's configuration.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The switch: with `false` everybody is stable, whoever is forced too. Default: true.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Share of the users who get the canary, 0 to 100, to a thousandth. Default: 0. Not together with `ramp`.
    pub percent: Option<f64>,
    /// A share that changes with time.
    pub ramp: Option<RampConfig>,
    /// What users are known by.
    pub sticky: StickyConfig,
    /// What routes match on.
    #[serde(default)]
    pub header: HeaderConfig,
    /// Who gets a variant whatever the share is; the first that fits. At most 64.
    #[serde(default)]
    pub force: Vec<ForceConfig>,
    /// Signs cookies and mixes into the choice, so that nobody can work out who is chosen; at least 16 bytes. Gateways
    /// with the same secret choose alike. Default: none.
    #[serde(default)]
    pub secret: String,
    /// Cookies need no signature, so that clients can choose. Default: false: a cookie needs a `secret`.
    #[serde(default)]
    pub allow_client_choice: bool,
}

/// A share that goes from one to another, evenly.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RampConfig {
    /// Share until `start`, 0 to 100.
    pub from: f64,
    /// Share at the end and from then on, 0 to 100.
    pub to: f64,
    /// RFC 3339, e.g. `2026-12-01T10:00:00Z`.
    pub start: String,
    /// E.g. `48h`.
    pub duration: String,
}

/// What a user is known by.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase")]
pub enum StickyConfig {
    /// A cookie with a number of the user's own, made when there is none.
    Cookie(CookieConfig),
    /// A header. Without it the user is stable.
    Header(String),
    /// The client's address.
    RemoteAddress(RemoteAddressConfig),
}

/// The cookie.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CookieConfig {
    /// Its name.
    pub name: String,
    /// How long it lasts, e.g. `720h`. Default: until the browser is closed.
    pub ttl: Option<String>,
    /// Default: `/`.
    #[serde(default = "root")]
    pub path: String,
    /// Sent over TLS only. Default: false, since TLS may end before this gateway.
    #[serde(default)]
    pub secure: bool,
}

/// Which address is the client's, and which part of it counts.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteAddressConfig {
    /// Proxies in front of this gateway whose `x-forwarded-for` is believed; 0 to 16. Default: 0, the connection's own
    /// address.
    #[serde(default)]
    pub trusted_hops: ClientAddress,
}

/// The header that tells routes which variant a request gets; what a client sends is overwritten.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderConfig {
    /// Default: `x-canary`.
    #[serde(default = "x_canary")]
    pub name: String,
    /// Its value for the canary. Default: `true`.
    #[serde(default = "true_text")]
    pub canary: String,
    /// Its value for everybody else. Default: none, they have no such header.
    pub stable: Option<String>,
}

/// Who gets a variant by a header of theirs.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForceConfig {
    /// The header.
    pub header: String,
    /// Its whole value.
    pub value: String,
    /// Default: canary.
    #[serde(default)]
    pub variant: Variant,
}

/// Which of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ConfigSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Variant {
    /// The new one.
    #[default]
    Canary,
    /// The old one.
    Stable,
}

impl Default for HeaderConfig {
    fn default() -> Self {
        Self { name: x_canary(), canary: true_text(), stable: None }
    }
}

/// The share that the configuration asks for, once it is known to make sense as a whole.
pub(crate) fn read(config: &Config) -> Result<Share, ConfigError> {
    let fault = |text: &str| Err(ConfigError::new(text));
    if !config.secret.is_empty() && config.secret.len() < MIN_SECRET {
        return fault("`secret` needs at least 16 bytes");
    }
    if config.force.len() > 64 {
        return fault("more than 64 entries in `force`");
    }
    if config.header.name.is_empty() || config.header.name.starts_with(':') {
        return fault("`header.name` is no name of a header");
    }
    if config.header.stable.as_ref() == Some(&config.header.canary) {
        return fault("`header.canary` and `header.stable` are the same");
    }
    if let StickyConfig::Cookie(cookie) = &config.sticky {
        if !is_token(&cookie.name) {
            return fault("`cookie.name` has letters, digits and `-_.` only");
        }
        if !cookie.path.starts_with('/') || cookie.path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f || byte == b';')
        {
            return fault("`cookie.path` begins with `/` and has no blanks and no `;`");
        }
        if config.secret.is_empty() && !config.allow_client_choice {
            return fault("a cookie needs a `secret`, or `allowClientChoice: true`: clients could choose otherwise");
        }
    }
    match (config.percent, &config.ramp) {
        (Some(_), Some(_)) => fault("`percent` and `ramp` exclude each other"),
        (percent, None) => Ok(Share::Fixed(thousandths("percent", percent.unwrap_or_default())?)),
        (None, Some(ramp)) => read_ramp(ramp),
    }
}

fn read_ramp(ramp: &RampConfig) -> Result<Share, ConfigError> {
    let Some(start) = time::parse(&ramp.start) else {
        return Err(ConfigError::new("`ramp.start` is no time such as `2026-12-01T10:00:00Z`"));
    };
    let duration = duration("ramp.duration", &ramp.duration)?;
    Ok(Share::Ramp {
        from: thousandths("ramp.from", ramp.from)?,
        to: thousandths("ramp.to", ramp.to)?,
        start,
        seconds: duration.as_secs().max(1),
    })
}

/// A duration that a user wrote.
pub(crate) fn duration(name: &str, text: &str) -> Result<Duration, ConfigError> {
    let wanted = || ConfigError::new(format!("`{name}` is no duration such as `30m` or `48h`"));
    Period::read(text).map(Period::duration).ok_or_else(wanted)
}

fn thousandths(name: &str, percent: f64) -> Result<u32, ConfigError> {
    if !(0.0..=100.0).contains(&percent) {
        return Err(ConfigError::new(format!("`{name}` must be 0 to 100")));
    }
    Ok((percent * f64::from(share::ALL) / 100.0).round() as u32)
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn yes() -> bool {
    true
}

fn root() -> String {
    "/".into()
}

fn x_canary() -> String {
    "x-canary".into()
}

fn true_text() -> String {
    "true".into()
}
