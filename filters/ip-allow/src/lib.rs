//! The bundled filter `ip-allow`: lets clients in, or keeps them out, by their address.

mod config;
pub mod gate;

use config::{Config, Settings};
use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType};

/// The filter.
pub struct IpAllow {
    settings: Settings,
    denied: Metric,
}

impl Filter for IpAllow {
    type Config = Config;
    type Stream = ();

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let denied = Metric::define(MetricType::Counter, "ip_allow_denied");
        let denied = denied.map_err(|error| ConfigError::new(error.to_string()))?;
        Ok(Self { settings: config.settings()?, denied })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Settings { gate, client, status, body } = &self.settings;
        if gate.admits(client.of(request)?) {
            return Ok(Action::Continue);
        }
        self.denied.increment(1)?;
        request.reply(&LocalReply::new(*status).body(body.as_bytes()).details("ip_denied"))
    }
}

portolan_sdk::filter! { IpAllow: schema, on_request_headers }

#[cfg(test)]
mod tests;
