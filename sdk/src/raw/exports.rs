//! What every module exports, whatever callbacks its filter has.

use super::scratch;

unsafe extern "C" {
    fn __wasm_call_ctors();
}

/// Marks the version of the ABI.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Makes the module a reactor. Without a call to the constructors the linker wraps each export in one.
#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: made by the linker, and called here only: the host calls `_initialize` once.
    unsafe { __wasm_call_ctors() }
}

/// Where Portolan puts what it answers, without a call back for each value. Other hosts do not know it.
#[unsafe(no_mangle)]
extern "C" fn portolan_scratch(part: usize) -> usize {
    scratch::area(part)
}

/// Where the host puts what it answers.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    scratch::allocate(size)
}
