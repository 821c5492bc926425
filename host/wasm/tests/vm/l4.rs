//! Filters of layer 4: connections, their data, their ends.

use bytes::Bytes;
use portolan_wasm::{FilterAction, Peer, Resumed, StreamState, VmError};

use crate::support::{Host, Stream, Vm, guest, notes, park, property, start, stream, unpark};

/// A guest, and a connection with its context.
fn open(body: &str) -> (Vm, portolan_wasm::ContextId, Stream) {
    let mut vm = start(&guest(body));
    let (connection, id) = vm.new_stream(connection());
    (vm, id.unwrap(), connection)
}

fn connection() -> Stream {
    Box::new(StreamState::connection(Host::default()))
}

fn downstream(vm: &mut Vm, id: portolan_wasm::ContextId, mut stream: Stream, data: &'static [u8]) -> Stream {
    stream.request_body.push(Bytes::from_static(data));
    let (stream, action) = vm.on_downstream_data(id, stream, false);
    action.unwrap();
    stream
}

/// Runs `body` in `on_downstream_data` on `data`.
fn on_data(body: &str, data: &'static [u8]) -> Stream {
    let (mut vm, id, stream) = open(&format!(
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) {body} (i32.const 0))"#
    ));
    downstream(&mut vm, id, stream, data)
}

#[test]
fn callbacks_run_in_envoys_order_for_connections() {
    let (mut vm, id, stream) = open(
        r#"(func (export "proxy_on_context_create") (param i32 i32) (call $note (i32.const 1)))
           (func (export "proxy_on_new_connection") (param i32) (result i32) (call $note (i32.const 2)) (i32.const 0))
           (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
             (call $note (i32.add (i32.const 10) (local.get 1))) (call $note (local.get 2)) (i32.const 1))
           (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
             (call $note (i32.add (i32.const 20) (local.get 1))) (call $note (local.get 2)) (i32.const 0))
           (func (export "proxy_on_upstream_connection_close") (param i32 i32) (call $note (i32.add (i32.const 30) (local.get 1))))
           (func (export "proxy_on_downstream_connection_close") (param i32 i32) (call $note (i32.add (i32.const 40) (local.get 1))))
           (func (export "proxy_on_done") (param i32) (result i32) (call $note (i32.const 51)) (i32.const 0))
           (func (export "proxy_on_log") (param i32) (call $note (i32.const 52)))
           (func (export "proxy_on_delete") (param i32) (call $note (i32.const 53)))"#,
    );
    let (mut stream, action) = vm.on_new_connection(id, stream);
    assert_eq!(action, Ok(FilterAction::Continue));
    stream.request_body.push(Bytes::from_static(b"abc"));
    let (mut stream, action) = vm.on_downstream_data(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Pause));
    stream.response_body.push(Bytes::from_static(b"defg"));
    let (stream, action) = vm.on_upstream_data(id, stream, false);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (stream, told) = vm.on_upstream_connection_close(id, stream, Peer::Remote);
    assert_eq!(told, Ok(()));
    let (stream, ended) = vm.end_connection(id, stream, Peer::Local);
    assert_eq!(ended, Ok(()));
    assert_eq!(notes(&stream), [1, 1, 2, 13, 1, 24, 0, 32, 41, 51, 52, 53]);
    assert_eq!(vm.streams(), 0);
}

#[test]
fn absent_callbacks_let_a_connection_pass() {
    let (mut vm, id, stream) = open("");
    let (stream, action) = vm.on_new_connection(id, stream);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (stream, action) = vm.on_downstream_data(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (stream, action) = vm.on_upstream_data(id, stream, true);
    assert_eq!(action, Ok(FilterAction::Continue));
    let (stream, told) = vm.on_upstream_connection_close(id, stream, Peer::Unknown);
    assert_eq!(told, Ok(()));
    assert_eq!(vm.end_connection(id, stream, Peer::Remote).1, Ok(()));
}

#[test]
fn data_is_read_and_changed_in_its_own_callback() {
    let stream = on_data(
        r#"(call $note (call $get_buffer (i32.const 2) (i32.const 1) (i32.const 3) (i32.const 16) (i32.const 20)))
           (call $keep @"read")
           (call $note (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 1) @"HH"))
           (call $note (call $buffer_status (i32.const 2) (i32.const 16) (i32.const 20)))
           (call $note (call $u32 (i32.const 16)))"#,
        b"hello",
    );
    assert_eq!(property(&stream, "read"), Some(&b"ell"[..]));
    assert_eq!(stream.request_body.as_slice(), b"HHello");
    assert_eq!(notes(&stream), [0, 0, 0, 6]);
}

