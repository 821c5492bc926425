//! [`AccessLog`]: one log of requests and connections: where it goes, in which form, and which of them it tells.

use serde::{Deserialize, Serialize};

use crate::Origin;

/// One access log: Istio's `meshConfig.accessLogFile`, or a provider `envoyFileAccessLog` that a Telemetry turns on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    /// File that lines are appended to; `/dev/stdout` and `/dev/stderr` are the process's own.
    pub path: String,
    /// What a line looks like.
    #[serde(default, skip_serializing_if = "AccessLogFormat::is_default")]
    pub format: AccessLogFormat,
    /// What is absent leaves nothing, instead of `-` in text and null in JSON.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub omit_empty_values: bool,
    /// CEL over Envoy's attributes; only requests for which it is true have a line. None: all have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The Telemetry or the mesh configuration that turned it on.
    pub origin: Origin,
}

/// The form of a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// Istio's default text.
    #[default]
    Default,
    /// Istio's default JSON.
    DefaultJson,
    /// Envoy's format string.
    Text(String),
    /// An object whose texts are format strings, itself written as JSON. A text that is one command gives a number where
    /// the command's value is one, and null where there is none.
    Json(String),
}

impl AccessLogFormat {
    /// True for Istio's default text.
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}
