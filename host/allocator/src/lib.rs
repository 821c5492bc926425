//! The process's allocator, mimalloc, and the one option of it that has no safe setter.

use std::ffi::{c_int, c_long};

/// Workers allocate for each request; this allocator does so without a lock between them. It does not ask for huge pages
/// (feature `no_thp`): with them a gateway of two workers took 54 MiB at start instead of 32, and parts of buffers that
/// idle connections never touch were resident. Its third line held on to freed body chunks for a second: this is the
/// second (feature `v2`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Its number of `mi_option_purge_delay`, milliseconds between the last use of a page and its return to the system.
const PURGE_DELAY: c_int = 15;

#[expect(unsafe_code, reason = "functions of C, in the library that the allocator is linked from")]
mod ffi {
    use super::{c_int, c_long};

    // SAFETY: the signatures are those of mimalloc.h; both only read and write a table of integers, for any number.
    unsafe extern "C" {
        pub(super) safe fn mi_option_set(option: c_int, value: c_long);
        #[cfg(test)]
        pub(super) safe fn mi_option_get(option: c_int) -> c_long;
    }
}

/// Gives free pages back after 1 ms instead of 10. What a thread has freed is only looked at when it frees more: after 10 ms
/// a control thread that is done, or a worker that rests, has nobody to give back what it held. At once would be too soon
/// for HTTP/2, whose buffers come and go with each turn: their pages would be fetched anew. Call it first in `main`.
pub fn give_back_soon() {
    ffi::mi_option_set(PURGE_DELAY, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_delay_whose_default_is_10_ms() {
        assert_eq!(ffi::mi_option_get(PURGE_DELAY), 10);
        give_back_soon();
        assert_eq!(ffi::mi_option_get(PURGE_DELAY), 1);
    }
}
