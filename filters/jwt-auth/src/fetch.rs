//! How a rule's keys are brought from their server: at a tick when they are due, or for a request that waits for them.

use std::rc::Rc;

use portolan_sdk::prelude::*;
use portolan_sdk::root;

use crate::JwtAuth;
use crate::jwks::{Keys, MAX_SET};
use crate::refusal::Refusal;
use crate::rule::{KeySource, RemoteKeys};

/// Requests that may wait for keys at a time, by rule; each asks by itself. More are refused.
const MAX_WAITING: usize = 100;

impl JwtAuth {
    /// Fetches what is due.
    pub(crate) fn fetch_due(&self) -> Result<(), HostError> {
        let now = now_ms()?;
        for (rule, ring) in self.rings.iter().enumerate() {
            if !ring.borrow().is_due(now) {
                continue;
            }
            let Some(remote) = self.remote(rule) else { continue };
            ring.borrow_mut().begin(now);
            let sent =
                root::call(&call(remote), move |filter: &Self, answer: &Answer<'_>| filter.answered(rule, answer));
            if let Err(error) = sent {
                self.failed(rule, &error.to_string())?;
            }
        }
        Ok(())
    }

    /// Holds a request until its rule's keys are there.
    pub(crate) fn fetch_for(&self, request: &Request<'_>, rule: usize) -> Result<Action, HostError> {
        let Some(remote) = self.remote(rule) else { return self.refuse(request, Refusal::NoKey) };
        if self.rings[rule].borrow().waiting() >= MAX_WAITING {
            return self.refuse(request, Refusal::Fetch);
        }
        self.rings[rule].borrow_mut().begin(now_ms()?);
        let wait = self.rings[rule].borrow().wait();
        self.ask(request, rule, remote, wait)
    }

    /// Asks for a request that waits as long as there is `wait`.
    fn ask(&self, request: &Request<'_>, rule: usize, at: &RemoteKeys, wait: Rc<()>) -> Result<Action, HostError> {
        let discovers = at.discovers;
        let sent = request.call(&call(at), move |filter: &Self, (), request, answer: &Answer<'_>| {
            match discovers.then(|| filter.keys_at(rule, answer)).flatten() {
                Some(Ok(keys)) => return filter.ask(request, rule, &keys, wait),
                Some(Err(reason)) => filter.failed(rule, &reason)?,
                None => filter.fetched(rule, answer)?,
            }
            drop(wait);
            filter.check(request, Some(rule))
        });
        sent.or_else(|error| {
            self.failed(rule, &error.to_string())?;
            self.refuse(request, Refusal::Fetch)
        })
    }

    /// Takes keys over, or asks where the issuer says that they are.
    fn answered(&self, rule: usize, answer: &Answer<'_>) -> Result<(), HostError> {
        let keys = match self.keys_at(rule, answer) {
            None => return self.fetched(rule, answer),
            Some(keys) => keys,
        };
        let sent = keys.and_then(|keys| {
            let then = move |filter: &Self, answer: &Answer<'_>| filter.fetched(rule, answer);
            root::call(&call(&keys), then).map_err(|error| error.to_string())
        });
        sent.map(|_| ()).or_else(|reason| self.failed(rule, &reason))
    }

    /// Where the keys are by an answer that says so; none for a rule that knows.
    fn keys_at(&self, rule: usize, answer: &Answer<'_>) -> Option<Result<RemoteKeys, String>> {
        let remote = self.remote(rule).filter(|remote| remote.discovers)?;
        if answer.status() != 200 {
            return Some(Err(format!("its server answers {}", answer.status())));
        }
        if answer.body_size() > MAX_SET {
            return Some(Err(format!("{} bytes are too many", answer.body_size())));
        }
        let body = answer.body().map_err(|error| error.to_string());
        Some(body.and_then(|body| remote.discovered(body)))
    }

    /// Takes keys over. Those that there are stay when the answer holds none.
    fn fetched(&self, rule: usize, answer: &Answer<'_>) -> Result<(), HostError> {
        if answer.status() != 200 {
            return self.failed(rule, &format!("its server answers {}", answer.status()));
        }
        if answer.body_size() > MAX_SET {
            return self.failed(rule, &format!("{} bytes are too many", answer.body_size()));
        }
        let keys = match Keys::read(answer.body()?) {
            Ok(keys) => keys,
            Err(reason) => return self.failed(rule, &reason),
        };
        if self.rings[rule].borrow_mut().replace(keys, now_ms()?) {
            self.cache.borrow_mut().forget_rule(rule);
        }
        Ok(())
    }

    fn failed(&self, rule: usize, reason: &str) -> Result<(), HostError> {
        self.fetch_failed.increment(1)?;
        let issuer = &self.policy.rules[rule].issuer;
        portolan_sdk::log::warn(&format!(
            "the keys of `{issuer}` cannot be fetched: {reason}; those that there are stay"
        ));
        Ok(())
    }

    fn remote(&self, rule: usize) -> Option<&RemoteKeys> {
        match &self.policy.rules[rule].keys {
            KeySource::Remote(remote) => Some(remote),
            KeySource::Inline(_) => None,
        }
    }
}

fn call(remote: &RemoteKeys) -> HttpCall<'_> {
    let call = HttpCall::get(&remote.cluster, &remote.path).authority(&remote.authority);
    call.header("accept", "application/json").timeout(remote.timeout)
}

fn now_ms() -> Result<u64, HostError> {
    Ok(portolan_sdk::now()? / 1_000_000)
}
