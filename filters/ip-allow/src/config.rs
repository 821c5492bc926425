//! What the filter accepts.

use portolan_filter_conditions::{ClientAddress, IpRanges};
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::Deserialize;

use crate::gate::Gate;

/// Longest body of a refusal in bytes.
const MAX_BODY: usize = 64 * 1024;

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Who may come in. Empty, the default, lets everybody in who is not denied.
    #[serde(default)]
    allow: IpRanges,
    /// Who may not; beats `allow`.
    #[serde(default)]
    deny: IpRanges,
    /// Number of trusted proxies in front of the gateway, see [`ClientAddress`]. Default: 0.
    #[serde(default)]
    trusted_hops: ClientAddress,
    /// HTTP status of a refusal, 400 to 599. Default: 403.
    #[serde(default = "default_status")]
    #[schema(minimum = 400, maximum = 599)]
    status: u32,
    /// Text of a refusal. Default: `access denied`.
    #[serde(default = "default_body")]
    #[schema(max_length = 65536)]
    body: String,
}

/// What the filter runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) gate: Gate,
    pub(crate) client: ClientAddress,
    pub(crate) status: u32,
    pub(crate) body: String,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn settings(self) -> Result<Settings, ConfigError> {
        let Self { allow, deny, trusted_hops, status, body } = self;
        if allow.is_empty() && deny.is_empty() {
            return Err(ConfigError::new("neither `allow` nor `deny` names an address"));
        }
        if !(400..=599).contains(&status) {
            return Err(ConfigError::new(format!("status: {status} is not a refusal: 400 to 599")));
        }
        if body.len() > MAX_BODY {
            return Err(ConfigError::new(format!("body: {} bytes are too many: at most {MAX_BODY}", body.len())));
        }
        Ok(Settings { gate: Gate { allow, deny }, client: trusted_hops, status, body })
    }
}

fn default_status() -> u32 {
    403
}

fn default_body() -> String {
    "access denied".to_owned()
}
