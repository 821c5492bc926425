//! What the filter accepts.

use portolan_sdk::schema::Node;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::{Deserialize, Deserializer, de};

use crate::limit::{Limits, MediaRange};

/// Most entries of `byContentType`.
const MAX_ENTRIES: usize = 64;
/// Longest body of a refusal in bytes.
const MAX_BODY: usize = 64 * 1024;

/// `pluginConfig`.
#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Bodies of requests; too large is 413.
    #[serde(default)]
    request: Direction,
    /// Bodies of responses; too large is 502, or the body is cut when its head has gone.
    #[serde(default)]
    response: Direction,
    /// Text of a refusal. Default: `body too large`.
    #[serde(default = "default_body")]
    #[schema(max_length = 65536)]
    body: String,
}

#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Direction {
    /// Bytes, also as `64Ki`, `10Mi`, `1Gi`. Default: no limit.
    max_bytes: Option<Size>,
    /// Other limits for some content types; the first that fits counts.
    #[schema(max_items = 64)]
    by_content_type: Vec<ByContentType>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByContentType {
    /// Media types, as `application/json` or `image/*`.
    #[schema(min_items = 1)]
    types: Vec<String>,
    /// Bytes, as above.
    max_bytes: Size,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u64);

/// As it is written.
#[derive(Deserialize, ConfigSchema)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

/// What the filter runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) request: Limits,
    pub(crate) response: Limits,
    pub(crate) body: String,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn settings(self) -> Result<Settings, ConfigError> {
        let Self { request, response, body } = self;
        if body.len() > MAX_BODY {
            return Err(ConfigError::new(format!("body: {} bytes are too many: at most {MAX_BODY}", body.len())));
        }
        let (request, response) = (request.limits("request")?, response.limits("response")?);
        if request.is_empty() && response.is_empty() {
            return Err(ConfigError::new("neither `request` nor `response` has a limit"));
        }
        Ok(Settings { request, response, body })
    }
}

impl Direction {
    fn limits(self, name: &str) -> Result<Limits, ConfigError> {
        let Self { max_bytes, by_content_type } = self;
        if by_content_type.len() > MAX_ENTRIES {
            let count = by_content_type.len();
            return Err(ConfigError::new(format!(
                "{name}.byContentType: {count} entries are too many: at most {MAX_ENTRIES}"
            )));
        }
        let mut by_type = Vec::new();
        for (i, entry) in by_content_type.iter().enumerate() {
            let refused = |reason| ConfigError::new(format!("{name}.byContentType[{i}].types: {reason}"));
            if entry.types.is_empty() {
                return Err(refused("no media type is named".to_owned()));
            }
            for text in &entry.types {
                by_type.push((MediaRange::new(text).map_err(refused)?, entry.max_bytes.0));
            }
        }
        Ok(Limits { by_type, any: max_bytes.map(|size| size.0) })
    }
}

impl Size {
    fn read(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            _ => return None,
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit).map(Self)
    }
}

impl ConfigSchema for Size {
    const SCHEMA: Node = <Written as ConfigSchema>::SCHEMA;
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => Self::read(&text).ok_or_else(|| {
                de::Error::custom(format!("`{text}` is no number of bytes, e.g. `65536`, `64Ki`, `10Mi`"))
            }),
        }
    }
}

fn default_body() -> String {
    "body too large".to_owned()
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_written_as_kubernetes_does() {
        for (text, bytes) in [("0", 0), ("65536", 65_536), ("64Ki", 65_536), ("10Mi", 10 << 20), ("2k", 2000)] {
            assert_eq!(Size::read(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "Ki", "-1", "+1", "1.5Mi", "1 Mi", "1mi", "20000000000Gi"] {
            assert_eq!(Size::read(text), None, "{text}");
        }
    }
}
