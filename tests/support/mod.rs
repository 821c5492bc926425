//! What the black-box tests share: the gateway as a child process, upstreams that misbehave on order, a raw client,
//! and the configurations that they run.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod acme;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod dns;
pub(crate) mod draw;
pub(crate) mod envoy;
pub(crate) mod files;
pub(crate) mod gateway;
pub(crate) mod grpc;
pub(crate) mod h2;
pub(crate) mod http3;
pub(crate) mod load;
pub(crate) mod otlp;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod project;
pub(crate) mod redis;
pub(crate) mod registry;
pub(crate) mod secure;
pub(crate) mod strict;
pub(crate) mod tcp;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod upstream;
pub(crate) mod wasm;

use std::time::{Duration, Instant};

/// Longest wait for anything that has to happen; only a failing test waits that long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Looks until `look` finds something. Fails with `what` after [`DEADLINE`].
pub(crate) fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Looks until `holds` is true. Fails with `what` after [`DEADLINE`].
pub(crate) fn await_true(what: &str, mut holds: impl FnMut() -> bool) {
    await_some(what, || holds().then_some(()));
}
