//! A filter: stamps every response, and greets at `/hello`.

use portolan_sdk::prelude::*;
use serde::Deserialize;

/// What stands under `pluginConfig`; in `portolan filter dev` and `test`, under `config` of
/// filter.yaml. The module carries it as a JSON Schema, so that a wrong key is told with file and
/// line.
#[derive(Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Value of the response header `x-stamp`.
    #[schema(min_length = 1)]
    stamp: String,
}

/// The filter as configured: one for each worker, shared by all its requests.
pub struct MyFilter {
    stamp: String,
}

impl Filter for MyFilter {
    type Config = Config;
    /// What one request keeps between its callbacks. Anything but `()` is made by `stream`, which is
    /// listed below then.
    type Stream = ();

    fn configure(Config { stamp }: Config) -> Result<Self, ConfigError> {
        if stamp.is_empty() {
            return Err(ConfigError::new("`stamp` is empty"));
        }
        Ok(Self { stamp })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        if request.path()? != b"/hello" {
            return Ok(Action::Continue);
        }
        let user = request.header("x-user")?.unwrap_or(b"stranger");
        let greeting = [b"hello, ", user, b"\n"].concat();
        request.reply(&LocalReply::new(200).body(&greeting).details("greeted"))
    }

    fn on_response_headers(&self, _: &mut (), message: &Response<'_>) -> Result<Action, HostError> {
        message.set_header("x-stamp", self.stamp.as_bytes())?;
        Ok(Action::Continue)
    }
}

// Only what is listed is ever called.
portolan_sdk::filter! { MyFilter: schema, on_request_headers, on_response_headers }

#[cfg(test)]
mod tests {
    use portolan_sdk::testing::TestHost;

    use super::*;

    const CONFIG: &str = r#"{"stamp": "checked"}"#;

    #[test]
    fn every_response_is_stamped() {
        let host = TestHost::<MyFilter>::start(CONFIG).unwrap();
        let mut stream = host.stream();
        assert_eq!(stream.request_headers(&[(":path", "/")]), Action::Continue);
        stream.response_headers(&[(":status", "200"), ("x-stamp", "forged")]);
        assert_eq!(stream.response_header("x-stamp"), ["checked"]);
    }

    #[test]
    fn hello_is_answered_here() {
        let host = TestHost::<MyFilter>::start(CONFIG).unwrap();
        let mut stream = host.stream();
        let action = stream.request_headers(&[(":path", "/hello?x"), ("x-user", "ada")]);
        assert_eq!(action, Action::Pause);
        assert_eq!(stream.reply().unwrap().body, "hello, ada\n");
    }

    #[test]
    fn a_wrong_configuration_is_refused() {
        let refusal = |config| TestHost::<MyFilter>::start(config).err().unwrap();
        assert!(refusal(r#"{"stamp": ""}"#).contains("`stamp` is empty"));
        assert!(refusal(r#"{"stmp": "x"}"#).contains("unknown field `stmp`, expected `stamp`"));
    }
}
