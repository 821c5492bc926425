//! A filter on Portolan's SDK: adds the header `x-stamp` to every response.

use portolan_sdk::prelude::*;
use serde::Deserialize;

/// What a WasmPlugin writes under `pluginConfig`.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The value of the header.
    #[schema(min_length = 1)]
    stamp: String,
}

/// The filter.
pub struct Stamp {
    stamp: String,
}

impl Filter for Stamp {
    type Config = Config;
    type Stream = ();

    fn configure(Config { stamp }: Config) -> Result<Self, ConfigError> {
        if stamp.is_empty() { Err(ConfigError::new("`stamp` is empty")) } else { Ok(Self { stamp }) }
    }

    fn stream(&self) {}

    fn on_response_headers(&self, _: &mut (), response: &Response<'_>) -> Result<Action, HostError> {
        response.set_header("x-stamp", self.stamp.as_bytes())?;
        Ok(Action::Continue)
    }
}

portolan_sdk::filter! { Stamp: schema, on_response_headers }

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use portolan_sdk::testing::TestHost;

    use super::*;

    #[test]
    fn every_response_is_stamped() {
        let host = TestHost::<Stamp>::start(r#"{"stamp": "checked"}"#).unwrap();
        let mut stream = host.stream();
        stream.response_headers(&[(":status", "200"), ("x-stamp", "forged")]);
        assert_eq!(stream.response_header("x-stamp"), ["checked"]);
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let refusal = |json| TestHost::<Stamp>::start(json).err().unwrap();
        assert_eq!(refusal(r#"{"stamp": ""}"#), "invalid configuration: `stamp` is empty");
        assert!(refusal(r#"{"stmp": "x"}"#).contains("unknown field `stmp`, expected `stamp` at line 1 column 7"));
    }
}
