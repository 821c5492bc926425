//! [`Heads`]: the requests that h2 refuses by itself. It tells nobody but the client: what it writes is looked at, and a stream
//! that it ends before hyper has been given its request was refused.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::frames::{FRAME_HEAD, FrameHead, Kind};
use super::streams::{Ended, Streams};
use crate::local_reply::Refusal;

/// Heads at once that nobody has been given yet; where there are more, the client is not followed any further.
const MOST: usize = 256;
/// RFC 9113 section 7.
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
/// A frame's head with a code of an error.
const WITH_CODE: usize = FRAME_HEAD + 4;

/// Streams whose heads have begun, in order, until hyper is given their requests: it is given them in the same order, and all
/// that h2 knows before it waits for more.
#[derive(Debug, Default)]
pub(super) struct Heads {
    begun: RefCell<VecDeque<Head>>,
    /// Those reset that may be given to hyper yet: their bodies were at fault, or their heads.
    doubtful: Cell<usize>,
    /// Nothing was read since h2 has begun to wait, and nobody was given a request.
    is_quiet: Cell<bool>,
    /// Those that were given to hyper.
    served: Streams,
}

/// A stream.
#[derive(Debug)]
struct Head {
    stream: u32,
    /// More than a head has come of it.
    has_more: bool,
    ended: Ended,
}

impl Heads {
    pub(super) fn before(served: Streams) -> Self {
        Self { served, ..Self::default() }
    }

    /// The client begins a request.
    pub(super) fn begun(&self, stream: u32) {
        let mut begun = self.begun.borrow_mut();
        if begun.len() == MOST {
            begun.clear();
        }
        begun.push_back(Head { stream, has_more: false, ended: Ended::No });
    }

    /// It goes on with one.
    pub(super) fn went_on(&self, stream: u32) {
        let mut begun = self.begun.borrow_mut();
        if let Some(head) = begun.iter_mut().rfind(|head| head.stream == stream) {
            head.has_more = true;
        }
    }

    /// hyper has been given the next request. What h2 refuses it has told the client of before. The number of its stream, 0
    /// when it is not known, and whether that has ended.
    pub(super) fn served(&self) -> (u32, Ended) {
        self.is_quiet.set(false);
        self.begun.borrow_mut().pop_front().map_or((0, Ended::No), |head| (head.stream, head.ended))
    }

    /// The client takes a request back.
    pub(super) fn taken_back(&self, stream: u32) {
        match self.begun.borrow_mut().iter_mut().find(|head| head.stream == stream) {
            Some(head) => head.ended = Ended::ByClient,
            None => self.served.ended(stream, Ended::ByClient),
        }
    }

    /// h2 has read, or has found nothing to read. True when it is to try again soon: something is in doubt.
    pub(super) fn read(&self, is_pending: bool) -> bool {
        self.is_quiet.set(is_pending);
        is_pending && self.doubtful.get() > 0
    }

    /// How many in doubt were refused, once that is known. The last head is kept when it has not ended.
    pub(super) fn settle(&self, in_head: bool) -> usize {
        let mut begun = self.begun.borrow_mut();
        if !self.is_quiet.get() {
            return 0;
        }
        let last = begun.pop_back_if(|_| in_head);
        let refused = self.doubtful.take().min(begun.len());
        begun.clear();
        begun.extend(last);
        refused
    }

    /// How many requests nobody was given; the connection has ended.
    pub(super) fn take_unserved(&self) -> usize {
        self.begun.take().len()
    }

    /// True when the stream was reset for a mistake, and nobody was or will be given its request.
    fn was_refused(&self, stream: u32, code: u32) -> bool {
        let mut begun = self.begun.borrow_mut();
        let is_mistake = code == PROTOCOL_ERROR;
        let Some(place) = begun.iter().position(|head| head.stream == stream) else {
            if is_mistake || code == FLOW_CONTROL_ERROR {
                self.served.ended(stream, Ended::ForFault);
            }
            return false;
        };
        if is_mistake && begun[place].has_more {
            begun[place].ended = Ended::ForFault;
            self.doubtful.set(self.doubtful.get() + 1);
            return false;
        }
        begun.remove(place);
        is_mistake
    }

    /// True when an answer goes out to a request that nobody was given: 431, the one that h2 has.
    fn was_answered(&self, stream: u32) -> bool {
        let mut begun = self.begun.borrow_mut();
        let place = begun.iter().position(|head| head.stream == stream);
        place.and_then(|place| begun.remove(place)).is_some()
    }
}

