//! `ContextId` and the table of contexts that are alive, and `Phase`: which callback runs.

/// A stream's context in one [`crate::PluginVm`]. Small numbers from 2 (1 is the root), used again after the end of
/// their stream, so that a guest can keep its streams in a dense table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextId(u32);

impl ContextId {
    /// The root context.
    pub(crate) const ROOT: Self = Self(1);

    /// The number that the guest knows.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Which contexts are alive.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    /// By number less 2.
    alive: Vec<bool>,
    /// Numbers that may be used again.
    free: Vec<u32>,
}

impl Contexts {
    /// Number of streams alive.
    pub(crate) fn streams(&self) -> usize {
        self.alive.len() - self.free.len()
    }

    /// Opens a context with the number that was given back last, else the next one.
    pub(crate) fn open(&mut self) -> ContextId {
        if let Some(number) = self.free.pop() {
            self.alive[number as usize - 2] = true;
            return ContextId(number);
        }
        self.alive.push(true);
        ContextId(self.alive.len() as u32 + 1)
    }

    /// Gives a context's number back. Closing twice changes nothing.
    pub(crate) fn close(&mut self, id: ContextId) {
        if let Some(alive @ true) = self.slot(id.0) {
            *alive = false;
            self.free.push(id.0);
        }
    }

    /// The context with this number, the root's included.
    pub(crate) fn find(&mut self, number: u32) -> Option<ContextId> {
        let alive = number == ContextId::ROOT.0 || self.slot(number).is_some_and(|alive| *alive);
        alive.then_some(ContextId(number))
    }

    fn slot(&mut self, number: u32) -> Option<&mut bool> {
        self.alive.get_mut(number.checked_sub(2)? as usize)
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_numbers_start_at_two_and_are_used_again() {
        let mut contexts = Contexts::default();
        let (a, b) = (contexts.open(), contexts.open());
        assert_eq!((a.number(), b.number()), (2, 3));
        contexts.close(a);
        contexts.close(a);
        assert_eq!(contexts.streams(), 1);
        assert_eq!(contexts.find(2), None);
        assert_eq!(contexts.find(1), Some(ContextId::ROOT));
        assert_eq!(contexts.open().number(), 2);
        assert_eq!(contexts.open().number(), 4);
        assert_eq!(contexts.find(u32::MAX), None);
        assert_eq!(contexts.find(0), None);
    }
}
