//! Order of callbacks, contexts, ticks, queues, traps.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use portolan_wasm::{FilterAction, PluginVm, Resumed, Shared, StartError, VmError, VmSettings};

use crate::support::{Host, Vm, answered_stream, compile, guest, notes, park, run, start, start_with, stream, unpark};

/// Each callback notes its own number; those of the root are told with the first one of a stream.
const ALL: &str = r#"
  (func (export "_initialize") (call $mark (i32.const 1)))
  (func (export "_start") (call $mark (i32.const 99)))
  (func (export "main") (param i32 i32) (result i32) (call $mark (i32.const 2)) (i32.const 0))
  (func (export "proxy_on_context_create") (param i32 i32)
    (call $note (i32.add (i32.const 10) (local.get 0))) (call $note (local.get 1)))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $note (i32.const 3)) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $note (i32.const 4)) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $note (i32.const 20)) (i32.const 0))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $note (i32.const 21)) (i32.const 1))
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $note (i32.const 22)) (i32.const 3))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $note (i32.const 23)) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $note (i32.const 24)) (i32.const 0))
  (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (call $note (i32.const 25)) (i32.const 0))
  (func (export "proxy_on_foreign_function") (param i32 i32 i32) (call $note (local.get 1)))
  (func (export "proxy_on_log") (param i32) (call $note (i32.const 30)))
  (func (export "proxy_on_done") (param i32) (result i32) (call $note (i32.const 31)) (i32.const 0))
  (func (export "proxy_on_delete") (param i32) (call $note (i32.const 32)))
"#;

#[test]
fn callbacks_run_in_the_order_of_the_abi() {
    let mut vm = start(&guest(ALL));
    let (stream, id) = vm.new_stream(answered_stream());
    let id = id.unwrap();
    let (stream, action) = vm.on_request_headers(id, stream, false);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (stream, action) = vm.on_request_body(id, stream, 0, false);
    assert_eq!(action, Ok(FilterAction::Pause));
    let (stream, action) = vm.on_request_trailers(id, stream);
    assert_eq!(action, Ok(FilterAction::Pause), "numbers above the known ones are pauses");
    let (stream, called) = vm.on_foreign_function(id, stream, 77, b"args");
    assert_eq!(called, Ok(()));
    let (stream, _) = vm.on_response_headers(id, stream, false);
    let (stream, _) = vm.on_response_body(id, stream, 0, false);
    let (stream, _) = vm.on_response_trailers(id, stream);
    let (stream, ended) = vm.end_stream(id, stream);
    assert_eq!(ended, Ok(()));
    assert_eq!(notes(&stream), [1, 2, 11, 0, 3, 4, 12, 1, 20, 21, 22, 77, 23, 24, 25, 30, 31, 32]);
    assert_eq!(vm.streams(), 0);
}

#[test]
fn start_runs_only_without_initialize() {
    let text = guest(
        r#"(func (export "_start") (call $mark (i32.const 5)) (call $exit (i32.const 0)))
           (func (export "proxy_on_request_headers") (param i32 i32) (result i32) (call $note (i32.const 6)) (i32.const 0))"#,
    );
    assert_eq!(notes(&run(&text)), [5, 6]);
}

#[test]
fn absent_callbacks_are_not_called_and_continue() {
    let mut vm = start(&guest(""));
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    assert!(!vm.callbacks().request_headers && !vm.callbacks().end());
    let (stream, action) = vm.on_request_headers(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (_, ended) = vm.end_stream(id, stream);
    assert_eq!(ended, Ok(()));
}

#[test]
fn streams_are_alive_side_by_side_and_their_numbers_are_not_used_again() {
    let mut vm = start(&guest(""));
    let (one, first) = vm.new_stream(stream());
    let (_two, second) = vm.new_stream(stream());
    assert_eq!((first.clone().unwrap().number(), second.unwrap().number()), (2, 3));
    assert_eq!(vm.streams(), 2);
    let (_, ended) = vm.end_stream(first.unwrap(), one);
    assert_eq!(ended, Ok(()));
    let (_, third) = vm.new_stream(stream());
    assert_eq!(third.unwrap().number(), 4);
}

/// A guest that holds a request's head, and on each tick does this to context 2.
fn ticking(on_tick: &str) -> Vm {
    start(&guest(&format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $tick_period (i32.const 50))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) {on_tick})"#
    )))
}

