//! The VM from outside: guests in the text format against the public API.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod abi;
mod callouts;
mod foreign;
mod headers;
mod hostcalls;
mod l4;
mod life_cycle;
mod limits;
mod modules;
mod strict;
mod support;
mod trace;
mod wasi;
