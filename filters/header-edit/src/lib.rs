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
    asks: bool,
}

/// What rules for responses want to know of the request, kept while it is there: Envoy does not tell it later.
pub struct Remembered {
    /// Bit n is set when the request, as it came, fulfils the condition of the n-th rule for responses.
    fulfilled: u64,
    /// What is found at each of the settings' sources, as this filter has sent the request on.
    values: Vec<Option<Vec<u8>>>,
}

impl Filter for HeaderEdit {
    type Config = Config;
    /// None when the request has not come this far: a filter before this one has answered it.
    type Stream = Option<Remembered>;

    /// A header that should have gone may be one that somebody trusts.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let settings = config.settings()?;
        let asks = settings.response.iter().any(|rule| !rule.condition.is_empty());
        Ok(Self { settings, asks })
    }

    fn stream(&self) -> Option<Remembered> {
        None
    }

    fn on_request_headers(&self, stream: &mut Option<Remembered>, request: &Request<'_>) -> Result<Action, HostError> {
        let fulfilled = self.fulfilled(request)?;
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
        let value = |source| Ok(of_request(request, request, source)?.map(<[u8]>::to_vec));
        let values = self.settings.remembered.iter().map(value).collect::<Result<_, HostError>>()?;
        *stream = Some(Remembered { fulfilled, values });
        Ok(Action::Continue)
    }

    fn on_response_headers(
        &self,
        stream: &mut Option<Remembered>,
        response: &Response<'_>,
    ) -> Result<Action, HostError> {
        if self.settings.response.is_empty() {
            return Ok(Action::Continue);
        }
        let request = LateHead(response);
        let fulfilled = match stream {
            Some(remembered) => remembered.fulfilled,
            None => self.fulfilled(&request)?,
        };
        let status = response.status()?;
        for (i, rule) in self.settings.response.iter().enumerate() {
            let is_status = rule.status.is_empty() || rule.status.iter().any(|range| range.holds(status));
            if fulfilled & 1 << i != 0 && is_status {
                rule.edits.apply(response, |source| match (source, self.recall(stream, source)) {
                    (Source::Response(name), _) => response.header(name),
                    (_, Some(value)) => Ok(value),
                    (source, None) => of_request(&request, response, source),
                })?;
            }
        }
        Ok(Action::Continue)
    }
}

impl HeaderEdit {
    fn fulfilled<'a>(&self, head: &impl Head<'a>) -> Result<u64, HostError> {
        if !self.asks {
            return Ok(u64::MAX);
        }
        let rules = self.settings.response.iter().enumerate();
        rules.map(|(i, rule)| Ok(u64::from(rule.condition.holds(head)?) << i)).sum()
    }

    /// A value of the request that was kept, which may be that there was none; nothing when it was not kept.
    fn recall<'s>(&self, stream: &'s Option<Remembered>, source: &Source) -> Option<Option<&'s [u8]>> {
        let place = self.settings.remembered.iter().position(|known| known == source)?;
        Some(stream.as_ref()?.values.get(place)?.as_deref())
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
