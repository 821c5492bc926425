//! From the plugin's JSON to the filter's own type.

use std::any::Any;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};

use crate::HostError;

/// Why a configuration is refused. The text goes to the host's log at level error.
///
/// ```
/// use portolan_sdk::ConfigError;
///
/// let error = ConfigError::new("`limit` must be at least 1");
/// assert_eq!(error.to_string(), "`limit` must be at least 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    /// An error with this text: lower case, names in backticks, no full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// For `?` on host functions in [`Filter::configure`](crate::Filter::configure).
impl From<HostError> for ConfigError {
    fn from(error: HostError) -> Self {
        Self::new([error.call, ": ", error.status.as_str()].concat())
    }
}

/// The configuration of a filter that has none: takes any text.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoConfig;

impl<'de> Deserialize<'de> for NoConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Reads a configuration; an absent one counts as `{}`, so that defaults apply.
pub(crate) fn parse<T: DeserializeOwned + 'static>(json: &[u8]) -> Result<T, ConfigError> {
    // Known when the module is compiled: two thirds of a small filter are what reads JSON and says what is wrong with it.
    if let Some(none) = (&mut Some(NoConfig) as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take) {
        return Ok(none);
    }
    let json = if json.is_empty() { b"{}" } else { json };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let config = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        let message = if path == "." { cause.to_string() } else { format!("{path}: {cause}") };
        ConfigError { message }
    })?;
    deserializer.end().map_err(|error| ConfigError::new(error.to_string()))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limits {
        #[expect(dead_code, reason = "only parsed")]
        limits: Vec<u32>,
    }

    fn refusal(json: &str) -> String {
        parse::<Limits>(json.as_bytes()).map(|_| String::new()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn an_error_names_path_line_and_column() {
        let text = refusal("{\n  \"limits\": [1, \"x\"]\n}");
        assert_eq!(text, "limits[1]: invalid type: string \"x\", expected u32 at line 2 column 19");
    }

    #[test]
    fn text_after_the_value_is_refused() {
        assert_eq!(refusal("{\"limits\": []} {"), "trailing characters at line 1 column 16");
    }

    #[test]
    fn an_absent_configuration_is_an_empty_object() {
        assert_eq!(refusal(""), "missing field `limits` at line 1 column 2");
        assert!(parse::<NoConfig>(b"").is_ok());
        assert!(parse::<NoConfig>(b"[1, 2]").is_ok());
        assert!(parse::<NoConfig>(b"no JSON").is_ok());
    }
}
