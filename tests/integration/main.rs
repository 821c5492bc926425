//! The real binary on free ports with real sockets, between a raw client and upstreams that misbehave on order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod backend_http2;
mod backend_proxy_protocol;
mod backend_tls;
mod balancing;
mod breaker;
mod bundled;
mod callouts;
mod commands;
mod containment;
mod dev;
mod dev_tls;
mod dns;
mod edge;
mod filter_cases;
mod filters;
mod forwarding;
mod http2;
mod lifecycle;
mod live;
mod local_answers;
mod matching;
mod mirrors;
mod modules;
mod pausing;
mod policies;
mod proxied;
mod publish;
mod registries;
mod reload;
mod retries;
mod route_policies;
mod sdk;
mod seed;
mod streaming;
mod swap;
mod tcp;
mod tcp_filters;
mod telemetry;
mod templates;
mod timeouts;
mod tls;
mod tls_clients;
mod tls_edge;
mod tls_rotation;
mod tls_tcp;
mod upstream_faults;
mod validation;
mod virtual_services;
