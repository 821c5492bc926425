//! The bundled filter `ext-authz`: asks an authorization service about each request, over HTTP or gRPC, as Envoy's
//! `ext_authz` does.

mod apply;
pub mod check;
mod config;
mod http;
mod metadata;
mod names;
pub mod query;
pub mod verdict;
pub mod wire;

use check::CheckRequest;
use config::{Body, Config, Http, Policy, Service};
use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType};
use verdict::{Mutation, Verdict};

/// Set by the filter `authorization` for what Istio's action CUSTOM is for.
const MARK_PROPERTY: &str = "authorization.custom";

/// The filter.
pub struct ExtAuthz {
    policy: Policy,
    allowed: Metric,
    denied: Metric,
    failed: Metric,
}

/// What one request keeps.
#[derive(Debug, Default)]
pub struct State {
    /// The head waits for the body that goes along with the question.
    waits_for_body: bool,
    /// For the response of an allowed request.
    on_response: Vec<Mutation>,
}

impl Filter for ExtAuthz {
    type Config = Config;
    type Stream = State;

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let counter = |name| Metric::define(MetricType::Counter, name);
        Ok(Self {
            policy: config::read(config)?,
            allowed: counter("ext_authz_ok")?,
            denied: counter("ext_authz_denied")?,
            failed: counter("ext_authz_error")?,
        })
    }

    fn stream(&self) -> State {
        State::default()
    }

    fn on_request_headers(&self, state: &mut State, request: &Request<'_>) -> Result<Action, HostError> {
        if self.policy.only_marked && request.property(MARK_PROPERTY)?.is_none() {
            return Ok(Action::Continue);
        }
        for exempt in &self.policy.exempt {
            if exempt.holds(request)? {
                return Ok(Action::Continue);
            }
        }
        // The bytes after an upgrade are no body.
        if self.policy.body.is_some() && !request.end_of_stream() && request.header("upgrade")?.is_none() {
            state.waits_for_body = true;
            return Ok(Action::Pause);
        }
        self.ask(state, request, b"")
    }

    fn on_request_body(&self, state: &mut State, request: &Request<'_>) -> Result<Action, HostError> {
        let Some(body) = self.policy.body.filter(|_| state.waits_for_body) else { return Ok(Action::Continue) };
        let part = match request.whole_body(body.limit)? {
            Whole::Waiting => return Ok(Action::Pause),
            Whole::Complete(whole) => whole,
            Whole::TooLarge if body.partial => request.body_part(0, body.limit)?,
            Whole::TooLarge => {
                state.waits_for_body = false;
                return request
                    .reply(&LocalReply::new(413).body(b"Payload Too Large").details("request_payload_too_large"));
            }
        };
        state.waits_for_body = false;
        self.ask(state, request, part)
    }

    fn on_response_headers(&self, state: &mut State, response: &Response<'_>) -> Result<Action, HostError> {
        apply::on_response(response, &state.on_response)?;
        Ok(Action::Continue)
    }
}

impl ExtAuthz {
    /// Asks the service. One that cannot even be asked is as one that fails.
    fn ask(&self, state: &mut State, request: &Request<'_>, body: &[u8]) -> Result<Action, HostError> {
        let asked = match &self.policy.service {
            Service::Http(http) => self.ask_http(http, request, body),
            Service::Grpc(cluster, extensions) => self.ask_grpc(cluster, extensions, request, body),
        };
        match asked {
            Ok(action) => Ok(action),
            Err(error) => {
                portolan_sdk::log::warn(&format!("the authorization service cannot be asked: {error}"));
                self.decided(state, request, Verdict::Error)
            }
        }
    }

    fn ask_http(&self, http: &Http, request: &Request<'_>, body: &[u8]) -> Result<Action, HostError> {
        let lines = http.question(request.headers()?);
        let text = |wanted: &[u8]| {
            let line = lines.iter().find(|(name, _)| name == wanted);
            line.map_or("", |(_, value)| std::str::from_utf8(value).unwrap_or_default())
        };
        let call = HttpCall::new(text(b":method"), &http.cluster, text(b":path")).authority(text(b":authority"));
        let own = lines.iter().filter(|(name, _)| !name.starts_with(b":"));
        let call =
            own.fold(call, |call, (name, value)| call.header(std::str::from_utf8(name).unwrap_or_default(), value));
        request.call(&call.body(body).timeout(self.policy.timeout), Self::on_http_answer)
    }

    fn on_http_answer(
        &self,
        state: &mut State,
        request: &Request<'_>,
        answer: &Answer<'_>,
    ) -> Result<Action, HostError> {
        let Service::Http(http) = &self.policy.service else { return self.decided(state, request, Verdict::Error) };
        let verdict = http.verdict(answer.status(), answer.headers()?, answer.body()?);
        self.decided(state, request, verdict)
    }

    fn ask_grpc(
        &self,
        cluster: &str,
        extensions: &[(String, String)],
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<Action, HostError> {
        let message = self.check_request(extensions, request, body)?.encode();
        let call = GrpcCall::new(cluster, check::SERVICE, check::METHOD).message(&message).timeout(self.policy.timeout);
        request.call(&call, |filter: &Self, state: &mut State, request, answer: &GrpcAnswer<'_>| {
            let verdict = if answer.is_ok() { Verdict::of_grpc(answer.message()?) } else { Verdict::Error };
            filter.decided(state, request, verdict)
        })
    }

    fn check_request(
        &self,
        extensions: &[(String, String)],
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<CheckRequest, HostError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let property = |key| request.property(key).map(|value| text(value.unwrap_or_default()));
        let length = request.header_str("content-length")?.and_then(|length| length.parse().ok());
        let mut check = CheckRequest {
            id: text(request.header("x-request-id")?.unwrap_or_default()),
            source: property("source\0address")?,
            destination: property("destination\0address")?,
            time: portolan_sdk::now()?,
            method: text(request.method()?),
            path: text(request.target()?),
            host: text(request.authority()?),
            scheme: text(request.scheme()?),
            protocol: property("request\0protocol")?,
            headers: Vec::new(),
            body: body.to_vec(),
            pack_as_bytes: self.policy.body.is_some_and(|body: Body| body.as_bytes),
            size: length.unwrap_or(body.len() as u64),
            extensions: extensions.to_vec(),
        };
        for (name, value) in request.headers()? {
            check.add_header(name, value);
        }
        Ok(check)
    }

    /// Carries out what the service has decided, or the configuration for it.
    fn decided(&self, state: &mut State, request: &Request<'_>, verdict: Verdict) -> Result<Action, HostError> {
        match verdict {
            Verdict::Allow(changes) => {
                self.allowed.increment(1)?;
                if apply::on_request(request, &changes)? && self.policy.clear_route_cache {
                    request.call_foreign("clear_route_cache", b"")?;
                }
                state.on_response = changes.response;
                Ok(Action::Continue)
            }
            Verdict::Deny(denial) => {
                self.denied.increment(1)?;
                apply::reply(request, &denial)
            }
            Verdict::Error => {
                self.failed.increment(1)?;
                if self.policy.fail_open {
                    return Ok(Action::Continue);
                }
                request.reply(&LocalReply::new(self.policy.status_on_error).details("ext_authz_error"))
            }
        }
    }
}

portolan_sdk::filter! {
    ExtAuthz: schema, stream, on_request_headers, on_request_body, on_response_headers, http_calls, grpc_calls
}

#[cfg(test)]
mod tests;
