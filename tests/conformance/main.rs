//! Host functions, callbacks, properties and status rules of proxy-wasm, one test for each, through the real binary: a
//! filter does what a request asks of it and tells what it saw. `docs/proxy-wasm.md` names the test of each row.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod abi;
mod bodies;
mod callouts;
mod headers;
mod life;
mod pausing;
mod properties;
mod replies;
mod sharing;
mod small;
