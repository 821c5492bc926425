//! [`Activity`]: what the sweep knows of a connection, shared with its socket and its streams.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Context;

use futures_util::task::AtomicWaker;

use super::guard::Fault;
use crate::clock;

/// The first head of a connection is awaited as one that was begun.
const CONNECTED: u64 = 1;
/// Bytes of the head have come.
const BEGUN: u64 = 2;

/// Only the connection's own thread writes it.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Coarse stamp since when a head is awaited or under way; 0 while a request is served.
    waiting_since: AtomicU64,
    /// [`BEGUN`] when bytes of the awaited head have come, [`CONNECTED`] when it is the connection's first.
    head_begun: AtomicU64,
    /// 1 when no head was begun in time and bytes of one had come: the client is to be told.
    late: AtomicU64,
    /// Coarse stamp of the last progress, a byte either way. Streams of HTTP/2 have clocks of their own.
    progress: AtomicU64,
    /// 1 when a request has gone without progress for too long.
    expired: AtomicU64,
    /// Coarse stamp of the start of a request whose client owes a part of its body; 0 when it owes none.
    owes_since: AtomicU64,
    /// 1 when a client of HTTP/2 knows that its connection is about to end, without any fault of its own.
    parted: AtomicU64,
    /// Requests that are served now: over HTTP/2 there may be several.
    serving: AtomicU64,
    /// Coarse stamp since when a head of HTTP/2, or another frame that is no DATA, is under way; 0 when none is.
    frame_since: AtomicU64,
    /// Requests that were taken up.
    taken: AtomicU64,
    /// Which request is refused unseen, counted from 1, and why. It is the last one.
    refused: OnceLock<(u64, Fault)>,
    /// The beginning of a head has come, perhaps while the request before was served.
    holds: AtomicBool,
    /// It waits for its next request with its socket alone, or is to.
    parked: AtomicBool,
    /// Something of an answer has not been written, or flushed, yet.
    unwritten: AtomicBool,
    /// A body broke off.
    broken: AtomicBool,
    /// The connection was upgraded.
    tunnel: AtomicBool,
    /// Whoever waits for the answer to a request for an upgrade.
    waiter: Waiter,
}

#[derive(Debug, Default)]
struct Waiter {
    waits: AtomicBool,
    waker: AtomicWaker,
}

impl Activity {
    /// A head is awaited. The first one of a connection counts as begun: whoever connects has something to say.
    pub(crate) fn await_head(&self, begun: bool) {
        self.head_begun.store(if begun { CONNECTED } else { 0 }, Relaxed);
        self.waiting_since.store(clock::coarse_ms().max(1), Relaxed);
        self.expired.store(0, Relaxed);
    }

    /// Something went one way or the other.
    pub(crate) fn progress(&self) {
        self.progress.store(clock::coarse_ms(), Relaxed);
    }

    /// Coarse stamp of the last progress.
    pub(crate) fn last_progress(&self) -> u64 {
        self.progress.load(Relaxed)
    }

    /// A part of a request's body is awaited since its start at this coarse stamp; 0 for none.
    pub(crate) fn owes(&self, since_ms: u64) {
        self.owes_since.store(since_ms, Relaxed);
    }

    pub(super) fn owes_since(&self) -> Option<u64> {
        Some(self.owes_since.load(Relaxed)).filter(|since| *since != 0)
    }

    /// The client was told which of its requests is the last.
    pub(super) fn part(&self) {
        self.parted.store(1, Relaxed);
    }

    pub(super) fn has_parted(&self) -> bool {
        self.parted.load(Relaxed) == 1
    }

    /// A request has gone without progress for too long. True the first time.
    pub(super) fn expire(&self) -> bool {
        self.expired.swap(1, Relaxed) == 0
    }

    /// True when a request has gone without progress for too long.
    pub(crate) fn has_expired(&self) -> bool {
        self.expired.load(Relaxed) != 0
    }

    /// The head that was begun has not come in time. False when nothing of it has come, or it was known already.
    pub(super) fn end_head(&self) -> bool {
        self.head_begun.load(Relaxed) == BEGUN && self.late.swap(1, Relaxed) == 0
    }

