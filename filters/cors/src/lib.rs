//! The bundled filter `cors`: cross-origin resource sharing, with the semantics of Istio's `corsPolicy`.

mod config;
pub mod policy;

use config::Config;
use policy::{Policy, Preflight};
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;

/// The filter.
pub struct Cors {
    policy: Policy,
    valid: Counter,
    invalid: Counter,
}

/// What a request was.
#[derive(Default)]
pub enum Course {
    /// Of the same site, or of an origin that may do nothing.
    #[default]
    Plain,
    /// Of this origin, which is allowed.
    Allowed(String),
    /// A preflight that this filter has answered.
    Answered,
}

impl Filter for Cors {
    type Config = Config;
    type Stream = Course;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let requests = Counter::named("cors_requests_total");
        Ok(Self {
            policy: config.policy()?,
            valid: requests.with(&[("origin", "valid")])?,
            invalid: requests.with(&[("origin", "invalid")])?,
        })
    }

    fn stream(&self) -> Course {
        Course::Plain
    }

    fn on_request_headers(&self, course: &mut Course, request: &Request<'_>) -> Result<Action, HostError> {
        let Some(value) = request.header("origin")?.filter(|origin| !origin.is_empty()) else {
            return Ok(Action::Continue);
        };
        let method = match request.method()? {
            b"OPTIONS" => request.header_str("access-control-request-method")?,
            _ => None,
        };
        let Some(origin) = std::str::from_utf8(value).ok().filter(|origin| self.policy.allows(origin)) else {
            self.invalid.increment()?;
            if method.is_none() || !self.policy.ignores_others {
                return Ok(Action::Continue);
            }
            *course = Course::Answered;
            return request
                .reply(&LocalReply::new(200).header("vary", policy::PREFLIGHT_VARIES).details("cors_response"));
        };
        self.valid.increment()?;
        let Some(method) = method else {
            *course = Course::Allowed(origin.to_owned());
            return Ok(Action::Continue);
        };
        *course = Course::Answered;
        let asked = Preflight {
            origin,
            method,
            headers: request.header_str("access-control-request-headers")?.unwrap_or_default(),
            private_network: request.header("access-control-request-private-network")? == Some(b"true"),
        };
        let reply = LocalReply { headers: self.policy.answer(&asked), ..LocalReply::new(200).details("cors_response") };
        request.reply(&reply)
    }

    fn on_response_headers(&self, course: &mut Course, response: &Response<'_>) -> Result<Action, HostError> {
        if matches!(course, Course::Answered) {
            return Ok(Action::Continue);
        }
        if let Course::Allowed(origin) = course {
            response.set_header("access-control-allow-origin", origin.as_bytes())?;
            if self.policy.credentials {
                response.set_header("access-control-allow-credentials", b"true")?;
            } else {
                // The upstream's word would hold for an origin that this policy has let in without.
                response.remove_header("access-control-allow-credentials")?;
            }
            if !self.policy.expose.is_empty() {
                response.set_header("access-control-expose-headers", self.policy.expose.as_bytes())?;
            }
        }
        vary_by_origin(response)?;
        Ok(Action::Continue)
    }
}

/// A cache must not give one site what was said to another, nor to a site what was said to none.
fn vary_by_origin(response: &Response<'_>) -> Result<(), HostError> {
    let mut lines = response.headers()?.filter(|(name, _)| name.eq_ignore_ascii_case(b"vary"));
    let says_so = |value: &[u8]| {
        value
            .split(|byte| *byte == b',')
            .map(<[u8]>::trim_ascii)
            .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
    };
    if lines.any(|(_, value)| says_so(value)) { Ok(()) } else { response.add_header("vary", b"origin") }
}

portolan_sdk::filter! { Cors: schema, stream, on_request_headers, on_response_headers }

#[cfg(test)]
mod tests;
