//! Floods: log, shared data, queues, metrics, properties, callouts, ticks. Each meets a bound and a status.

use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::load::Load;
use crate::support::probe::Probe;

#[test]
fn floods_meet_their_bounds() {
    let mut probe = Probe::start();
    let before = probe.gateway.resident_bytes();
    let flood = "x".repeat(4_000);
    for (what, call) in [
        ("properties", format!("set_property 'p' '{flood}'")),
        ("log", format!("log 2 '{flood}'")),
        ("shared data", format!("set_shared_data 'k' '{flood}' 0")),
        ("queue", format!("register_shared_queue 'q' &; enqueue_shared_queue $out '{flood}'")),
        ("metrics", "define_metric 0 'flood' &; increment_metric $out 1".to_owned()),
    ] {
        for _ in 0..20 {
            let answer = probe.get(&format!("request_headers {{ times 500 {{ {call} }} }}"));
            assert!([200, 503].contains(&answer.status), "{what}: {}", answer.status);
        }
        await_true(&format!("an answer after a flood of {what}"), || {
            probe.get("response_headers { is 1 }").header("x-saw").is_some()
        });
    }
    let grown = probe.gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 200 * 1024 * 1024, "grew by {grown} bytes");
    assert!(probe.gateway.is_running());
}

/// A filter that makes names of its own: metrics, keys or queues without end.
fn naming(import: &str, call: &str) -> String {
    format!(
        r#"(module
  {import}
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $number (mut i32) (i32.const 0))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $status i32) (local $left i32)
    (local.set $left (i32.const 2000))
    (loop $next
      (i64.store (i32.const 100) (i64.add (i64.const 0x6161616161616161)
        (i64.extend_i32_u (global.get $number))))
      (i32.store (i32.const 100) (i32.or (i32.const 0x41414141) (i32.and (global.get $number) (i32.const 0x0f0f0f0f))))
      (i32.store (i32.const 104) (i32.or (i32.const 0x41414141)
        (i32.and (i32.shr_u (global.get $number) (i32.const 4)) (i32.const 0x0f0f0f0f))))
      (global.set $number (i32.add (global.get $number) (i32.const 1)))
      (local.set $status {call})
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (i32.and (i32.eqz (local.get $status)) (i32.gt_s (local.get $left) (i32.const 0)))))
    (drop (call $reply (i32.add (i32.const 400) (local.get $status))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 0)))"#
    )
}

#[test]
fn names_without_end_meet_a_bound() {
    for (what, import, call) in [
        (
            "metrics",
            r#"(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))"#,
            "(call $define (i32.const 0) (i32.const 100) (i32.const 8) (i32.const 0))",
        ),
        (
            "keys",
            r#"(import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#,
            "(call $set (i32.const 100) (i32.const 8) (i32.const 0) (i32.const 60000) (i32.const 0))",
        ),
        (
            "queues",
            r#"(import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))"#,
            "(call $register (i32.const 100) (i32.const 8) (i32.const 0))",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("names.wasm");
        std::fs::write(&module, wat::parse_str(naming(import, call)).unwrap()).unwrap();
        let mut probe = Probe::of(&module, "");
        let before = probe.gateway.resident_bytes();
        // 400 is a whole round without a refusal; the bound is met within a few of them, and stays.
        let met = (0..40).any(|_| probe.gateway.get("h", "/").status == 410);
        let grown = probe.gateway.resident_bytes().saturating_sub(before);
        assert!(met || grown < 64 * 1024 * 1024, "{what}: no bound after 80,000 names and {grown} bytes");
        assert!(grown < 300 * 1024 * 1024, "{what}: {grown} bytes");
        assert!(probe.gateway.is_running());
    }
}

#[test]
fn a_storm_of_ticks_leaves_the_requests_alone() {
    let probe = Probe::configured("vm_start { set_tick_period_milliseconds 1 } tick { get_property 'plugin_name' && }");
    let load = Load::start(probe.gateway.address(), &Request::get("h", "/load"), 2);
    load.await_more(200);
    let report = load.stop();
    report.assert_no_failures();
    let slowest = report.latencies.last().unwrap();
    assert!(*slowest < Duration::from_secs(2), "{slowest:?}");
}

#[test]
fn a_tick_that_never_returns_does_not_stop_the_worker() {
    let mut probe = Probe::configured("vm_start { set_tick_period_milliseconds 20 } tick { spin }");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let answer = probe.gateway.get("h", "/");
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        assert_eq!(probe.gateway.admin("/ready").status, 200);
    }
    assert!(probe.gateway.is_running());
}
