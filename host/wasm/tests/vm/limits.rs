//! Runaway guests: loops, memory, stack, wild pointers, allocators.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_wasm::{Callback, CostObserver, StartError, VmError, VmLimits, VmSettings};

use crate::support::{guest, notes, on_request, run, start_with, stream};

fn fail(text: &str, limits: VmLimits) -> VmError {
    let mut vm = start_with(text, VmSettings { limits, ..VmSettings::default() }).unwrap();
    let (stream, id) = vm.new_stream(stream());
    vm.on_request_headers(id.unwrap(), stream, true).1.unwrap_err()
}

#[test]
fn an_endless_loop_is_cut_at_the_deadline() {
    let limits = VmLimits { callback_deadline: Duration::from_millis(50), ..VmLimits::default() };
    let started = Instant::now();
    let error = fail(&on_request("(loop br 0)"), limits);
    assert!(matches!(error, VmError::Deadline { .. }), "{error:?}");
    assert!(started.elapsed() >= Duration::from_millis(50));
}

#[test]
fn a_loop_that_only_calls_the_host_is_cut_too() {
    let text = on_request(
        "(loop (drop (call $get (i32.const 0) @\":path\" (i32.const 16) (i32.const 20))) (global.set $heap (i32.const 131072)) br 0)",
    );
    let error = fail(&text, VmLimits::default());
    assert!(matches!(error, VmError::Deadline { .. }), "{error:?}");
}

#[test]
fn a_start_has_a_deadline_of_its_own() {
    let text = guest(r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (loop br 0) (i32.const 1))"#);
    let limits = VmLimits { start_deadline: Duration::from_millis(50), ..VmLimits::default() };
    let error = start_with(&text, VmSettings { limits, ..VmSettings::default() }).err().unwrap();
    assert!(matches!(error, StartError::Failed { during: "proxy_on_configure", source: VmError::Deadline { .. }, .. }));
}

#[test]
fn an_endless_start_section_is_cut_at_the_deadline() {
    let text = guest("(func $start (loop br 0)) (start $start)");
    let limits = VmLimits { start_deadline: Duration::from_millis(50), ..VmLimits::default() };
    let error = start_with(&text, VmSettings { limits, ..VmSettings::default() }).err().unwrap();
    assert!(matches!(error, StartError::Failed { during: "instantiation", source: VmError::Deadline { .. }, .. }));
}

#[test]
fn memory_beyond_the_limit_is_refused_and_the_trap_that_follows_is_named_for_it() {
    let limits = VmLimits { memory_bytes: 8 * 65536, ..VmLimits::default() };
    let text = on_request(
        "(if (i32.ne (memory.grow (i32.const 4)) (i32.const 4)) (then unreachable))
         (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))",
    );
    let error = fail(&text, limits);
    assert!(matches!(error, VmError::Memory { limit: 524_288, .. }), "{error:?}");
}

#[test]
fn a_module_that_starts_with_more_memory_than_the_limit_does_not_start() {
    let limits = VmLimits { memory_bytes: 65536, ..VmLimits::default() };
    assert!(start_with(&guest(""), VmSettings { limits, ..VmSettings::default() }).is_err());
}

#[test]
fn endless_recursion_is_a_trap() {
    let text = guest(
        r#"(func $deep (call $deep))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $deep) (i32.const 0))"#,
    );
    let error = fail(&text, VmLimits::default());
    assert!(error.to_string().contains("call stack exhausted"), "{error}");
}

#[test]
fn wild_pointers_are_refused() {
    let stream = run(&on_request(
        r#"(call $note (call $get (i32.const 0) (i32.const -1) (i32.const 1) (i32.const 16) (i32.const 20)))
           (call $note (call $get (i32.const 0) (i32.const 16) (i32.const -1) (i32.const 16) (i32.const 20)))
           (call $note (call $get (i32.const 0) @":path" (i32.const -1) (i32.const 20)))
           (call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 262142)))
           (call $note (call $set_property (i32.const 262144) (i32.const 1) (i32.const 0) (i32.const 0)))
           (call $note (call $log (i32.const 2) (i32.const 262140) (i32.const 5)))
           (call $note (call $set_pairs (i32.const 0) (i32.const -4) (i32.const 16)))
           (call $note (call $random (i32.const -1) (i32.const 16)))
           (call $note (call $random (i32.const 0) (i32.const 65537)))
           (call $note (call $fd_write (i32.const 1) (i32.const -8) (i32.const 3) (i32.const 16)))
           (call $note (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 16)))
           (call $note (call $fd_write (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 16)))"#,
    ));
    assert_eq!(notes(&stream), [6, 6, 6, 6, 6, 6, 6, 21, 28, 21, 28, 8]);
}

