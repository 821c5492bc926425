//! What clients are told: the refusal, and the headers of the draft.

use portolan_sdk::{Action, HostError, LocalReply, Request, Response};

use crate::bucket::Verdict;
use crate::rule::Rule;

const RESOURCE_EXHAUSTED: i32 = 8;
const UNAVAILABLE: i32 = 14;

/// What the strictest rule so far has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its place.
    pub(crate) rule: usize,
    pub(crate) remaining: u64,
    pub(crate) full_after: u64,
}

impl Told {
    pub(crate) fn new(rule: usize, verdict: &Verdict) -> Self {
        Self { rule, remaining: verdict.remaining, full_after: verdict.full_after }
    }

    /// Writes the three headers.
    pub(crate) fn write(&self, rule: &Rule, response: &Response<'_>) -> Result<(), HostError> {
        for (name, value) in self.headers(rule) {
            response.set_header(name, value.as_bytes())?;
        }
        Ok(())
    }

    fn headers(&self, rule: &Rule) -> [(&'static str, String); 3] {
        [
            ("x-ratelimit-limit", rule.limit.clone()),
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-reset", seconds(self.full_after).to_string()),
        ]
    }
}

/// Refuses the request; `told` when the headers of the draft are wanted.
pub(crate) fn refuse(
    request: &Request<'_>,
    status: u32,
    rule: &Rule,
    verdict: &Verdict,
    told: Option<&Told>,
) -> Result<Action, HostError> {
    let retry_after = seconds(verdict.retry_after).max(1).to_string();
    let headers = told.map(|told| told.headers(rule));
    let mut reply = LocalReply::new(status)
        .body(b"local_rate_limited")
        .details("local_rate_limited")
        .grpc_status(RESOURCE_EXHAUSTED)
        .header("retry-after", &retry_after);
    for (name, value) in headers.iter().flatten() {
        reply = reply.header(name, value);
    }
    request.reply(&reply)
}

/// Refuses the request since nobody can say whether it is one too many.
pub(crate) fn refuse_unknown(request: &Request<'_>) -> Result<Action, HostError> {
    let reply = LocalReply::new(503).body(b"rate_limiter_error").details("rate_limiter_error").grpc_status(UNAVAILABLE);
    request.reply(&reply.header("retry-after", "1"))
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}