#[test]
fn the_other_directions_data_is_empty_and_cannot_be_changed() {
    let stream = on_data(
        r#"(call $note (call $get_buffer (i32.const 3) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
           (call $note (call $u32 (i32.const 20)))
           (call $note (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) @"x"))
           (call $note (call $set_buffer (i32.const 0) (i32.const 0) (i32.const 0) @"x"))
           (call $note (call $get_buffer (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20)))
           (call $note (call $u32 (i32.const 20)))"#,
        b"hello",
    );
    assert_eq!(notes(&stream), [0, 0, 2, 2, 0, 0]);
    assert_eq!(stream.request_body.as_slice(), b"hello");
}

#[test]
fn a_connection_has_no_headers_and_no_reply() {
    let stream = on_data(
        r#"(call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))
           (call $note (call $add (i32.const 0) @"a" @"b"))
           (call $note (call $size (i32.const 2) (i32.const 16)))
           (call $note (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
             (i32.const 0) (i32.const 0) (i32.const -1)))"#,
        b"",
    );
    assert_eq!(notes(&stream), [2, 2, 2, 2]);
    assert!(stream.local_reply.is_none());
}

#[test]
fn the_end_of_a_connection_shows_no_headers() {
    let (mut vm, id, stream) = open(
        r#"(func (export "proxy_on_log") (param i32)
             (call $note (call $get (i32.const 0) @":method" (i32.const 16) (i32.const 20))))"#,
    );
    let (stream, ended) = vm.end_connection(id, stream, Peer::Remote);
    assert_eq!((ended, notes(&stream)), (Ok(()), &[2][..]));
}

#[test]
fn each_kind_of_stream_takes_its_own_calls_only() {
    let calls = r#"
        (call $note (call $continue (i32.const 0))) (call $note (call $continue (i32.const 1)))
        (call $note (call $close (i32.const 0))) (call $note (call $close (i32.const 1)))
        (call $note (call $continue (i32.const 2))) (call $note (call $continue (i32.const 3)))
        (call $note (call $close (i32.const 2)))"#;
    let connection = on_data(calls, b"x");
    assert_eq!(notes(&connection), [2, 2, 2, 2, 0, 0, 0]);
    assert_eq!(connection.resumed, Resumed { request: true, response: true, close: true });
    let mut vm = start(&guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {calls} (i32.const 0))"#
    )));
    let (request, id) = vm.new_stream(stream());
    let (request, _) = vm.on_request_headers(id.unwrap(), request, true);
    assert_eq!(notes(&request), [0, 0, 0, 0, 2, 2, 2]);
}

#[test]
fn a_tick_resumes_a_held_connection_and_changes_what_is_held() {
    let (mut vm, id, stream) = open(
        r#"(func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (drop (call $effective (i32.const 2)))
             (drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 9) @"changed"))
             (call $note (call $continue (i32.const 2)))
             (call $note (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) @"x")))"#,
    );
    let stream = downstream(&mut vm, id, stream, b"held");
    park(id, stream);
    vm.on_tick().unwrap();
    let stream = unpark(id).unwrap();
    assert_eq!(stream.request_body.as_slice(), b"changed");
    assert_eq!(stream.resumed, Resumed { request: true, response: false, close: false });
    assert_eq!(notes(&stream), [0, 2]);
}

#[test]
fn a_trap_ends_the_vm_and_gives_the_connection_back() {
    let (mut vm, id, mut stream) =
        open(r#"(func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32) unreachable)"#);
    stream.response_body.push(Bytes::from_static(b"kept"));
    let (stream, failed) = vm.on_upstream_data(id, stream, false);
    assert!(matches!(failed, Err(VmError::Trap { .. })), "{failed:?}");
    assert_eq!(stream.response_body.as_slice(), b"kept");
    assert_eq!(vm.on_new_connection(id, stream).1, Ok(FilterAction::Continue), "an absent callback is not called");
}
