//! Properties, foreign functions, bodies, replies, shared data, metrics, WASI.

use std::sync::Arc;

use bytes::Bytes;
use portolan_wasm::{FilterAction, FilterMetric, MetricKind, PluginVm, Resumed, Shared, VmSettings};

use crate::support::{Host, compile, guest, notes, on_request, property, run, start, start_with, stream};

#[test]
fn properties_come_from_the_plugin_the_host_and_other_filters() {
    let text = on_request(
        r#"(call $note (call $get_property @"plugin_name" (i32.const 16) (i32.const 20))) (call $keep @"a")
           (call $note (call $get_property @"request\00method\00" (i32.const 16) (i32.const 20))) (call $keep @"b")
           (call $note (call $get_property @"a" (i32.const 16) (i32.const 20))) (call $keep @"c")
           (call $note (call $get_property @"wasm.a" (i32.const 16) (i32.const 20)))
           (call $note (call $get_property @"filter_state\00wasm.a" (i32.const 16) (i32.const 20)))
           (call $note (call $get_property @"absent" (i32.const 16) (i32.const 20)))
           (call $note (call $get_property @"portolan.route" (i32.const 16) (i32.const 20)))
           (call $note (call $set_property @"portolan.route" @"7"))
           (call $note (call $get_property @"portolan.route" (i32.const 16) (i32.const 20))) (call $keep @"d")
           (call $note (call $set_property @"" @"7"))"#,
    );
    let mut vm = start_with(&text, VmSettings { plugin_name: "ns.name".to_owned(), ..VmSettings::default() }).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]);
    assert_eq!(property(&stream, "a"), Some(&b"ns.name"[..]));
    assert_eq!(property(&stream, "b"), Some(&b"GET"[..]));
    assert_eq!(property(&stream, "c"), Some(&b"ns.name"[..]));
    assert_eq!(property(&stream, "d"), Some(&b"7"[..]));
    assert_eq!(property(&stream, "portolan.route"), None, "the host has taken it");
}

#[test]
fn foreign_functions_are_the_host_s_and_clear_route_cache() {
    let stream = run(&on_request(
        r#"(call $note (call $foreign @"reverse" @"abc" (i32.const 16) (i32.const 20))) (call $keep @"value")
           (call $note (call $foreign @"reverse" @"abc" (i32.const 0) (i32.const 0)))
           (call $note (call $foreign @"unknown" @"" (i32.const 16) (i32.const 20)))
           (call $note (call $foreign @"clear_route_cache" @"" (i32.const 0) (i32.const 0)))"#,
    ));
    assert_eq!(notes(&stream), [0, 0, 1, 0]);
    assert_eq!(property(&stream, "value"), Some(&b"cba"[..]));
    assert!(stream.route_cleared);
}

