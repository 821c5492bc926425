//! The bundled filter `header-edit`: edits the headers of requests and responses.

mod config;
pub mod edit;
pub mod template;

use config::{Config, Settings};
use portolan_filter_conditions::{Head, LateHead};
use portolan_sdk::prelude::*;
use template::Source;

/// The filter.
pub struct HeaderEdit {
    settings: Settings,
    /// True when a response's rule asks what its request was like.
    remembers: bool,
}

/// Bit n is set when the request fulfils the condition of the n-th rule for responses. None when the request has not come
/// this far: a filter before this one has answered it.
type Fulfilled = Option<u64>;

impl Filter for HeaderEdit {
    type Config = Config;
    type Stream = Fulfilled;

    /// A header that should have gone may be one that somebody trusts.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let settings = config.settings()?;
        let remembers = settings.response.iter().any(|rule| !rule.condition.is_empty());
        Ok(Self { settings, remembers })
    }

    fn stream(&self) -> Fulfilled {
        None
    }

    fn on_request_headers(&self, fulfilled: &mut Fulfilled, request: &Request<'_>) -> Result<Action, HostError> {
        if self.remembers {
            *fulfilled = Some(self.fulfilled(request)?);
        }
        let mut is_edited = false;
        for rule in &self.settings.request {
            if rule.condition.holds(request)? {
                rule.edits.apply(request, |source| of_request(request, request, source))?;
                is_edited = true;
            }
        }
        if is_edited && self.settings.clear_route_cache {
            request.call_foreign("clear_route_cache", b"")?;
        }
        Ok(Action::Continue)
    }

    fn on_response_headers(&self, fulfilled: &mut Fulfilled, response: &Response<'_>) -> Result<Action, HostError> {
        if self.settings.response.is_empty() {
            return Ok(Action::Continue);
        }
        let request = LateHead(response);
        let fulfilled = match *fulfilled {
            Some(bits) => bits,
            None if self.remembers => self.fulfilled(&request)?,
            None => u64::MAX,
        };
        let status = response.status()?;
        for (i, rule) in self.settings.response.iter().enumerate() {
            let is_status = rule.status.is_empty() || rule.status.iter().any(|range| range.holds(status));
            if fulfilled & 1 << i != 0 && is_status {
                rule.edits.apply(response, |source| match source {
                    Source::Response(name) => response.header(name),
                    source => of_request(&request, response, source),
                })?;
            }
        }
        Ok(Action::Continue)
    }
}

impl HeaderEdit {
    fn fulfilled<'a>(&self, head: &impl Head<'a>) -> Result<u64, HostError> {
        let rules = self.settings.response.iter().enumerate();
        rules.map(|(i, rule)| Ok(u64::from(rule.condition.holds(head)?) << i)).sum()
    }
}

/// A value that a request has.
fn of_request<'a>(
    head: &impl Head<'a>,
    exchange: &Exchange<'a>,
    source: &Source,
) -> Result<Option<&'a [u8]>, HostError> {
    match source {
        Source::Request(name) => head.header(name),
        Source::Query(name) => head.query(name),
        Source::Cookie(name) => head.cookie(name),
        Source::Property(path) | Source::Address(path) => exchange.property(path),
        // Refused in rules for requests.
        Source::Response(_) => Ok(None),
    }
}

portolan_sdk::filter! { HeaderEdit: schema, stream, on_request_headers, on_response_headers }

#[cfg(test)]
mod tests;
