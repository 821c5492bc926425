//! A filter that counts in Redis, and shows what Redis says.

use portolan_sdk::prelude::*;

/// Where the server is.
#[derive(serde::Deserialize)]
pub struct Config {
    server: String,
    #[serde(default)]
    password: String,
}

/// The filter.
pub struct Redis {
    server: RedisServer,
}

impl Filter for Redis {
    type Config = Config;
    type Stream = ();

    fn configure(Config { server, password }: Config) -> Result<Self, ConfigError> {
        Ok(Self { server: RedisServer::new(&server).credentials("", &password).database(3).connect()? })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let mut words = request.segments()?;
        let name = String::from_utf8_lossy(words.next().unwrap_or(b"PING")).into_owned();
        let command = words.fold(self.server.command(&name), |command, word| command.arg(word));
        request.call(&command, |_: &Self, _, request, answer: &RedisAnswer<'_>| {
            let (status, text) = match answer.value() {
                Some(RedisValue::Error(error)) => (409, String::from_utf8_lossy(error).into_owned()),
                Some(value) => (200, format!("{value:?}")),
                None => (503, format!("{:?}", answer.failure())),
            };
            request.reply(&LocalReply::new(status).body(text.as_bytes()))
        })
    }
}

portolan_sdk::filter! { Redis: stream, on_request_headers, redis_calls }