#[test]
fn arguments_of_a_foreign_callback_are_in_their_buffer() {
    let text = guest(
        r#"(func (export "proxy_on_foreign_function") (param i32 i32 i32)
             (call $note (local.get 2))
             (call $note (call $get_buffer (i32.const 8) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
             (call $keep @"value"))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_foreign_function(id.unwrap(), stream, 5, b"args");
    assert_eq!(notes(&stream), [4, 0]);
    assert_eq!(property(&stream, "value"), Some(&b"args"[..]));
}

#[test]
fn a_body_is_read_in_parts_and_changed_in_the_middle() {
    let text = guest(
        r#"(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
             (call $note (local.get 1))
             (call $note (call $get_buffer (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 16) (i32.const 20)))
             (call $keep @"value")
             (call $note (call $get_buffer (i32.const 1) (i32.const 99) (i32.const -1) (i32.const 16) (i32.const 20)))
             (call $note (call $u32 (i32.const 20)))
             (call $note (call $set_buffer (i32.const 1) (i32.const 1) (i32.const 2) @"XYZ"))
             (call $note (call $buffer_status (i32.const 1) (i32.const 40) (i32.const 44)))
             (call $note (call $u32 (i32.const 40)))
             (call $note (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) @"no"))
             (call $note (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
             (call $note (call $get_buffer (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
             (i32.const 0))"#,
    );
    let mut vm = start(&text);
    let (mut stream, id) = vm.new_stream(stream());
    stream.response_body.push(Bytes::from_static(b"abcdef"));
    let (stream, _) = vm.on_response_body(id.unwrap(), stream, 6, true);
    assert_eq!(notes(&stream), [6, 0, 0, 0, 0, 0, 7, 2, 1, 2]);
    assert_eq!(property(&stream, "value"), Some(&b"cde"[..]));
    assert_eq!(stream.response_body.as_slice(), b"aXYZdef");
}

#[test]
fn a_local_reply_is_kept_for_the_proxy_and_the_first_one_wins() {
    let text = guest(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (call $note (call $reply (i32.const 99) @"" @"" @"" (i32.const -1)))
             (call $note (call $reply (i32.const 600) @"" @"" @"" (i32.const -1)))
             (call $note (call $reply (i32.const 403)
               @"not today\0a" @"body"
               @"\02\00\00\00\01\00\00\00\01\00\00\00\0e\00\00\00\01\00\00\00a\00b\00content-length\009\00"
               (i32.const 7)))
             (call $note (call $reply (i32.const 500) @"" @"" @"" (i32.const -1)))
             (i32.const 0))
           (func (export "proxy_on_log") (param i32)
             (call $note (call $reply (i32.const 500) @"" @"" @"" (i32.const -1))))"#,
    );
    let mut vm = start(&text);
    let (stream, id) = vm.new_stream(stream());
    let id = id.unwrap();
    let (mut stream, action) = vm.on_request_headers(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Reply));
    let reply = stream.local_reply.take().unwrap();
    assert_eq!((reply.status.as_u16(), reply.details.as_str(), reply.body), (403, "not_today_", Bytes::from("body")));
    assert_eq!(reply.headers.len(), 1);
    assert_eq!(reply.headers["a"], "b");
    assert_eq!(reply.grpc_status, Some(7));
    let (stream, _) = vm.end_stream(id, stream);
    assert_eq!(notes(&stream), [2, 2, 0, 0, 2]);
    assert!(stream.local_reply.is_none());
}

#[test]
fn resuming_and_closing_are_noted() {
    let stream = run(&on_request(
        r#"(call $note (call $continue (i32.const 0)))
           (call $note (call $close (i32.const 1)))
           (call $note (call $continue (i32.const 2)))
           (call $note (call $continue (i32.const 4)))"#,
    ));
    assert_eq!(notes(&stream), [0, 0, 2, 2]);
    assert_eq!(stream.resumed, Resumed { request: true, response: false, close: true });
}

#[test]
fn shared_data_is_swapped_only_with_the_right_number() {
    let text = on_request(
        r#"(call $note (call $get_shared @"k" (i32.const 16) (i32.const 20) (i32.const 40)))
           (call $note (call $set_shared @"k" @"one" (i32.const 0)))
           (call $note (call $get_shared @"k" (i32.const 16) (i32.const 20) (i32.const 40)))
           (call $note (call $set_shared @"k" @"two" (call $u32 (i32.const 40))))
           (call $note (call $set_shared @"k" @"three" (call $u32 (i32.const 40))))
           (call $note (call $get_shared @"k" (i32.const 16) (i32.const 20) (i32.const 40)))
           (call $keep @"value")"#,
    );
    let stream = run(&text);
    assert_eq!(notes(&stream), [1, 0, 0, 0, 8, 0]);
    assert_eq!(property(&stream, "value"), Some(&b"two"[..]));
}

#[test]
fn metrics_of_all_vms_add_up() {
    let text = on_request(
        r#"(call $note (call $define_metric (i32.const 0) @"hits" (i32.const 40)))
           (call $note (call $increment_metric (call $u32 (i32.const 40)) (i64.const 2)))
           (call $note (call $increment_metric (i32.const 99) (i64.const 2)))
           (call $note (call $define_metric (i32.const 3) @"hits" (i32.const 40)))"#,
    );
    let (module, settings, shared) = (compile(&text).unwrap(), Arc::new(VmSettings::default()), Shared::new());
    for _ in 0..2 {
        let mut vm: PluginVm<Host> = PluginVm::start(&module, &settings, &shared).unwrap();
        let (stream, id) = vm.new_stream(stream());
        let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
        assert_eq!(notes(&stream), [0, 0, 1, 2]);
    }
    let hits = FilterMetric { name: "hits".to_owned(), kind: MetricKind::Counter, value: 4, histogram: None };
    assert_eq!(shared.metrics(), [hits]);
}

#[test]
fn the_environment_is_the_plugin_s() {
    let text = on_request(
        r#"(call $note (call $environ_sizes (i32.const 16) (i32.const 20)))
           (call $note (call $u32 (i32.const 16)))
           (call $note (call $u32 (i32.const 20)))
           (call $note (call $environ (i32.const 200) (i32.const 16384)))
           (i32.store (i32.const 16) (call $u32 (i32.const 200)))
           (call $keep @"value")"#,
    );
    let env = vec![("A".to_owned(), "b".to_owned()), ("C".to_owned(), String::new())];
    let mut vm = start_with(&text, VmSettings { env, ..VmSettings::default() }).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [0, 2, 7, 0]);
    assert_eq!(property(&stream, "value"), Some(&b"A=b\0C=\0"[..]));
}
