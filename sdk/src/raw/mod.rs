//! The ABI itself: imports, exports that every module has, and the memory that the host writes to.
//!
//! The only module of a Wasm build with `unsafe`; what it offers is safe to call.

pub(crate) mod callouts;
pub(crate) mod calls;
#[cfg(target_arch = "wasm32")]
mod exports;
mod imports;
#[cfg_attr(
    not(target_family = "wasm"),
    allow(dead_code, reason = "natively only the feature `testing` has a host that fills it")
)]
pub(crate) mod scratch;