    /// True when the client is to be told that it was too late.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Relaxed) != 0
    }

    pub(crate) fn serve_request(&self) {
        self.serving.store(self.serving.load(Relaxed) + 1, Relaxed);
        self.progress();
        self.taken.store(self.taken.load(Relaxed) + 1, Relaxed);
        self.waiting_since.store(0, Relaxed);
        self.owes(0);
    }

    /// A request has ended; after the last one a head is awaited.
    pub(crate) fn end_request(&self) {
        let others = self.serving.load(Relaxed).saturating_sub(1);
        self.serving.store(others, Relaxed);
        if others == 0 {
            let holds = self.holds.load(Relaxed);
            self.await_head(holds);
            if holds {
                self.head_begun.store(BEGUN, Relaxed);
            }
        }
        if self.waiter.waits.load(Relaxed) {
            self.waiter.waits.store(false, Relaxed);
            self.waiter.waker.wake();
        }
    }

    pub(super) fn hold(&self, holds: bool) {
        self.holds.store(holds, Relaxed);
    }

    /// The request of this number is refused.
    pub(super) fn refuse(&self, number: u64, fault: Fault) {
        // Only the first can matter: nothing is read after it.
        let _ = self.refused.set((number, fault));
    }

    /// Why the request that was taken up last is refused, if it is.
    pub(crate) fn refusal(&self) -> Option<Fault> {
        let (number, fault) = self.refused.get()?;
        (self.taken.load(Relaxed) == *number).then_some(*fault)
    }

    /// How many requests were taken up.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Asks for the connection to be parked. False when it is already, or cannot be.
    pub(super) fn park(&self) -> bool {
        !self.is_unwritten() && !self.parked.swap(true, Relaxed)
    }

    /// True when it was asked for and nothing has come in between.
    pub(super) fn may_park(&self) -> bool {
        let parked = self.parked.load(Relaxed);
        if parked && (self.is_unwritten() || !matches!(self.waits(), Some((_, false)))) {
            self.unpark();
            return false;
        }
        parked
    }

    pub(super) fn is_parked(&self) -> bool {
        self.parked.load(Relaxed)
    }

    pub(super) fn unpark(&self) {
        self.parked.store(false, Relaxed);
    }

    /// True while an answer is not out yet.
    pub(super) fn is_unwritten(&self) -> bool {
        self.unwritten.load(Relaxed)
    }

    /// Told after each write, and when all has been flushed.
    pub(super) fn wrote(&self, all: bool) {
        self.unwritten.store(!all, Relaxed);
    }

    /// A request's body is none.
    pub(super) fn break_off(&self) {
        self.broken.store(true, Relaxed);
    }

    pub(crate) fn has_broken_off(&self) -> bool {
        self.broken.load(Relaxed)
    }

    /// What follows the request for an upgrade is not HTTP.
    pub(crate) fn become_tunnel(&self) {
        self.tunnel.store(true, Relaxed);
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Relaxed)
    }

    /// True when as many requests have been answered; the end of one wakes the task.
    pub(super) fn await_answer(&self, requests: u64, cx: &Context<'_>) -> bool {
        self.waiter.waker.register(cx.waker());
        let answered = self.taken.load(Relaxed) - self.serving.load(Relaxed);
        self.waiter.waits.store(answered < requests, Relaxed);
        answered >= requests
    }

    pub(super) fn bytes_came(&self) {
        self.progress();
        match self.head_begun.load(Relaxed) {
            BEGUN => {}
            begun if self.waiting_since.load(Relaxed) != 0 => {
                if begun == 0 {
                    self.await_head(true);
                }
                self.head_begun.store(BEGUN, Relaxed);
            }
            _ => {}
        }
    }

    /// Told after each read over HTTP/2.
    pub(super) fn frame_under_way(&self, is_so: bool) {
        if is_so != (self.frame_since.load(Relaxed) != 0) {
            self.frame_since.store(if is_so { clock::coarse_ms().max(1) } else { 0 }, Relaxed);
        }
    }

    /// True while a head is under way.
    pub(super) fn has_begun(&self) -> bool {
        self.waiting_since.load(Relaxed) != 0 && self.head_begun.load(Relaxed) != 0
    }

    /// Since when a head is awaited, and whether some of it has come; none while a request is served and no other comes.
    pub(super) fn waits(&self) -> Option<(u64, bool)> {
        let frame_since = self.frame_since.load(Relaxed);
        if frame_since != 0 {
            return Some((frame_since, true));
        }
        let since = self.waiting_since.load(Relaxed);
        (since != 0).then(|| (since, self.head_begun.load(Relaxed) != 0))
    }
}
