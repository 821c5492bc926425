//! The bundled filter `cors`: cross-origin resource sharing, with the semantics of Istio's `corsPolicy`.
//!
//! The gateway has one of its own for the `corsPolicy` of VirtualServices, configured by route with a [`CorsConfig`];
//! that one says to browsers what Envoy's filter says, letter by letter.

mod config;
pub mod policy;

use config::Config;
use policy::{Policy, Preflight};
use portolan_filter_conditions::ByRoute;
use portolan_model::RouteId;
use portolan_model::filter::{CorsConfig, ROUTE_PROPERTY};
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;

/// The filter.
pub struct Cors {
    /// By rising id of the route.
    policies: Vec<(RouteId, Policy)>,
    /// The first policy counts for all requests that the filter sees.
    for_all: bool,
    valid: Counter,
    invalid: Counter,
}

/// What a request was.
#[derive(Default)]
pub enum Course {
    /// Of the same site, or of an origin that may do nothing.
    #[default]
    Plain,
    /// Of this origin, which the policy at this place allows.
    Allowed(String, usize),
    /// A preflight that this filter has answered.
    Answered,
}

impl Filter for Cors {
    type Config = ByRoute<Config, CorsConfig>;
    type Stream = Course;

    fn configure(config: Self::Config) -> Result<Self, ConfigError> {
        let requests = Counter::named("cors_requests_total");
        let (policies, for_all) = match config {
            ByRoute::Whole(config) => (vec![(0, config.policy()?)], true),
            ByRoute::Routes(config) => (config::of_routes(config)?, false),
        };
        Ok(Self {
            policies,
            for_all,
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
        let Some(at) = self.place(request)? else { return Ok(Action::Continue) };
        let policy = &self.policies[at].1;
        let method = match request.method()? {
            b"OPTIONS" => request.header_str("access-control-request-method")?.filter(|method| !method.is_empty()),
            _ => None,
        };
        // A request comes from one origin: Envoy joins several lines to one that no list has.
        let is_one = request.headers()?.filter(|(name, _)| *name == b"origin").nth(1).is_none();
        let origin = std::str::from_utf8(value).ok().filter(|origin| is_one && policy.allows(origin));
        if origin.is_some() {
            self.valid.increment()?
        } else {
            self.invalid.increment()?
        }
        let Some(method) = method.filter(|_| origin.is_some() || policy.ignores_others) else {
            if let Some(origin) = origin {
                *course = Course::Allowed(origin.to_owned(), at);
            }
            return Ok(Action::Continue);
        };
        *course = Course::Answered;
        let asked = Preflight {
            origin: origin.unwrap_or_default(),
            method,
            headers: request.header_str("access-control-request-headers")?.unwrap_or_default(),
            private_network: request.header("access-control-request-private-network")? == Some(b"true"),
        };
        let headers = match (policy.like_envoy, origin) {
            (true, origin) => policy.envoys_answer(&asked, origin.is_some()),
            (false, Some(_)) => policy.answer(&asked),
            (false, None) => vec![("vary", policy::PREFLIGHT_VARIES)],
        };
        request.reply(&LocalReply { headers, ..LocalReply::new(200).details("cors_response") })
    }

    fn on_response_headers(&self, course: &mut Course, response: &Response<'_>) -> Result<Action, HostError> {
        if let Course::Allowed(origin, at) = course {
            self.policies[*at].1.mark(origin, response)?;
        }
        if self.for_all && !matches!(course, Course::Answered) {
            vary_by_origin(response)?;
        }
        Ok(Action::Continue)
    }
}

impl Cors {
    /// Where the policy of this request is.
    fn place(&self, request: &Request<'_>) -> Result<Option<usize>, HostError> {
        if self.for_all {
            return Ok(Some(0));
        }
        let Some(route) = request.property(ROUTE_PROPERTY)?.and_then(|id| id.try_into().ok()) else { return Ok(None) };
        Ok(self.policies.binary_search_by_key(&RouteId::from_le_bytes(route), |(known, _)| *known).ok())
    }
}

impl Policy {
    /// Says on a response what pages of this origin may read.
    fn mark(&self, origin: &str, response: &Response<'_>) -> Result<(), HostError> {
        response.set_header("access-control-allow-origin", origin.as_bytes())?;
        if self.credentials {
            response.set_header("access-control-allow-credentials", b"true")?;
        } else if !self.like_envoy {
            // The upstream's word would hold for an origin that this policy has let in without.
            response.remove_header("access-control-allow-credentials")?;
        }
        if !self.expose.is_empty() {
            response.set_header("access-control-expose-headers", self.expose.as_bytes())?;
        }
        Ok(())
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
