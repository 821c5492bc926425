//! What of a request is left for another try, and whether there may be one.

use http::Request;

use super::{Attempts, Source};
use crate::body::RequestBody;
use crate::local_reply::{Failure, Reply};
use crate::retry::{self, Again};
use crate::upstream::Form;

impl Attempts<'_> {
    /// The request as it was, when none of it was sent.
    pub(super) fn take_back(&mut self, request: Request<RequestBody>) {
        let (parts, body) = request.into_parts();
        if self.form != Form::WebSocket {
            self.unsent = Some(parts);
        }
        match body.without_turning() {
            RequestBody::Streamed(incoming, _) => self.body = Source::Fresh(*incoming),
            RequestBody::Filtered(filtered) => self.body = Source::Filtered(filtered),
            _ => {}
        }
    }

    /// What is answered when there is no other try after a failure; none after the pause before one.
    pub(super) async fn give_up(
        &mut self,
        failure: Failure,
        cause: Option<String>,
        reason: Option<String>,
        unsent: bool,
    ) -> Option<Box<Reply>> {
        let wanted = self.policy.attempts > 0 && retry::after_failure(self.policy, failure, unsent);
        match if wanted { self.may_try_again() } else { Again::No } {
            Again::Yes => {
                self.job.stream.on_try_ended(if failure == Failure::TryTimeout { 504 } else { 503 }, false);
                self.pause().await;
                None
            }
            no => {
                let mut reply = Reply::failed(failure, cause).with_flags(no.flags());
                if let Some(reason) = &reason {
                    reply = reply.for_reason(reason);
                }
                Some(Box::new(if self.tries > 1 { reply.after_retries() } else { reply }))
            }
        }
    }

    /// True when the failure is the connection's, which had ended before, and the request can go again on another.
    pub(super) fn is_stale(&self, failure: Failure, unsent: bool) -> bool {
        match failure {
            Failure::Reset => self.is_repeatable(unsent),
            // The upstream was about to go and has not looked at it.
            Failure::StreamRefused => self.has_body_and_head(),
            _ => false,
        }
    }

    fn has_body_and_head(&self) -> bool {
        let has_body = match &self.body {
            Source::Empty => true,
            Source::Replay(replay) => replay.borrow().is_whole(),
            Source::Fresh(_) | Source::Filtered(_) => self.unsent.is_some(),
            Source::Spent => false,
        };
        has_body && (self.unsent.is_some() || self.kept.is_some())
    }

    /// True when sending again can do no harm that the client did not ask for, and is possible.
    fn is_repeatable(&self, unsent: bool) -> bool {
        let is_whole = match &self.body {
            Source::Empty => true,
            Source::Replay(replay) => replay.borrow().is_whole(),
            Source::Fresh(_) | Source::Filtered(_) | Source::Spent => false,
        };
        match (&self.unsent, &self.kept) {
            _ if matches!(self.body, Source::Spent) => false,
            (Some(_), _) => unsent,
            (None, Some(kept)) => is_whole && kept.is_idempotent(),
            (None, None) => false,
        }
    }

    /// Takes a place for one more try, if the policy, the request and the cluster's limit have one left.
    pub(super) fn may_try_again(&mut self) -> Again {
        let body_is_there = match &self.body {
            Source::Empty | Source::Fresh(_) | Source::Filtered(_) => true,
            Source::Replay(replay) => replay.borrow().is_whole(),
            Source::Spent => false,
        };
        let head_is_there = self.kept.is_some() || self.unsent.is_some() || self.has_unsent_head();
        if !body_is_there || !head_is_there {
            return Again::No;
        }
        if self.tries > self.policy.attempts {
            self.job.count(|m| &m.upstream_rq_retry_limit_exceeded, |m| &m.upstream_rq_retry_limit_exceeded);
            return Again::LimitExceeded;
        }
        let limit = match self.job.cluster.retry_budget {
            Some(budget) => budget.limit(self.job.cluster.state.in_flight().0),
            None => self.job.stream.with_state(|state| state.host.limits.max_retries),
        };
        self.permit = None;
        self.permit = self.job.cluster.state.retry(limit);
        if self.permit.is_none() {
            self.job.count(|m| &m.upstream_rq_retry_overflow, |m| &m.upstream_rq_retry_overflow);
            return Again::Overflow;
        }
        self.job.count(|m| &m.upstream_rq_retry, |m| &m.upstream_rq_retry);
        Again::Yes
    }

    /// No connection has taken the head yet.
    fn has_unsent_head(&self) -> bool {
        self.job.stream.with_state(|state| !state.request.headers.is_empty())
    }
}
