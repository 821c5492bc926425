//! The bundled filter `jwt-auth`: checks JSON Web Tokens as Istio's RequestAuthentication does, and claims that requests
//! need, as its AuthorizationPolicy does.

pub mod cache;
mod config;
pub mod der;
mod fetch;
pub mod jwks;
pub mod keyring;
mod object;
mod pass;
pub mod refusal;
pub mod rule;
mod sources;
pub mod token;
pub mod verify;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use cache::{Cache, Verified};
use config::{Config, Policy};
use keyring::Keyring;
use portolan_sdk::prelude::*;
use portolan_sdk::{Metric, MetricType, timer};
use refusal::Refusal;
use sources::Found;
use token::Token;
use verify::{Question, VERIFY_FUNCTION};

/// How often it is looked whether keys are due.
const TICK: Duration = Duration::from_secs(1);

/// The first look: a new filter should have its keys before its first request.
const FIRST_TICK: Duration = Duration::from_millis(1);

/// The filter.
pub struct JwtAuth {
    policy: Policy,
    /// By rule.
    rings: Vec<RefCell<Keyring>>,
    cache: RefCell<Cache>,
    allowed: Metric,
    denied: Metric,
    fetch_failed: Metric,
}

/// What is known of the tokens of a request.
enum Judgement {
    /// All of them are good; the first, when there is one.
    Good(Option<Verified>),
    Refused(Refusal),
    /// Of this rule.
    NeedsKeys(usize),
}

impl Filter for JwtAuth {
    type Config = Config;
    type Stream = ();

    const ON_ERROR: OnError = OnError::Fail;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let counter = |name| Metric::define(MetricType::Counter, name);
        let policy = config::read(config)?;
        if policy.rules.iter().any(|rule| rule.keys.is_remote()) {
            timer::every(FIRST_TICK)?;
        }
        for (place, reason) in policy.skipped_keys() {
            portolan_sdk::log::warn(&format!("rules[{place}]: jwks: a key is of no use: {reason}"));
        }
        Ok(Self {
            rings: policy.rules.iter().map(|rule| RefCell::new(Keyring::new(&rule.keys))).collect(),
            cache: RefCell::new(Cache::new(policy.cache_size)),
            policy,
            allowed: counter("jwt_auth_allowed")?,
            denied: counter("jwt_auth_denied")?,
            fetch_failed: counter("jwt_auth_jwks_fetch_failed")?,
        })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        if is_preflight(request)? {
            return Ok(Action::Continue);
        }
        for exempt in &self.policy.exempt {
            if exempt.holds(request)? {
                return Ok(Action::Continue);
            }
        }
        self.check(request, None)
    }

    fn on_tick(&self) -> Result<(), HostError> {
        timer::every(TICK)?;
        self.fetch_due()
    }
}

impl JwtAuth {
    /// Judges the request's tokens. `fetched` is the rule whose keys have just been fetched for it.
    fn check(&self, request: &Request<'_>, fetched: Option<usize>) -> Result<Action, HostError> {
        let now = portolan_sdk::now()? / 1_000_000_000;
        let found = sources::find(&self.policy.rules, request)?;
        match self.judge(request, &found, now)? {
            Judgement::Good(verified) => self.pass(request, verified.as_ref(), &found),
            Judgement::Refused(refusal) => self.refuse(request, refusal),
            Judgement::NeedsKeys(rule) if fetched != Some(rule) => self.fetch_for(request, rule),
            Judgement::NeedsKeys(rule) => {
                let has_keys = !self.rings[rule].borrow().keys().is_empty();
                self.refuse(request, if has_keys { Refusal::NoKey } else { Refusal::Fetch })
            }
        }
    }

    fn judge(&self, request: &Request<'_>, found: &[Found], now: u64) -> Result<Judgement, HostError> {
        let mut first = None;
        for found in found {
            match self.judge_one(request, found, now)? {
                Judgement::Good(verified) => first = first.or(verified),
                other => return Ok(other),
            }
        }
        Ok(match first {
            None if self.policy.required => Judgement::Refused(Refusal::Missing),
            first => Judgement::Good(first),
        })
    }

