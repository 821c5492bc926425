//! [`Flow`]: what is known of one direction of a stream between its callbacks.

use crate::Action;
use crate::message::{At, Part};

/// Both directions of a stream.
#[derive(Default)]
pub(crate) struct Flows {
    request: Flow,
    response: Flow,
}

/// One direction.
#[derive(Default)]
pub(crate) struct Flow {
    /// The filter's last word was to hold it.
    pub(super) held: bool,
    /// A part of the body has gone on, which a later callback cannot see any more.
    passed: bool,
    /// Came while a call was waiting for its answer: the body so far, and the trailers.
    body: Option<At>,
    trailers: Option<At>,
}

impl Flows {
    pub(super) fn of(&mut self, part: Part) -> &mut Flow {
        if part.is_request() { &mut self.request } else { &mut self.response }
    }
}

impl Flow {
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    /// Remembers a part for later when the filter waits for an answer; false when it does not.
    pub(super) fn misses(&mut self, at: At, awaits: impl FnOnce() -> bool) -> bool {
        if !self.held || !awaits() {
            return false;
        }
        match at.part {
            Part::RequestTrailers | Part::ResponseTrailers => self.trailers = Some(at),
            _ => self.body = Some(at),
        }
        true
    }

    /// The next part that came meanwhile.
    pub(super) fn missed(&mut self) -> Option<At> {
        self.body.take().or_else(|| self.trailers.take())
    }

    /// Notes what the filter said to a part.
    pub(super) fn note(&mut self, at: At, action: Action) {
        self.held = action == Action::Pause;
        self.passed |= !self.held && at.part.is_body() && !at.end_of_stream;
    }
}
