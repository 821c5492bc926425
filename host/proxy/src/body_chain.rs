//! Bodies and trailers through the plugins: each plugin holds what it has paused on, and lets it go on when it continues
//! or is resumed. Requests forwards, responses backwards.
//!
//! Semantics are Envoy's: a paused callback sees the whole of what it holds with each further chunk; trailers that pass a
//! plugin take along what it holds.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use portolan_wasm::{BodyBuffer, FilterAction, StreamState};

use crate::context::StreamContext;
use crate::filter_chain::Direction;
use crate::flow::{Carry, Flow};
use crate::local_reply::Reply;
use crate::stream::Stream;

/// What became of a part of the body at one plugin.
enum Passed {
    On(Bytes),
    Held,
}

impl Stream {
    /// A chunk through all plugins; `end` when neither more of the body nor trailers follow.
    pub(crate) fn feed(self: &Rc<Self>, direction: Direction, data: Bytes, end: bool) -> Result<(), Box<Reply>> {
        self.pass(direction, 0, data, end)
    }

    /// Trailers through all plugins.
    pub(crate) fn feed_trailers(self: &Rc<Self>, direction: Direction, trailers: HeaderMap) -> Result<(), Box<Reply>> {
        self.with_state(|state| *trailers_of(state, direction) = Some(trailers));
        self.pass_trailers(direction, 0)
    }

    /// Lets go on what may: what was resumed, what waited behind a head, what a VM that is gone has held.
    pub(crate) fn go_on(self: &Rc<Self>, direction: Direction) -> Result<(), Box<Reply>> {
        self.go_on_behind_head(direction)?;
        for step in 0..self.view.plugins.len() {
            let at = self.place(direction, step);
            if self.is_pausing(direction, at) && (self.take_resumed(at, direction) || self.is_let_go_by_failure(at)?) {
                self.resume(direction, step)?;
            }
        }
        Ok(())
    }

    /// The shortest limit of the plugins that pause now.
    pub(crate) fn pause_limit(&self, direction: Direction) -> Duration {
        let pausing = (0..self.view.plugins.len()).filter(|at| self.is_pausing(direction, *at));
        pausing.map(|at| self.plugin(at).limits().paused_deadline).min().unwrap_or_default()
    }

    /// The pauses that may last no longer than the shortest have lasted too long: each plugin is dealt with as its fail
    /// policy says. The others' time begins again.
    pub(crate) fn end_pauses(self: &Rc<Self>, direction: Direction) -> Result<(), Box<Reply>> {
        let limit = self.pause_limit(direction);
        for step in 0..self.view.plugins.len() {
            let at = self.place(direction, step);
            if self.is_pausing(direction, at) && self.plugin(at).limits().paused_deadline <= limit {
                self.fail(at, Reply::paused_too_long)?;
                self.resume(direction, step)?;
            }
        }
        self.with_flow(direction, Flow::end_pause);
        Ok(())
    }

    fn is_pausing(&self, direction: Direction, at: usize) -> bool {
        self.with_flow(direction, |flow| flow.stages.get(at).is_some_and(|stage| stage.pausing))
    }

    /// A chunk through the plugins from this step on.
    fn pass(self: &Rc<Self>, direction: Direction, from: usize, mut data: Bytes, end: bool) -> Result<(), Box<Reply>> {
        for step in from..self.view.plugins.len() {
            if data.is_empty() && !end {
                return Ok(());
            }
            let at = self.place(direction, step);
            if !self.sees_body(direction, at) {
                if self.is_head_held_by(direction, at) {
                    return self.carry(direction, step, data, end, false);
                }
                continue;
            }
            data = match self.pass_one(direction, at, data, end)? {
                Passed::On(data) if self.is_head_held_by(direction, at) => {
                    // The body has gone past the plugin that holds the head: that is its leave for the head as well.
                    self.resume_head(at, direction);
                    return self.carry(direction, step, data, end, false);
                }
                Passed::On(data) => data,
                Passed::Held => return Ok(()),
            };
        }
        let trailers = if end { self.with_state(|state| trailers_of(state, direction).take()) } else { None };
        self.with_flow(direction, |flow| {
            if !data.is_empty() {
                flow.push(Frame::data(data));
            }
            if let Some(trailers) = trailers {
                flow.push(Frame::trailers(trailers));
            }
            flow.finished |= end;
        });
        Ok(())
    }

