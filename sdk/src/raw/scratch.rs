//! The memory for what the host answers: one area that is filled from the front and emptied when a callback ends.
//!
//! So a value costs no allocation, and the filter may borrow it for the rest of the callback.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::marker::PhantomData;

/// Enough for the values that a filter reads in one callback; what does not fit comes from the heap.
const SIZE: usize = 32 * 1024;
const ALIGN: usize = 8;

#[repr(align(8))]
struct Area(UnsafeCell<[u8; SIZE]>);

struct Scratch {
    used: Cell<usize>,
    /// Callbacks that are running: a host may call back while it serves a host function.
    depth: Cell<u32>,
    large: RefCell<Vec<*mut [u8]>>,
}

thread_local! {
    /// Apart from the rest: all zero, it takes no room in a module.
    static AREA: Area = const { Area(UnsafeCell::new([0; SIZE])) };
    static SCRATCH: Scratch = const {
        Scratch {
            used: Cell::new(0),
            depth: Cell::new(0),
            large: RefCell::new(Vec::new()),
        }
    };
}

/// A running callback. Values that the host gave live as long as it; when the outermost ends the area is empty again.
pub(crate) struct Callback {
    /// Bound to the thread whose area it guards.
    thread: PhantomData<*const ()>,
}

impl Callback {
    pub(crate) fn enter() -> Self {
        SCRATCH.with(|scratch| scratch.depth.set(scratch.depth.get() + 1));
        Self { thread: PhantomData }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        SCRATCH.with(|scratch| {
            let depth = scratch.depth.get() - 1;
            scratch.depth.set(depth);
            if depth == 0 {
                scratch.used.set(0);
                scratch.free_large();
            }
        });
    }
}

impl Scratch {
    fn free_large(&self) {
        for memory in self.large.borrow_mut().drain(..) {
            // SAFETY: made by `Box::into_raw` in `allocate`, listed once, and nobody borrows it once callbacks ended.
            drop(unsafe { Box::from_raw(memory) });
        }
    }
}

/// Where the area is, for a host that fills it without calling back: 0 its address, 1 its size, 2 the address of the
/// number of bytes in use. The host writes there only while a callback runs, as [`allocate`] would.
pub(crate) fn area(part: usize) -> usize {
    match part {
        0 => AREA.with(|area| area.0.get() as usize),
        1 => SIZE,
        2 => SCRATCH.with(|scratch| scratch.used.as_ptr() as usize),
        _ => 0,
    }
}

/// Memory of this size, valid until the outermost running callback ends.
pub(crate) fn allocate(size: usize) -> *mut u8 {
    SCRATCH.with(|scratch| {
        let start = scratch.used.get();
        if size <= SIZE - start {
            let end = start + size;
            scratch.used.set(SIZE.min(end.next_multiple_of(ALIGN)));
            // SAFETY: `start` lies inside of the area or at its end.
            return AREA.with(|area| unsafe { area.0.get().cast::<u8>().add(start) });
        }
        let memory = Box::into_raw(vec![0_u8; size].into_boxed_slice());
        scratch.large.borrow_mut().push(memory);
        memory.cast()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_starts_again_at_the_front_when_the_outermost_callback_ends() {
        let outer = Callback::enter();
        let first = allocate(10);
        let inner = Callback::enter();
        let second = allocate(10);
        drop(inner);
        assert_eq!(second as usize - first as usize, 16, "aligned, and kept while the outer callback runs");
        assert!(allocate(1) > second);
        drop(outer);
        let _callback = Callback::enter();
        assert_eq!(allocate(1), first);
    }

    #[test]
    fn large_values_come_from_the_heap_and_are_freed() {
        let callback = Callback::enter();
        allocate(SIZE - 8);
        allocate(100);
        allocate(SIZE * 3);
        assert_eq!(SCRATCH.with(|s| s.large.borrow().len()), 2);
        drop(callback);
        assert_eq!(SCRATCH.with(|s| s.large.borrow().len()), 0);
    }
}
