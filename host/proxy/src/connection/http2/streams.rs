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

/// How a request has ended before its answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    No,
    /// The client has reset it.
    ByClient,
    /// It was reset for what the client has done.
    ForFault,
}

/// What is known of one request besides.
#[derive(Debug)]
pub(crate) struct StreamClock {
    /// The number of its stream; 0 when it is not known.
    stream: u32,
    ended: Cell<Ended>,
    /// Coarse stamp of the last head or part of a body, either way.
    progress: Cell<u64>,
    /// Coarse stamp of its start while the client owes a part of its body, else 0.
    owes_since: Cell<u64>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

impl StreamClock {
    pub(super) fn new((stream, ended): (u32, Ended)) -> Rc<Self> {
        Rc::new(Self {
            stream,
            ended: Cell::new(ended),
            progress: Cell::new(clock::coarse_ms()),
            owes_since: Cell::default(),
            state: Cell::new(State::Live),
            waker: RefCell::default(),
        })
    }

    /// A part of the body is awaited since its start at this coarse stamp; 0 for none.
    pub(crate) fn owes(&self, since_ms: u64) {
        self.owes_since.set(since_ms);
    }

    pub(crate) fn ended(&self) -> Ended {
        self.ended.get()
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Rc<RefCell<Slab<Rc<StreamClock>>>>);

impl Streams {
    /// Ends those that have stood still for too long, and those whose bodies have not come in for too long: how many these
    /// are, each counted once.
    pub(crate) fn sweep(&self, now_ms: u64, (idle, request): (Duration, Duration)) -> (u64, u64) {
        let passed = |since: u64, limit: Duration| {
            !limit.is_zero() && Duration::from_millis(now_ms.saturating_sub(since)) > limit
        };
        let (mut stood, mut overdue) = (0, 0);
        for (_, clock) in &*self.0.borrow() {
            if passed(clock.last_progress(), idle) {
                stood += u64::from(clock.expire());
            } else if clock.owes_since.get() != 0 && passed(clock.owes_since.get(), request) {
                overdue += u64::from(clock.expire());
            }
        }
        (stood, overdue)
    }

    /// One of those that are served was reset.
    pub(super) fn ended(&self, stream: u32, how: Ended) {
        let streams = self.0.borrow();
        if let Some((_, clock)) = streams.iter().find(|(_, clock)| clock.stream == stream && stream > 0) {
            clock.ended.set(how);
        }
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
    pub(super) fn clock(&self, stream: (u32, Ended)) -> Rc<StreamClock> {
        let clock = StreamClock::new(stream);
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