    fn pass_one(
        self: &Rc<Self>,
        direction: Direction,
        at: usize,
        data: Bytes,
        end: bool,
    ) -> Result<Passed, Box<Reply>> {
        let mut held = self.with_flow(direction, |flow| {
            let stage = flow.stage(at);
            stage.held.push(data);
            stage.end |= end;
            mem::take(&mut stage.held)
        });
        let size = held.len();
        self.with_state(|state| mem::swap(body_of(state, direction), &mut held));
        let called = self.call_body(direction, at, size, end);
        let mut held = self.with_state(|state| mem::take(body_of(state, direction)));
        let paused = match self.carried_out(at, called)? {
            FilterAction::Continue => false,
            FilterAction::Pause => !self.take_resumed(at, direction),
            FilterAction::Reply => match self.taken_reply(at) {
                Some(reply) => return Err(reply),
                None => false,
            },
        };
        let limit = self.plugin(at).limits().buffer_bytes;
        if paused && held.len() > limit {
            return Err(Box::new(Reply::body_too_large()));
        }
        if paused {
            self.hold_stream(at);
        }
        Ok(self.with_flow(direction, |flow| {
            let stage = flow.stage(at);
            stage.pausing = paused;
            if paused {
                stage.held = held;
                return Passed::Held;
            }
            Passed::On(held.take())
        }))
    }

    fn pass_trailers(self: &Rc<Self>, direction: Direction, from: usize) -> Result<(), Box<Reply>> {
        for step in from..self.view.plugins.len() {
            let at = self.place(direction, step);
            if self.pauses_trailers(direction, at)? {
                self.hold_stream(at);
                self.with_flow(direction, |flow| {
                    let stage = flow.stage(at);
                    stage.pausing = true;
                    stage.trailers = true;
                });
                return Ok(());
            }
            let held = self.with_flow(direction, |flow| flow.stages.get_mut(at).map(release)).unwrap_or_default();
            if self.is_head_held_by(direction, at) {
                self.resume_head(at, direction);
                return self.carry(direction, step, held, false, true);
            }
            self.pass(direction, step + 1, held, false)?;
        }
        let trailers = self.with_state(|state| trailers_of(state, direction).take()).unwrap_or_default();
        self.with_flow(direction, |flow| {
            flow.push(Frame::trailers(trailers));
            flow.finished = true;
        });
        Ok(())
    }

    /// Runs the trailers callback of one plugin; true when it pauses.
    fn pauses_trailers(self: &Rc<Self>, direction: Direction, at: usize) -> Result<bool, Box<Reply>> {
        let callbacks = self.plugin(at).callbacks;
        let wanted = match direction {
            Direction::Request => callbacks.request_trailers,
            Direction::Response => callbacks.response_trailers,
        };
        if !wanted || !self.has_seen(at) {
            return Ok(false);
        }
        // What the plugin holds of the body is there for it in this callback too.
        self.swap_stage(direction, at);
        let called = self.call(at, Some(direction), false, |vm, id, state| match direction {
            Direction::Request => vm.on_request_trailers(id, state),
            Direction::Response => vm.on_response_trailers(id, state),
        });
        self.swap_stage(direction, at);
        match self.carried_out(at, called)? {
            FilterAction::Continue => Ok(false),
            FilterAction::Pause => Ok(!self.take_resumed(at, direction)),
            FilterAction::Reply => self.taken_reply(at).map_or(Ok(false), Err),
        }
    }

    /// Lets go on what the plugin at this step holds.
    fn resume(self: &Rc<Self>, direction: Direction, step: usize) -> Result<(), Box<Reply>> {
        let at = self.place(direction, step);
        let (data, end, trailers) = self.with_flow(direction, |flow| {
            let stage = flow.stage(at);
            let trailers = mem::take(&mut stage.trailers);
            let end = stage.end && !trailers;
            (release(stage), end, trailers)
        });
        if self.is_head_held_by(direction, at) {
            self.resume_head(at, direction);
            return self.carry(direction, step, data, end, trailers);
        }
        self.pass(direction, step + 1, data, end)?;
        if trailers { self.pass_trailers(direction, step + 1) } else { Ok(()) }
    }