    fn judge_one(&self, request: &Request<'_>, found: &Found, now: u64) -> Result<Judgement, HostError> {
        let known =
            self.cache.borrow().known(&found.token, now).filter(|known| found.rules.contains(&known.rule)).cloned();
        if known.is_some() {
            return Ok(Judgement::Good(known));
        }
        let token = match Token::parse(&found.token) {
            Ok(token) => token,
            Err(refusal) => return Ok(Judgement::Refused(refusal)),
        };
        let is_its = |rule: &&usize| self.policy.rules[**rule].issuer == token.claims.issuer;
        let takes_any = |rule: &&usize| self.policy.rules[**rule].issuer.is_empty();
        let Some(rule) = found.rules.iter().find(is_its).or_else(|| found.rules.iter().find(takes_any)).copied() else {
            return Ok(Judgement::Refused(Refusal::UnknownIssuer));
        };
        if let Err(refusal) = self.policy.rules[rule].check(&token.claims, now) {
            return Ok(Judgement::Refused(refusal));
        }
        self.judge_signature(request, found, token, rule, now)
    }

    fn judge_signature(
        &self,
        request: &Request<'_>,
        found: &Found,
        token: Token<'_>,
        rule: usize,
        now: u64,
    ) -> Result<Judgement, HostError> {
        let keys = self.rings[rule].borrow().keys();
        let mut fitting = keys.fitting(token.kid.as_deref(), token.algorithm).peekable();
        if fitting.peek().is_none() {
            let is_remote = self.policy.rules[rule].keys.is_remote();
            let may_look = is_remote && (keys.is_empty() || self.rings[rule].borrow().may_look_again(now * 1_000));
            return Ok(if may_look { Judgement::NeedsKeys(rule) } else { Judgement::Refused(Refusal::NoKey) });
        }
        for key in fitting {
            let is_good = match verify::question(&key.material, &token) {
                Question::Answered(is_good) => is_good,
                Question::Host(argument) => verify::is_verified(request.call_foreign(VERIFY_FUNCTION, &argument)?),
            };
            if is_good {
                let verified = Verified { rule, payload: token.payload.into(), claims: Rc::new(token.claims) };
                self.cache.borrow_mut().remember(&found.token, verified.clone(), now);
                return Ok(Judgement::Good(Some(verified)));
            }
        }
        Ok(Judgement::Refused(Refusal::Signature))
    }

    fn refuse(&self, request: &Request<'_>, refusal: Refusal) -> Result<Action, HostError> {
        self.denied.increment(1)?;
        let challenge = refusal.challenge(&realm(request)?);
        let details = refusal.details();
        let reply = LocalReply::new(refusal.status()).body(refusal.text().as_bytes()).details(&details);
        request.reply(&reply.header("www-authenticate", &challenge))
    }
}

/// A CORS preflight has no credentials by its nature; Istio lets it by.
fn is_preflight(request: &Request<'_>) -> Result<bool, HostError> {
    Ok(request.method()? == b"OPTIONS"
        && request.header("origin")?.is_some_and(|origin| !origin.is_empty())
        && request.header("access-control-request-method")?.is_some_and(|method| !method.is_empty()))
}

/// The address that was asked for, as Envoy names it.
fn realm(request: &Request<'_>) -> Result<String, HostError> {
    const LONGEST: usize = 256;
    let parts = [request.scheme()?, b"://", request.authority()?, request.target()?].concat();
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    Ok(parts.iter().take(LONGEST).filter(|byte| plain(byte)).map(|byte| char::from(*byte)).collect())
}

portolan_sdk::filter! { JwtAuth: schema, stream, on_request_headers, on_tick, http_calls }

#[cfg(test)]
mod tests;
