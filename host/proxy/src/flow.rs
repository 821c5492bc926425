//! [`Flow`]: one direction of a stream's body: what each plugin holds of it, and what may go on.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;
use portolan_wasm::BodyBuffer;
use tokio::time::{Instant, Sleep, sleep_until};

/// Both directions. Made when a filter first holds or sees a body.
#[derive(Default)]
pub(crate) struct Flows {
    pub(crate) request: Flow,
    pub(crate) response: Flow,
}

/// One direction.
#[derive(Default)]
pub(crate) struct Flow {
    /// By the plugin's place in the chain.
    pub(crate) stages: Vec<Stage>,
    /// What all plugins have let go.
    ready: VecDeque<Frame<Bytes>>,
    /// The last frame is among those.
    pub(crate) finished: bool,
    /// The plugin that holds the head, while bodies run past it (ABI 0.2.100's rule).
    pub(crate) head_held_by: Option<usize>,
    /// What that plugin has let go, for the plugins behind it once they have seen the head.
    pub(crate) carry: Option<Carry>,
    waker: Option<Waker>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// What one plugin holds.
#[derive(Default)]
pub(crate) struct Stage {
    pub(crate) held: BodyBuffer,
    /// The plugin has paused and not been resumed.
    pub(crate) pausing: bool,
    /// Nothing follows what is held.
    pub(crate) end: bool,
    /// The trailers are held as well.
    pub(crate) trailers: bool,
}

/// What comes after a held head: where it goes on, and how much of it is there.
pub(crate) struct Carry {
    pub(crate) step: usize,
    pub(crate) data: BodyBuffer,
    pub(crate) end: bool,
    pub(crate) trailers: bool,
}

impl Flow {
    /// The stage of the plugin at this place.
    pub(crate) fn stage(&mut self, at: usize) -> &mut Stage {
        if self.stages.len() <= at {
            self.stages.resize_with(at + 1, Stage::default);
        }
        &mut self.stages[at]
    }

    /// Lets data go on.
    pub(crate) fn push(&mut self, frame: Frame<Bytes>) {
        self.ready.push_back(frame);
    }

    /// The next frame that may go on; `Some(None)` at the end.
    pub(crate) fn next(&mut self) -> Option<Option<Frame<Bytes>>> {
        match self.ready.pop_front() {
            Some(frame) => Some(Some(frame)),
            None if self.finished => Some(None),
            None => None,
        }
    }

    /// Some plugin holds a part of the body or the trailers.
    pub(crate) fn is_pausing(&self) -> bool {
        self.stages.iter().any(|stage| stage.pausing)
    }

    /// Remembers whom to wake.
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ready when the pause has lasted too long. The time runs from the first call of a pause on.
    pub(crate) fn poll_deadline(&mut self, cx: &mut Context<'_>, until: impl FnOnce() -> Instant) -> Poll<()> {
        self.deadline.get_or_insert_with(|| Box::pin(sleep_until(until()))).as_mut().poll(cx)
    }

    /// The pause is over.
    pub(crate) fn end_pause(&mut self) {
        self.deadline = None;
    }
}