    /// The plugin that holds the head has resumed the stream: what it holds of the body behind it goes on as well, as in
    /// Envoy.
    pub(crate) fn resume_behind_head(self: &Rc<Self>, at: usize, direction: Direction) -> Result<(), Box<Reply>> {
        if self.is_pausing(direction, at) {
            self.resume(direction, self.place(direction, at))?;
            // Letting the body go is leave for the head, which has it.
            self.take_resumed(at, direction);
        }
        Ok(())
    }

    /// Keeps what has passed the plugin that holds the head.
    fn carry(
        &self,
        direction: Direction,
        step: usize,
        data: Bytes,
        end: bool,
        trailers: bool,
    ) -> Result<(), Box<Reply>> {
        let limit = self.plugin(self.place(direction, step)).limits().buffer_bytes;
        let held = self.with_flow(direction, |flow| {
            let fresh = || Carry { step: step + 1, data: BodyBuffer::new(), end: false, trailers: false };
            let carry = flow.carry.get_or_insert_with(fresh);
            carry.data.push(data);
            carry.end |= end;
            carry.trailers |= trailers;
            carry.data.len()
        });
        if held > limit { Err(Box::new(Reply::body_too_large())) } else { Ok(()) }
    }

    /// What has passed a plugin that held the head goes on behind it, once the head has.
    pub(crate) fn go_on_behind_head(self: &Rc<Self>, direction: Direction) -> Result<(), Box<Reply>> {
        let Some(mut carry) = self.with_flow(direction, |flow| flow.carry.take()) else { return Ok(()) };
        self.pass(direction, carry.step, carry.data.take(), carry.end)?;
        if carry.trailers { self.pass_trailers(direction, carry.step) } else { Ok(()) }
    }

    fn is_head_held_by(&self, direction: Direction, at: usize) -> bool {
        self.with_flow(direction, |flow| flow.head_held_by == Some(at))
    }

    fn sees_body(&self, direction: Direction, at: usize) -> bool {
        let callbacks = self.plugin(at).callbacks;
        let wanted = match direction {
            Direction::Request => callbacks.request_body,
            Direction::Response => callbacks.response_body,
        };
        wanted && self.has_seen(at)
    }

    /// True when the plugin's VM is gone and it fails open; the reply when it fails closed.
    fn is_let_go_by_failure(&self, at: usize) -> Result<bool, Box<Reply>> {
        if self.is_live(at) {
            return Ok(false);
        }
        self.fail(at, || Reply::filter_failed(&self.plugin(at).named())).map(|()| true)
    }

    /// The plugin's place at this step of the way.
    pub(crate) fn place(&self, direction: Direction, step: usize) -> usize {
        match direction {
            Direction::Request => step,
            Direction::Response => self.view.plugins.len() - 1 - step,
        }
    }

    /// Puts what a plugin holds into the state, and back: a callback of another context may look at it.
    pub(crate) fn swap_held(&self, at: usize, state: &mut StreamState<StreamContext>) {
        if self.has_flows() {
            for direction in [Direction::Request, Direction::Response] {
                self.with_flow(direction, |flow| swap(flow, at, body_of(state, direction)));
            }
        }
    }

    fn swap_stage(&self, direction: Direction, at: usize) {
        self.with_state(|state| self.with_flow(direction, |flow| swap(flow, at, body_of(state, direction))));
    }
}

fn swap(flow: &mut Flow, at: usize, body: &mut BodyBuffer) {
    if let Some(stage) = flow.stages.get_mut(at) {
        mem::swap(&mut stage.held, body);
    }
}

/// Ends a plugin's pause and takes out what it held.
fn release(stage: &mut crate::flow::Stage) -> Bytes {
    stage.pausing = false;
    stage.held.take()
}

fn body_of(state: &mut StreamState<StreamContext>, direction: Direction) -> &mut BodyBuffer {
    match direction {
        Direction::Request => &mut state.request_body,
        Direction::Response => &mut state.response_body,
    }
}

fn trailers_of(state: &mut StreamState<StreamContext>, direction: Direction) -> &mut Option<HeaderMap> {
    match direction {
        Direction::Request => &mut state.request_trailers,
        Direction::Response => &mut state.response_trailers,
    }
}
