//! [`Activity`]: what the sweep knows of a connection, shared with its socket and its streams.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
    /// 1 when the awaited head's first line has a `#` in its target, to which Istio's gateways answer 400: a parsed URI
    /// has none. A line that comes in pieces, or together with the request before, is not seen and loses its fragment.
    fragment: AtomicU64,
    /// 1 when no head was begun in time and bytes of one had come: the client is to be told.
    late: AtomicU64,
    /// Coarse stamp of the last progress: a byte of HTTP/1 either way, a head or a part of a body of HTTP/2.
    progress: AtomicU64,
    /// 1 when a request has gone without progress for too long.
    expired: AtomicU64,
    /// Requests that are served now: over HTTP/2 there may be several.
    serving: AtomicU64,
    /// Coarse stamp since when a head of HTTP/2, or another frame that is no DATA, is under way; 0 when none is.
    frame_since: AtomicU64,
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

    pub(super) fn serve_request(&self) {
        self.serving.store(self.serving.load(Relaxed) + 1, Relaxed);
        self.progress();
        self.waiting_since.store(0, Relaxed);
    }

    /// A request has ended; after the last one a head is awaited.
    pub(crate) fn end_request(&self) {
        let others = self.serving.load(Relaxed).saturating_sub(1);
        self.serving.store(others, Relaxed);
        if others == 0 {
            self.await_head(false);
        }
    }

    /// True when the request that was just read had a fragment. Asked once: it forgets.
    pub(crate) fn had_fragment(&self) -> bool {
        self.fragment.swap(0, Relaxed) != 0
    }

    pub(super) fn bytes_came(&self, bytes: &[u8]) {
        if self.waiting_since.load(Relaxed) != 0 && has_fragment(bytes) {
            self.fragment.store(1, Relaxed);
        }
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

/// True when bytes begin with a whole request line that has a `#`. What is left of a body that nobody wanted hardly does.
fn has_fragment(bytes: &[u8]) -> bool {
    let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return false };
    let mut words = bytes[..end].split(|byte| *byte == b' ');
    let method = words.next().is_some_and(|word| !word.is_empty() && word.iter().all(u8::is_ascii_uppercase));
    let target = words.next().is_some_and(|word| word.contains(&b'#'));
    method && target && words.next().is_some_and(|word| word.starts_with(b"HTTP/1"))
}

#[cfg(test)]
mod tests {
    use super::has_fragment;

    #[test]
    fn a_fragment_is_seen_in_whole_request_lines_only() {
        for line in ["GET /a#b HTTP/1.1\r\n", "GET /a?b#c HTTP/1.0\n", "PUT http://h/#c HTTP/1.1\r\nhost: h\r\n"] {
            assert!(has_fragment(line.as_bytes()), "{line}");
        }
        for line in
            ["GET /a HTTP/1.1\r\nx: #\r\n", "GET /a#b HTTP/1.1", "{\"a\": \"#\"}\n", "a #b HTTP/1\r\n", "\r\n", ""]
        {
            assert!(!has_fragment(line.as_bytes()), "{line}");
        }
    }
}
