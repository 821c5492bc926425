//! The same filters in real Envoy and in Portolan: each request goes to both, and what the client gets, what the
//! upstream sees and what other services are asked must be the same.
//!
//! [`pair::Pair`] starts both; a filter is one test of a few lines. Needs Envoy's binary, on the path or named by
//! `PORTOLAN_TEST_ENVOY`: skipped on a machine without, a failure under `CI`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod balancing;
mod bundled;
mod connect;
mod decisions;
mod difference;
mod edits;
mod examples;
mod header_operations;
mod health_checks;
mod pair;
mod route_policies;
mod route_stats;
mod sdk;
mod templates;
mod toolchains;
mod traces;
