//! The bundled filter `basic-auth`: asks for a user name and a password (RFC 7617).

mod cache;
pub mod config;
mod credentials;
mod hash;
mod htpasswd;
mod queue;

use std::cell::Cell;
use std::rc::Rc;

use cache::{Cache, Key};
use config::{Config, Settings};
use credentials::Credentials;
use hash::Check;
use portolan_sdk::metrics::Counter;
use portolan_sdk::prelude::*;
use queue::{Job, Queue};

const UNAUTHENTICATED: i32 = 16;
const UNAVAILABLE: i32 = 14;

/// The filter.
pub struct BasicAuth {
    config: Config,
    settings: Settings,
    cache: Cache,
    queue: Queue,
    /// Of the check that has just ended, for the stream that goes on with it.
    outcome: Cell<bool>,
    allowed: Counter,
    denied: Counter,
    busy: Counter,
}

impl Filter for BasicAuth {
    type Config = Config;
    /// There as long as the stream, once it waits.
    type Stream = Option<Rc<()>>;

    /// Whoever cannot be asked stays outside.
    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let settings = config::read(&config)?;
        let requests = Counter::named("basic_auth_requests");
        let counter = |outcome| requests.with(&[("outcome", outcome)]);
        Ok(Self {
            cache: Cache::new(settings.cache_ttl),
            queue: Queue::new(settings.cpu_per_second),
            outcome: Cell::new(false),
            allowed: counter("allowed")?,
            denied: counter("denied")?,
            busy: counter("busy")?,
            settings,
            config,
        })
    }

    fn stream(&self) -> Option<Rc<()>> {
        None
    }

    fn on_request_headers(&self, waits: &mut Option<Rc<()>>, request: &Request<'_>) -> Result<Action, HostError> {
        if let Some(name) = &self.config.forward_username_header {
            request.remove_header(name)?;
        }
        if !self.config.exempt.is_empty() {
            let path = request.path()?;
            if self.config.exempt.iter().any(|exempt| exempt.is_met(path)) {
                return Ok(Action::Continue);
            }
        }
        let Some(credentials) = credentials(request)? else { return self.challenge(request) };
        let key = self.cache.key(&credentials.name, &credentials.password);
        let now = portolan_sdk::now()?;
        if self.cache.knows(&key, now) {
            return self.forward(&credentials, request);
        }
        let (hash, is_known) = self.settings.users.find(&credentials.name);
        let mut check = match hash.check(&credentials.password) {
            Check::Slow(check) => check,
            quick => match self.queue.at_once(|| quick.finish())? {
                Some(is_right) => return self.finish(is_right && is_known, key, &credentials, request),
                None => return self.put_off(request),
            },
        };
        if self.queue.is_full() {
            return self.put_off(request);
        }
        // Whoever waits already comes first.
        let outcome = if self.queue.is_empty() { self.queue.slice(&mut check, now)? } else { None };
        if let Some(is_right) = outcome {
            return self.finish(is_right && is_known, key, &credentials, request);
        }
        let stream = Rc::downgrade(waits.insert(Rc::default()));
        let held = request.hold(Self::go_on);
        self.queue.push(Job { check, is_known, key, held, stream })?;
        Ok(Action::Pause)
    }

    fn on_tick(&self) -> Result<(), HostError> {
        let start = portolan_sdk::now()?;
        while let Some(mut job) = self.queue.pop() {
            // Another request with the same password may have been first.
            let outcome =
                if self.cache.knows(&job.key, start) { Some(true) } else { self.queue.slice(&mut job.check, start)? };
            let Some(is_right) = outcome else {
                self.queue.put_back(job);
                break;
            };
            let is_right = is_right && job.is_known;
            if is_right {
                self.cache.remember(job.key, portolan_sdk::now()?);
            }
            self.outcome.set(is_right);
            job.held.resume();
        }
        self.queue.rest()
    }
}

impl BasicAuth {
    /// The password of a request that has waited is known to be right or wrong.
    fn go_on(&self, _: &mut Option<Rc<()>>, request: &Request<'_>) -> Result<Action, HostError> {
        match credentials(request)? {
            Some(credentials) if self.outcome.take() => self.forward(&credentials, request),
            _ => self.challenge(request),
        }
    }

    fn finish(
        &self,
        is_right: bool,
        key: Key,
        credentials: &Credentials,
        request: &Request<'_>,
    ) -> Result<Action, HostError> {
        if !is_right {
            return self.challenge(request);
        }
        self.cache.remember(key, portolan_sdk::now()?);
        self.forward(credentials, request)
    }

    fn forward(&self, credentials: &Credentials, request: &Request<'_>) -> Result<Action, HostError> {
        self.allowed.increment()?;
        if !self.config.forward_authorization {
            request.remove_header("authorization")?;
        }
        if let Some(name) = &self.config.forward_username_header {
            request.set_header(name, &credentials.name)?;
        }
        Ok(Action::Continue)
    }

    fn challenge(&self, request: &Request<'_>) -> Result<Action, HostError> {
        self.denied.increment()?;
        let reply = LocalReply::new(401).body(b"unauthorized").details("basic_auth_denied");
        let reply = reply.header("www-authenticate", &self.settings.challenge);
        request.reply(&reply.grpc_status(UNAUTHENTICATED))
    }

    fn put_off(&self, request: &Request<'_>) -> Result<Action, HostError> {
        self.busy.increment()?;
        let reply = LocalReply::new(503).body(b"try again").details("basic_auth_busy");
        request.reply(&reply.header("retry-after", "1").grpc_status(UNAVAILABLE))
    }
}

/// What the client says of itself; none also when it says several things.
fn credentials(request: &Request<'_>) -> Result<Option<Credentials>, HostError> {
    let mut lines = request.headers()?.filter(|(name, _)| *name == b"authorization").map(|(_, value)| value);
    let only = lines.next().filter(|_| lines.next().is_none());
    Ok(only.and_then(Credentials::read))
}

portolan_sdk::filter! { BasicAuth: schema, stream, on_request_headers, on_tick, holds }

#[cfg(test)]
mod tests;
