//! Strict mode: what is not honoured is counted by function and reason; everything else works as without it.

use portolan_wasm::VmSettings;

use crate::support::{guest, notes, on_request, start_with, stream};

fn strict() -> VmSettings {
    VmSettings { strict: true, plugin_name: "ns.strict".to_owned(), ..VmSettings::default() }
}

#[test]
fn refused_calls_are_counted_by_function_and_reason() {
    let text = on_request(
        r#"(call $note (call $foreign @"resolve_lua" @"" (i32.const 16) (i32.const 20)))
           (call $note (call $foreign @"resolve_lua" @"" (i32.const 16) (i32.const 20)))
           (call $note (call $get_property @"request\00paht" (i32.const 16) (i32.const 20)))
           (call $note (call $get_property @"response\00code" (i32.const 16) (i32.const 20)))
           (call $note (call $set_property @"route_name" @"x"))
           (call $note (call $add (i32.const 2) @"a" @"b"))
           (call $note (call $get (i32.const 0) @"absent" (i32.const 16) (i32.const 20)))
           (call $note (call $random (i32.const 70000) (i32.const 4)))
           (call $note (call $get (i32.const 0) @"x-one" (i32.const 16) (i32.const 20)))"#,
    );
    let mut vm = start_with(&text, strict()).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [1, 1, 1, 1, 2, 2, 1, 0, 0]);
    let wanted = [
        ("proxy_call_foreign_function: NOT_FOUND `resolve_lua`", 2),
        ("proxy_get_property: NOT_FOUND `request.paht`", 1),
        ("proxy_set_property: BAD_ARGUMENT `route_name`", 1),
        ("proxy_add_header_map_value: BAD_ARGUMENT in on_request_headers", 1),
    ];
    let wanted = wanted.map(|(reason, count)| (reason.to_owned(), count));
    assert_eq!(vm.unhonoured(), wanted, "what is merely absent is not reported");
}

#[test]
fn without_strict_mode_nothing_is_counted() {
    let text = on_request(r#"(call $note (call $foreign @"unknown" @"" (i32.const 16) (i32.const 20)))"#);
    let mut vm = start_with(&text, VmSettings::default()).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    assert!(action.is_ok() && vm.unhonoured().is_empty());
}

#[test]
fn initialisers_log_and_exits_end_the_vm_in_strict_mode_too() {
    let text = guest(
        r#"(func (export "_initialize")
             (drop (call $log (i32.const 2) @"hello")) (drop (call $random (i32.const 16) (i32.const 8))))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $exit (i32.const 3)) (i32.const 0))"#,
    );
    let mut vm = start_with(&text, strict()).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (_, action) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(action.unwrap_err().to_string(), "the filter called exit(3)");
    let early = guest(r#"(func (export "_start") (drop (call $set_property @"a" @"b")))"#);
    let error = start_with(&early, strict()).err().unwrap().to_string();
    assert!(error.contains("called the proxy"), "{error}");
}
