//! `ContextId` and the table of contexts that are alive, and `Phase`: which callback runs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A stream's context in one [`crate::PluginVm`]. Numbers rise from 2 (1 is the root) and are not used again, so that an
/// answer which comes late finds no other stream. A guest on our SDK gets small numbers, used again after the end of
/// their stream: it keeps its streams in a dense table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId(u32);

impl ContextId {
    /// The root context.
    pub(crate) const ROOT: Self = Self(1);

    /// The number that the guest knows.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A [`crate::PluginVm`], unique in the process: with a [`ContextId`] it names a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VmToken(u64);

impl VmToken {
    /// One that nobody has had.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// Which contexts are alive.
#[derive(Debug)]
pub(crate) struct Contexts {
    alive: HashMap<u32, Held, BuildHasherDefault<NumberHasher>>,
    next: u32,
    /// Numbers that may be used again.
    free: Vec<u32>,
    /// Numbers are used again.
    pub(crate) dense: bool,
}

/// In which callback a context holds each direction of its stream.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    request: Option<Phase>,
    response: Option<Phase>,
    /// The heads themselves, past which bodies may run.
    request_head: bool,
    response_head: bool,
}

impl Default for Contexts {
    fn default() -> Self {
        Self { alive: HashMap::default(), next: ContextId::ROOT.0 + 1, free: Vec::new(), dense: false }
    }
}

impl Contexts {
    /// Number of streams alive.
    pub(crate) fn streams(&self) -> usize {
        self.alive.len()
    }

    /// Opens a context.
    pub(crate) fn open(&mut self) -> ContextId {
        let number = self.free.pop().unwrap_or_else(|| self.fresh());
        self.alive.insert(number, Held::default());
        ContextId(number)
    }

    /// The next number; after four thousand million of them those that are free again.
    fn fresh(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = self.next.checked_add(1).unwrap_or(ContextId::ROOT.0 + 1);
            if !self.alive.contains_key(&number) {
                return number;
            }
        }
    }

    /// Ends a context. Closing twice changes nothing.
    pub(crate) fn close(&mut self, id: ContextId) {
        if self.alive.remove(&id.0).is_some() && self.dense {
            self.free.push(id.0);
        }
    }

    /// The context with this number, the root's included.
    pub(crate) fn find(&self, number: u32) -> Option<ContextId> {
        let alive = number == ContextId::ROOT.0 || self.alive.contains_key(&number);
        alive.then_some(ContextId(number))
    }

    /// Notes that a callback of this phase holds its direction, or lets it go.
    pub(crate) fn hold(&mut self, id: ContextId, phase: Phase, holds: bool) {
        let Some(held) = self.alive.get_mut(&id.0) else { return };
        let head = matches!(phase, Phase::RequestHeaders | Phase::ResponseHeaders);
        let phase_held = holds.then_some(phase);
        match phase.direction() {
            Some(Direction::Request) => {
                held.request = phase_held;
                held.request_head = holds && (head || held.request_head);
            }
            Some(Direction::Response) => {
                held.response = phase_held;
                held.response_head = holds && (head || held.response_head);
            }
            None => {}
        }
    }

    /// True while a context holds the head of this direction, its body callbacks included.
    pub(crate) fn holds_head(&self, id: ContextId, direction: Direction) -> bool {
        self.alive.get(&id.0).is_some_and(|held| match direction {
            Direction::Request => held.request_head,
            Direction::Response => held.response_head,
        })
    }

    /// In which callback this context holds a direction; none when it does not.
    pub(crate) fn held(&self, id: ContextId, direction: Direction) -> Option<Phase> {
        let held = self.alive.get(&id.0)?;
        match direction {
            Direction::Request => held.request,
            Direction::Response => held.response,
        }
    }
}

/// Context numbers are ours and rise: spreading them is all that a table needs.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Which way a part of a stream goes: from downstream is as a request, from upstream as a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// Which callback runs; decides what may be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `_initialize`, `_start`, `main`, `on_context_create` and anything else without data of its own.
    Other,
    /// `on_vm_start`.
    VmStart,
    /// `on_configure`.
    Configure,
    RequestHeaders,
    RequestBody {
        end_of_stream: bool,
    },
    RequestTrailers,
    ResponseHeaders,
    ResponseBody {
        end_of_stream: bool,
    },
    ResponseTrailers,
    /// `on_foreign_function` of a stream.
    Foreign,
    /// `on_log`, `on_done` and `on_delete` of a stream.
    End,
    /// `on_new_connection` of a TCP connection.
    NewConnection,
    /// `on_downstream_data`.
    DownstreamData,
    /// `on_upstream_data`.
    UpstreamData,
    /// `on_downstream_connection_close`, `on_upstream_connection_close`, and the end of a connection's context.
    ConnectionEnd,
}

impl Phase {
    /// Which way the part of the stream goes that this callback is about.
    pub(crate) fn direction(self) -> Option<Direction> {
        match self {
            Self::RequestHeaders | Self::RequestBody { .. } | Self::RequestTrailers => Some(Direction::Request),
            Self::NewConnection | Self::DownstreamData => Some(Direction::Request),
            Self::ResponseHeaders | Self::ResponseBody { .. } | Self::ResponseTrailers => Some(Direction::Response),
            Self::UpstreamData => Some(Direction::Response),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_numbers_rise_from_two_and_are_not_used_again() {
        let mut contexts = Contexts::default();
        let (a, b) = (contexts.open(), contexts.open());
        assert_eq!((a.number(), b.number()), (2, 3));
        contexts.close(a);
        contexts.close(a);
        assert_eq!(contexts.streams(), 1);
        assert_eq!(contexts.find(2), None);
        assert_eq!(contexts.find(1), Some(ContextId::ROOT));
        assert_eq!(contexts.open().number(), 4);
        assert_eq!(contexts.find(u32::MAX), None);
        assert_eq!(contexts.find(0), None);
    }

    #[test]
    fn dense_numbers_are_used_again() {
        let mut contexts = Contexts { dense: true, ..Contexts::default() };
        let (a, b) = (contexts.open(), contexts.open());
        contexts.close(a);
        contexts.close(a);
        assert_eq!((contexts.open(), contexts.open().number()), (a, b.number() + 1));
    }

    #[test]
    fn numbers_start_again_after_the_last_one_and_skip_those_in_use() {
        let mut contexts = Contexts::default();
        let first = contexts.open();
        contexts.next = u32::MAX;
        assert_eq!(contexts.open().number(), u32::MAX);
        assert_eq!(contexts.open().number(), first.number() + 1);
    }

    #[test]
    fn a_context_holds_each_direction_by_itself() {
        let mut contexts = Contexts::default();
        let id = contexts.open();
        contexts.hold(id, Phase::RequestBody { end_of_stream: false }, true);
        contexts.hold(id, Phase::ResponseHeaders, true);
        contexts.hold(id, Phase::ResponseHeaders, false);
        assert_eq!(contexts.held(id, Direction::Request), Some(Phase::RequestBody { end_of_stream: false }));
        assert_eq!(contexts.held(id, Direction::Response), None);
    }
}
