//! The bundled filter `body-limit`: bounds the bodies of requests and responses, by what is announced and by what comes.

mod config;
pub mod limit;

use config::{Config, Settings};
use limit::Count;
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;

/// The filter.
pub struct BodyLimit {
    settings: Settings,
    refused_requests: Counter,
    refused_responses: Counter,
}

/// The two bodies of a stream.
#[derive(Default)]
pub struct Bodies {
    request: Count,
    response: Count,
}

impl Filter for BodyLimit {
    type Config = Config;
    type Stream = Bodies;

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let refused = Counter::named("body_limit_refused_total");
        Ok(Self {
            settings: config.settings()?,
            refused_requests: refused.with(&[("direction", "request")])?,
            refused_responses: refused.with(&[("direction", "response")])?,
        })
    }

    fn stream(&self) -> Bodies {
        Bodies::default()
    }

    fn on_request_headers(&self, bodies: &mut Bodies, request: &Request<'_>) -> Result<Action, HostError> {
        if self.settings.request.is_empty() || request.end_of_stream() {
            return Ok(Action::Continue);
        }
        let content_type = request.header("content-type")?.unwrap_or_default();
        bodies.request = Count::new(self.settings.request.of(content_type));
        match request.header("content-length")? {
            Some(length) if bodies.request.refuses(length) => self.refuse_request(request),
            _ => Ok(Action::Continue),
        }
    }

    fn on_request_body(&self, bodies: &mut Bodies, request: &Request<'_>) -> Result<Action, HostError> {
        if bodies.request.exceeds(request.body_size()) { self.refuse_request(request) } else { Ok(Action::Continue) }
    }

    fn on_response_headers(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        // The answer to HEAD announces a body that does not come.
        if self.settings.response.is_empty() || response.end_of_stream() {
            return Ok(Action::Continue);
        }
        let content_type = response.header("content-type")?.unwrap_or_default();
        bodies.response = Count::new(self.settings.response.of(content_type));
        match response.header("content-length")? {
            Some(length) if bodies.response.refuses(length) => self.refuse_response(bodies, response),
            _ => Ok(Action::Continue),
        }
    }

    fn on_response_body(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        if bodies.response.exceeds(response.body_size()) {
            self.refuse_response(bodies, response)
        } else {
            Ok(Action::Continue)
        }
    }
}

impl BodyLimit {
    #[cold]
    fn refuse_request(&self, request: &Request<'_>) -> Result<Action, HostError> {
        self.refused_requests.increment()?;
        let body = self.settings.body.as_bytes();
        request.reply(&LocalReply::new(413).body(body).details("request_body_too_large"))
    }

    #[cold]
    fn refuse_response(&self, bodies: &mut Bodies, response: &Response<'_>) -> Result<Action, HostError> {
        // The reply is a response too, and no larger than it may be.
        bodies.response = Count::default();
        self.refused_responses.increment()?;
        let body = self.settings.body.as_bytes();
        response.reply(&LocalReply::new(502).body(body).details("response_body_too_large"))
    }
}

portolan_sdk::filter! {
    BodyLimit: schema, stream, on_request_headers, on_request_body, on_response_headers, on_response_body
}

#[cfg(test)]
mod tests;
