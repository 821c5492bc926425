//! [`Streams`]: the requests of a connection of HTTP/2, each with a [`StreamClock`] of its own: one that stands still is
//! ended, and the others go on.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use slab::Slab;
use tokio::task::spawn_local;

use crate::clock;

/// How far the sweep has gone with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// Whoever waits for an upstream is to answer that it took too long.
    Expired,
    /// Nobody has: it is reset.
    Cut,
}

/// What the sweep knows of one request.
#[derive(Debug)]
pub(crate) struct StreamClock {
    /// Coarse stamp of the last head or part of a body, either way.
    progress: Cell<u64>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

impl StreamClock {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            progress: Cell::new(clock::coarse_ms()),
            state: Cell::new(State::Live),
            waker: RefCell::default(),
        })
    }

    /// Something went one way or the other.
    pub(crate) fn progress(&self) {
        self.progress.set(clock::coarse_ms());
        if self.state.get() == State::Expired {
            self.state.set(State::Live);
        }
    }

    /// Coarse stamp of the last progress.
    pub(crate) fn last_progress(&self) -> u64 {
        self.progress.get()
    }

    /// True when the request has gone without progress for too long.
    pub(crate) fn has_expired(&self) -> bool {
        self.state.get() != State::Live
    }

    /// True the first time.
    fn expire(&self) -> bool {
        let first = self.state.get() == State::Live;
        self.state.set(if first { State::Expired } else { State::Cut });
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        first
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Those that are served now.
#[derive(Debug, Default)]
pub(crate) struct Streams(Rc<RefCell<Slab<Rc<StreamClock>>>>);

impl Streams {
    /// Ends those that have stood still for longer than `limit`: how many that are, each counted once.
    pub(crate) fn sweep(&self, now_ms: u64, limit: Duration) -> u64 {
        if limit.is_zero() {
            return 0;
        }
        let streams = self.0.borrow();
        let stands = |clock: &StreamClock| Duration::from_millis(now_ms.saturating_sub(clock.last_progress())) > limit;
        streams.iter().filter(|(_, clock)| stands(clock) && clock.expire()).map(|_| 1).sum()
    }

    pub(super) fn executor(&self) -> OnStreams {
        OnStreams { streams: self.0.clone(), next: Rc::default() }
    }
}

/// hyper's executor, on the thread of the worker. hyper asks its service for an answer's future and hands it, within its
/// own, straight to the executor: the clock that the service has made is that future's.
#[derive(Clone)]
pub(super) struct OnStreams {
    streams: Rc<RefCell<Slab<Rc<StreamClock>>>>,
    next: Rc<Cell<Option<Rc<StreamClock>>>>,
}

impl OnStreams {
    /// A clock for the request that is served next.
    pub(super) fn clock(&self) -> Rc<StreamClock> {
        let clock = StreamClock::new();
        self.next.set(Some(clock.clone()));
        clock
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnStreams {
    fn execute(&self, task: F) {
        // What hyper runs for a tunnel has none.
        let Some(clock) = self.next.take() else {
            spawn_local(task);
            return;
        };
        let key = self.streams.borrow_mut().insert(clock.clone());
        let place = Place { streams: self.streams.clone(), key, clock };
        spawn_local(Clocked { task, place });
    }
}

/// Among the streams of the connection.
struct Place {
    streams: Rc<RefCell<Slab<Rc<StreamClock>>>>,
    key: usize,
    clock: Rc<StreamClock>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.borrow_mut().remove(self.key);
    }
}

pin_project! {
    /// One stream of hyper's. Dropped before its end it is reset.
    struct Clocked<F> {
        #[pin]
        task: F,
        place: Place,
    }
}

impl<F: Future<Output = ()>> Future for Clocked<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.project();
        let clock = &me.place.clock;
        if clock.state.get() == State::Cut {
            return Poll::Ready(());
        }
        clock.remember(cx);
        me.task.poll(cx)
    }
}
