//! Filters that mean harm, or are merely broken: the process lives, the answer is the documented one, the next request
//! works, and requests without the harm are served while it goes on. What each case answers: `docs/proxy-wasm.md`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod floods;
mod loading;
mod neighbours;
mod pointers;
mod resources;
mod strategies;
mod wire;