/// A guest whose allocator is `malloc`, without the prelude's.
fn with_allocator(malloc: &str) -> String {
    on_request(r#"(call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))"#).replace(
        r#"(func $malloc (export "malloc") (param i32) (result i32)"#,
        &format!(
            r#"(func (export "malloc") (param i32) (result i32) {malloc})
               (func $malloc (param i32) (result i32)"#
        ),
    )
}

#[test]
fn an_allocator_that_gives_nothing_or_too_little_is_an_error_of_the_call() {
    assert_eq!(notes(&run(&with_allocator("(i32.const 0)"))), [6]);
    assert_eq!(notes(&run(&with_allocator("(i32.const -2)"))), [6]);
    assert_eq!(notes(&run(&with_allocator("(i32.const 262142)"))), [6]);
}

#[test]
fn an_allocator_that_calls_back_gets_no_second_allocation() {
    let malloc = r#"(call $note (call $get (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 24) (i32.const 28)))
        (call $note (call $pairs (i32.const 0) (i32.const 24) (i32.const 28)))
        (i32.const 200000)"#;
    assert_eq!(notes(&run(&with_allocator(malloc))), [1, 10, 0]);
}

#[test]
fn an_allocator_that_traps_ends_the_vm() {
    let error = fail(&with_allocator("unreachable"), VmLimits::default());
    assert!(matches!(error, VmError::Trap { .. }));
}

/// A loop that takes some milliseconds of CPU time in any build.
const BUSY: &str = "(local $i i32) (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if 0 (i32.lt_u (local.get $i) (i32.const 30000000))))";

#[test]
fn all_callbacks_of_a_start_share_one_deadline() {
    let text = guest(&format!(
        r#"(func (export "_initialize") {BUSY})
           (func (export "proxy_on_context_create") (param i32 i32) {BUSY})
           (func (export "proxy_on_vm_start") (param i32 i32) (result i32) {BUSY} (i32.const 1))
           (func (export "proxy_on_configure") (param i32 i32) (result i32) (loop br 0) (i32.const 1))"#
    ));
    let limits = VmLimits { start_deadline: Duration::from_millis(150), ..VmLimits::default() };
    let start = cpu_time::ThreadTime::now();
    assert!(start_with(&text, VmSettings { limits, ..VmSettings::default() }).is_err());
    // Compiling is part of this, so the bound is generous; a deadline for each callback would be met four times.
    assert!(start.elapsed() < Duration::from_millis(450), "{:?}", start.elapsed());
}

#[test]
fn a_budget_that_is_used_up_is_told_and_comes_back_with_the_next_second() {
    let text = guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {BUSY} (i32.const 0))"#
    ));
    let limits = VmLimits {
        cpu_per_second: Duration::from_millis(1),
        callback_deadline: Duration::from_secs(10),
        ..VmLimits::default()
    };
    let mut vm = start_with(&text, VmSettings { limits, ..VmSettings::default() }).unwrap();
    assert!(!vm.is_overdrawn());
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    assert!(vm.is_overdrawn());
    let mut spare = start_with(&text, VmSettings { limits, ..VmSettings::default() }).unwrap();
    assert!(!spare.is_overdrawn());
    spare.inherit_budget(&vm);
    assert!(spare.is_overdrawn(), "a new VM brings no new budget");
}

/// What an observer has heard.
#[derive(Default)]
struct Heard {
    calls: Mutex<Vec<(Callback, u64)>>,
    times: Mutex<Vec<(Callback, Duration, u64)>>,
}

impl CostObserver for Heard {
    fn called(&self, callback: Callback, count: u64) {
        self.calls.lock().unwrap().push((callback, count));
    }

    fn took(&self, callback: Callback, time: Duration, weight: u64) {
        self.times.lock().unwrap().push((callback, time, weight));
    }
}

#[test]
fn an_observer_hears_of_each_call_and_of_times_that_stand_for_all_calls() {
    let text = guest(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))"#);
    let heard = Arc::new(Heard::default());
    let mut vm = start_with(&text, VmSettings::default()).unwrap();
    vm.observe(heard.clone());
    for _ in 0..1000 {
        let (stream, id) = vm.new_stream(stream());
        let id = id.unwrap();
        let (stream, _) = vm.on_request_headers(id, stream, true);
        vm.end_stream(id, stream).1.unwrap();
    }
    assert_eq!(vm.calls(), 1000);
    drop(vm);
    let calls = heard.calls.lock().unwrap();
    assert!(calls.iter().all(|(callback, _)| *callback == Callback::RequestHeaders));
    assert_eq!(calls.iter().map(|(_, count)| count).sum::<u64>(), 1000);
    let times = heard.times.lock().unwrap();
    let stands_for: u64 = times.iter().map(|(_, _, weight)| weight).sum();
    assert!((900..=1000).contains(&stands_for), "{stands_for}");
    assert!(times.len() < 500, "most calls are not timed: {}", times.len());
}