#[test]
fn a_tick_may_read_change_and_resume_a_stream_that_waits() {
    let mut vm = ticking(
        r#"(call $note (call $effective (i32.const 9)))
           (call $note (call $effective (i32.const 2)))
           (call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))
           (call $note (call $replace (i32.const 0) @"x-one" @"tick"))
           (call $note (call $get (i32.const 2) @"x-two" (i32.const 16) (i32.const 20)))
           (call $note (call $continue (i32.const 0)))
           (call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))"#,
    );
    assert_eq!(vm.tick_period(), Some(Duration::from_millis(50)));
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (stream, action) = vm.on_request_headers(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Pause));
    park(id, stream);
    assert_eq!(vm.on_tick(), Ok(()));
    let stream = unpark(id).unwrap();
    assert_eq!(stream.resumed, Resumed { request: true, ..Resumed::default() });
    assert_eq!(stream.request.headers["x-one"], "tick");
    // The first note had no stream to be kept on. What is resumed cannot be read any more.
    assert_eq!(notes(&stream), [2, 0, 0, 0, 2, 0, 2]);
}

#[test]
fn a_tick_may_answer_a_stream_that_waits() {
    let mut vm = ticking(
        r#"(drop (call $effective (i32.const 2)))
           (call $note (call $reply (i32.const 403) (i32.const 0) (i32.const 0) @"no" (i32.const 0) (i32.const 0) (i32.const -1)))"#,
    );
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (stream, _) = vm.on_request_headers(id, stream, true);
    park(id, stream);
    assert_eq!(vm.on_tick(), Ok(()));
    let stream = unpark(id).unwrap();
    assert_eq!(stream.local_reply.unwrap().status, 403);
}

#[test]
fn a_stream_that_nothing_holds_is_not_resumed() {
    let mut vm = ticking(
        r#"(drop (call $effective (i32.const 2))) (call $note (call $continue (i32.const 0)))
           (call $note (call $continue (i32.const 1)))"#,
    );
    let (stream, id) = vm.new_stream(stream());
    park(id.clone().unwrap(), stream);
    assert_eq!(vm.on_tick(), Ok(()));
    let stream = unpark(id.unwrap()).unwrap();
    assert!(stream.resumed.is_nothing());
    assert_eq!(notes(&stream), [0, 0]);
}

#[test]
fn a_stream_that_is_not_to_be_had_answers_every_call() {
    let mut vm = ticking(
        r#"(drop (call $effective (i32.const 2)))
           (if (i32.ne (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)) (i32.const 2)) (then unreachable))
           (if (i32.ne (call $continue (i32.const 0)) (i32.const 2)) (then unreachable))"#,
    );
    let (_kept, id) = vm.new_stream(stream());
    assert!(id.is_ok());
    assert_eq!(vm.on_tick(), Ok(()));
}

#[test]
fn each_entry_of_a_queue_is_told_once_to_who_registered_it() {
    let text = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $register_queue @"q" (i32.const 40))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $note (call $enqueue (call $u32 (i32.const 40)) @"abc")) (i32.const 0))
           (func (export "proxy_on_queue_ready") (param i32 i32)
             (call $note (call $dequeue (local.get 1) (i32.const 16) (i32.const 20)))
             (call $note (call $u32 (i32.const 20)))
             (call $note (call $dequeue (local.get 1) (i32.const 16) (i32.const 20))))
           (func (export "proxy_on_log") (param i32) (call $note (i32.const 30)))"#,
    );
    let mut vm = start(&text);
    vm.set_queue_waker(Waker::noop().clone());
    assert_eq!(vm.on_queues(), Ok(()));
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (stream, _) = vm.on_request_headers(id, stream, true);
    assert_eq!(vm.on_queues(), Ok(()));
    assert_eq!(vm.on_queues(), Ok(()));
    let (stream, _) = vm.end_stream(id, stream);
    assert_eq!(notes(&stream), [0, 0, 3, 7, 30]);
}

