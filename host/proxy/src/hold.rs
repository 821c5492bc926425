//! How a stream waits while a filter holds a head: until it is resumed or answered, under a deadline. With ABI 0.2.100's
//! rule the body runs on past the held head, and the filter may let the head go from its body callback.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::body_filter::{Inflow, is_last, take_in};
use crate::filter_chain::Direction;
use crate::generation::Role;
use crate::local_reply::Reply;
use crate::route::Action;
use crate::stream::Stream;

impl Stream {
    /// Waits for the plugin that holds the head. None when the head may go on, with or without the plugin.
    pub(crate) async fn hold_head(
        self: &Rc<Self>,
        at: usize,
        direction: Direction,
        inflow: &mut dyn Inflow,
        deadline: Option<Instant>,
    ) -> Option<Box<Reply>> {
        let runs_body = self.plugin(at).runs_body_while_headers_wait();
        if self.take_resumed(at, direction) {
            return None;
        }
        self.hold_stream(at);
        let mut ended = inflow.is_end_stream();
        let until = pause_ends(self.plugin(at).limits().paused_deadline, deadline);
        if runs_body {
            self.with_flow(direction, |flow| flow.head_held_by = Some(at));
            // What has passed an earlier plugin that held the head comes to this one now.
            if let Err(reply) = self.go_on_behind_head(direction) {
                return Some(reply);
            }
        }
        let reply = std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(reply) = self.poll_held(at, direction, cx) {
                    return Poll::Ready(reply);
                }
                if self.with_flow(direction, |flow| flow.poll_deadline(cx, || until)).is_ready() {
                    return Poll::Ready(self.head_is_late(at, deadline));
                }
                if !runs_body || ended {
                    return Poll::Pending;
                }
                if let Err(reply) = self.run_body(direction, inflow, &mut ended, cx) {
                    return Poll::Ready(Some(reply));
                }
                if !ended && !self.is_resumed(at, direction) {
                    return Poll::Pending;
                }
            }
        })
        .await;
        self.with_flow(direction, |flow| {
            flow.head_held_by = None;
            flow.end_pause();
        });
        reply
    }

    /// What has become of a held head so far.
    fn poll_held(self: &Rc<Self>, at: usize, direction: Direction, cx: &Context<'_>) -> Poll<Option<Box<Reply>>> {
        self.with_flow(direction, |flow| flow.register(cx));
        if let Some(reply) = self.take_interruption() {
            return Poll::Ready(Some(Box::new(reply)));
        }
        if self.take_resumed(at, direction) {
            return Poll::Ready(self.resume_behind_head(at, direction).err());
        }
        if !self.is_live(at) {
            return Poll::Ready(self.fail(at, || Reply::filter_failed(&self.plugin(at).named())).err());
        }
        Poll::Pending
    }

    /// Takes in what has come of the body; returns when nothing more is there for now.
    fn run_body(
        self: &Rc<Self>,
        direction: Direction,
        inflow: &mut dyn Inflow,
        ended: &mut bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Box<Reply>> {
        while !*ended {
            let frame = match inflow.poll_frame(self, cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(frame) => frame.transpose().map_err(|_| Box::new(self.broken_body(direction)))?,
            };
            *ended = is_last(frame.as_ref(), inflow);
            take_in(self, direction, frame, *ended)?;
        }
        Ok(())
    }

    /// The time for the head is over: the route's, or the filter's, which goes the way of its fail policy.
    fn head_is_late(&self, at: usize, deadline: Option<Instant>) -> Option<Box<Reply>> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Some(Box::new(Reply::route_timeout()));
        }
        self.fail(at, Reply::paused_too_long).err()
    }

    /// When the route's timeout ends a request's head that this plugin holds: a fault's delay is no part of it.
    pub(crate) fn deadline_of_hold(&self, at: usize) -> Option<Instant> {
        if self.plugin(at).role == Role::Fault { None } else { self.route_deadline() }
    }

    /// When the timeout of the request's route runs out, counted from now.
    fn route_deadline(&self) -> Option<Instant> {
        let route = self.with_state(|state| state.host.route)?;
        match &self.view.snapshot.route(route)?.action {
            Action::Forward(forward) => crate::deadline::after(forward.timeout),
            Action::Redirect(..) | Action::Direct(..) => None,
        }
    }
}

/// When a pause that begins now ends at the latest: with the filter's limit or the route's timeout.
pub(crate) fn pause_ends(limit: Duration, deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let until = now.checked_add(limit).unwrap_or(now);
    deadline.map_or(until, |deadline| deadline.min(until))
}