/// What h2 writes, frame by frame.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// A frame's beginning.
    frame: [u8; WITH_CODE],
    known: usize,
    /// Bytes of its payload that are still to come.
    skip: usize,
}

impl Written {
    /// Calls `tell` for each request that was refused.
    pub(super) fn look(&mut self, mut bytes: &[u8], heads: &Heads, mut tell: impl FnMut(Refusal)) {
        loop {
            let skip = self.skip.min(bytes.len());
            self.skip -= skip;
            bytes = &bytes[skip..];
            if bytes.is_empty() {
                return;
            }
            let wanted = if self.known < FRAME_HEAD { FRAME_HEAD } else { WITH_CODE };
            let part = (wanted - self.known).min(bytes.len());
            self.frame[self.known..self.known + part].copy_from_slice(&bytes[..part]);
            self.known += part;
            bytes = &bytes[part..];
            if self.known < wanted {
                return;
            }
            if let Some(refusal) = self.take(heads) {
                tell(refusal);
            }
        }
    }

    /// A frame's head is known, or a reset with its code.
    fn take(&mut self, heads: &Heads) -> Option<Refusal> {
        let [frame @ .., c0, c1, c2, c3] = self.frame;
        let frame = FrameHead::parse(frame);
        if frame.kind == Kind::RST_STREAM && self.known == FRAME_HEAD {
            return None;
        }
        let is_reset = self.known == WITH_CODE;
        self.known = 0;
        if !is_reset {
            self.skip = frame.length;
            let is_answer = frame.kind == Kind::HEADERS;
            return (is_answer && heads.was_answered(frame.stream)).then_some(Refusal::TooManyFields);
        }
        let was_refused = heads.was_refused(frame.stream, u32::from_be_bytes([c0, c1, c2, c3]));
        was_refused.then_some(Refusal::Messaging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these bytes, written in pieces of this length after heads of 1, 3, 5 and 7, the first of which was served.
    fn refused(bytes: &[u8], length: usize) -> Vec<Refusal> {
        let (heads, mut written, mut refused) = (Heads::default(), Written::default(), Vec::new());
        [1, 3, 5, 7].into_iter().for_each(|stream| heads.begun(stream));
        heads.served();
        bytes.chunks(length).for_each(|piece| written.look(piece, &heads, |refusal| refused.push(refusal)));
        refused
    }

    #[test]
    fn a_request_that_is_reset_unserved_was_refused_and_no_other() {
        let settings = &b"\0\0\0\x04\0\0\0\0\0"[..];
        let reset = |stream, code| [0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, code];
        let answer = &b"\0\0\x02\x01\x05\0\0\0\x05\x03\x03"[..];
        let bytes = [settings, &reset(1, 1), &reset(3, 1), &reset(3, 1), answer, &reset(5, 1), &reset(7, 7)].concat();
        for length in [1, 2, 5, 9, 13, 100] {
            assert_eq!(refused(&bytes, length), [Refusal::Messaging, Refusal::TooManyFields], "{length}");
        }
    }

    #[test]
    fn more_heads_than_there_may_be_are_not_followed() {
        let heads = Heads::default();
        (0..10_000).for_each(|stream| heads.begun(stream));
        assert!(heads.begun.borrow().len() <= MOST && !heads.was_refused(1, PROTOCOL_ERROR));
    }

    /// How many of three were refused, the middle one of which went on and was reset for it or for its head.
    fn refused_in_doubt(served: usize, in_head: bool) -> usize {
        let heads = Heads::default();
        [1, 3, 5].into_iter().for_each(|stream| heads.begun(stream));
        heads.went_on(3);
        assert!(!heads.was_refused(3, PROTOCOL_ERROR));
        assert!(heads.read(true), "to be tried again");
        for _ in 0..served {
            heads.served();
            assert_eq!(heads.settle(in_head), 0, "hyper may get more");
        }
        heads.read(true);
        heads.settle(in_head)
    }

    #[test]
    fn whether_a_head_or_its_body_was_at_fault_is_known_when_all_others_are_served() {
        assert_eq!((refused_in_doubt(3, false), refused_in_doubt(2, false)), (0, 1));
        assert_eq!((refused_in_doubt(2, true), refused_in_doubt(1, true)), (0, 1), "the last head goes on");
    }
}