#[test]
fn a_trap_ends_the_vm_and_gives_the_stream_back_with_the_guest_s_frames() {
    let text = guest(
        r#"(func $_ZN5guest4deep17h0123456789abcdefE unreachable)
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             call $_ZN5guest4deep17h0123456789abcdefE (i32.const 0))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (stream, result) = vm.on_request_headers(id, stream, true);
    let error = result.unwrap_err();
    assert!(matches!(&error, VmError::Trap { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("unreachable") && text.contains("guest::deep"), "{text}");
    assert_eq!(stream.request.uri, "/a?b=c");
    let (_, result) = vm.on_request_headers(id, stream, true);
    assert_eq!(result, Err(VmError::Ended));
}

#[test]
fn an_exit_in_a_callback_ends_the_vm_with_its_code() {
    let text = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $exit (i32.const 3)) (i32.const 0))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(stream());
    let (_, result) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(result, Err(VmError::Exit(3)));
}

#[test]
fn a_refused_configuration_quotes_what_the_filter_logged() {
    let text = guest(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $log (i32.const 2) @"only info"))
             (drop (call $log (i32.const 4) @"unknown field `pth`"))
             (i32.const 0))"#,
    );
    let error = start_with(&text, VmSettings::default()).err().unwrap();
    assert!(matches!(error, StartError::Refused { during: "proxy_on_configure", .. }));
    let text = error.to_string();
    assert_eq!(text, "the filter refused its configuration in `proxy_on_configure`; it logged: unknown field `pth`");
}

#[test]
fn a_trap_during_the_start_names_the_callback_and_quotes_the_log() {
    let text = guest(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32)
             (drop (call $log (i32.const 5) @"panicked at lib.rs")) unreachable)"#,
    );
    let text = start_with(&text, VmSettings::default()).err().unwrap().to_string();
    assert!(text.starts_with("the filter failed in `proxy_on_vm_start`: "), "{text}");
    assert!(text.ends_with("it logged: panicked at lib.rs"), "{text}");
}

#[test]
fn configurations_can_be_read_while_they_are_due() {
    let text = guest(
        r#"(func (export "proxy_on_vm_start") (param i32 i32) (result i32)
             (call $note (local.get 1))
             (call $note (call $get_buffer (i32.const 6) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20)))
             (call $note (call $u32 (i32.const 20))) (i32.const 1))
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (call $note (local.get 1))
             (call $note (call $get_buffer (i32.const 7) (i32.const 1) (i32.const 99) (i32.const 16) (i32.const 20)))
             (call $note (call $u32 (i32.const 20))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $note (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
             (i32.const 0))"#,
    );
    let settings =
        VmSettings { vm_configuration: b"vm".to_vec(), configuration: b"{\"a\":1}".to_vec(), ..VmSettings::default() };
    let mut vm = start_with(&text, settings).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [2, 0, 2, 7, 0, 6, 1]);
}

#[test]
fn a_vm_may_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Vm>();
    assert_send::<PluginVm<()>>();
}

#[test]
fn two_vms_of_one_module_have_memories_of_their_own() {
    let text = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $note (i32.const 1)) (i32.const 0))"#,
    );
    let (module, settings, shared) = (compile(&text).unwrap(), Arc::new(VmSettings::default()), Shared::new());
    for _ in 0..2 {
        let mut vm: PluginVm<Host> = PluginVm::start(&module, &settings, &shared).unwrap();
        let (stream, id) = vm.new_stream(stream());
        let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
        assert_eq!(notes(&stream), [1]);
        assert_eq!(vm.memory_bytes(), 4 * 65536);
    }
}
