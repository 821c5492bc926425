//! Callouts: what a guest may ask, what the proxy gets to carry out, and what the guest reads of the answer and when.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use portolan_wasm::{CallResponse, Callout, HttpCall, PluginVm, Shared, Upstream, VmLimits, VmSettings};

use crate::support::{Host, Vm, compile, guest, notes, property, stream};

/// `:method` GET, `:path` /p, `:authority` a.test, and `x` with the value in place of V, in the wire form.
const HEAD: &str = r#"@"\04\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\02\00\00\00\0a\00\00\00\06\00\00\00\01\00\00\00\01\00\00\00:method\00GET\00:path\00/p\00:authority\00a.test\00x\00V\00""#;

/// The same without `:path`.
const NO_PATH: &str =
    r#"@"\02\00\00\00\07\00\00\00\03\00\00\00\0a\00\00\00\06\00\00\00:method\00GET\00:authority\00a.test\00""#;

/// One pair `t`: `1`.
const PAIR: &str = r#"@"\01\00\00\00\01\00\00\00\01\00\00\00t\001\00""#;

/// Keeps the value that was read last, for the next stream to tell.
const SAVE: &str =
    "(i32.store (i32.const 400) (call $u32 (i32.const 16))) (i32.store (i32.const 404) (call $u32 (i32.const 20)))";

/// Starts a guest whose `on_request_headers` runs `asks` and then tells all notes and the saved value.
fn start(asks: &str, functions: &str) -> Vm {
    start_limited(asks, functions, VmLimits::default())
}

fn start_limited(asks: &str, functions: &str, limits: VmLimits) -> Vm {
    let text = guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             {asks}
             (i32.store (i32.const 16) (call $u32 (i32.const 400)))
             (i32.store (i32.const 20) (call $u32 (i32.const 404)))
             (call $keep @"saved")
             (i32.const 0))
           {functions}"#
    ));
    let shared = Shared::new();
    shared.set_upstreams([Arc::from("outbound|80||auth.test")]);
    let settings = VmSettings { limits, ..VmSettings::default() };
    PluginVm::start(&compile(&text).unwrap(), &Arc::new(settings), &shared).unwrap()
}

/// One request: what the guest has noted so far, and the value that it saved last.
fn request(vm: &mut Vm) -> (Vec<u8>, Option<Bytes>) {
    let (stream, id) = vm.new_stream(stream());
    let (stream, action) = vm.on_request_headers(id.unwrap(), stream, true);
    action.unwrap();
    let saved = property(&stream, "saved").map(Bytes::copy_from_slice);
    (notes(&stream).to_vec(), saved)
}

fn http_call(upstream: &str, head: &str) -> String {
    format!(
        r#"(call $note (call $http_call @"{upstream}" {head} @"body" {PAIR} (i32.const 250) (i32.const 300)))
           (call $note (call $u32 (i32.const 300)))"#
    )
}

fn only_http(vm: &mut Vm) -> HttpCall {
    match vm.take_callouts().pop() {
        Some(Callout::Http(call)) => call,
        other => panic!("{other:?}"),
    }
}

fn answer() -> CallResponse {
    let mut headers = HeaderMap::new();
    headers.insert("x-user", "me".parse().unwrap());
    let mut trailers = HeaderMap::new();
    trailers.insert("t", "9".parse().unwrap());
    CallResponse { status: StatusCode::FORBIDDEN, headers, body: Bytes::from_static(b"no entry"), trailers }
}

#[test]
fn an_http_call_reaches_the_proxy_whole() {
    let mut vm = start(&http_call("outbound|80||auth.test", HEAD), "");
    assert_eq!(request(&mut vm).0, [0, 4]);
    let call = only_http(&mut vm);
    assert_eq!(call.id, 4);
    assert_eq!(call.upstream, Upstream::Cluster("outbound|80||auth.test".into()));
    assert_eq!((call.request.method.as_str(), call.request.uri.path()), ("GET", "/p"));
    assert_eq!(
        (&call.request.headers["host"], &call.request.headers["x"]),
        (&"a.test".parse().unwrap(), &"V".parse().unwrap())
    );
    assert_eq!((call.body, call.timeout), (Bytes::from("body"), Duration::from_millis(250)));
    assert_eq!(call.trailers["t"], "1");
    assert!(vm.take_callouts().is_empty());
}

#[test]
fn a_call_that_cannot_be_made_is_refused_at_once() {
    let bad = [
        http_call("outbound|80||unknown.test", HEAD),
        http_call("", HEAD),
        http_call("auth.test:80", NO_PATH),
        http_call("auth.test:80", &HEAD.replace("V\\00\"", "\\0a\\00\"")),
        http_call("auth.test:80", r#"@"\ff\ff\ff\ff""#),
    ];
    let mut vm = start(&bad.concat(), "");
    assert_eq!(request(&mut vm).0, [2, 0].repeat(bad.len()));
    assert!(vm.take_callouts().is_empty());
    let far = "(i32.const -16) (i32.const 8)";
    let wild = format!(
        r#"(call $note (call $http_call {far} {HEAD} @"" @"" (i32.const 0) (i32.const 300)))
           (call $note (call $http_call @"a:1" {far} @"" @"" (i32.const 0) (i32.const 300)))
           (call $note (call $http_call @"a:1" {HEAD} {far} @"" (i32.const 0) (i32.const 300)))
           (call $note (call $http_call @"a:1" {HEAD} @"" {far} (i32.const 0) (i32.const 300)))
           (call $note (call $http_call @"a:1" {HEAD} @"" @"" (i32.const 0) (i32.const -2)))"#
    );
    let mut vm = start(&wild, "");
    assert_eq!(request(&mut vm).0, [6; 5]);
    assert!(vm.take_callouts().is_empty());
}

#[test]
fn an_answer_can_be_read_while_its_callback_runs_and_not_later() {
    let read = r#"(call $note (call $get_buffer (i32.const 4) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20)))
                  (call $note (call $get (i32.const 6) @":status" (i32.const 16) (i32.const 20)))
                  (call $note (call $get (i32.const 6) @"X-User" (i32.const 16) (i32.const 20)))
                  (call $note (call $get (i32.const 6) @"absent" (i32.const 16) (i32.const 20)))
                  (call $note (call $get (i32.const 7) @"t" (i32.const 16) (i32.const 20)))
                  (call $note (call $size (i32.const 6) (i32.const 24)))
                  (call $note (call $add (i32.const 6) @"a" @"b"))
                  (call $note (call $get (i32.const 0) @":path" (i32.const 16) (i32.const 20)))
                  (call $note (call $get (i32.const 4) @":status" (i32.const 16) (i32.const 20)))"#;
    let functions = format!(
        r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
             (call $note (local.get 0)) (call $note (local.get 1)) (call $note (local.get 2))
             (call $note (local.get 3)) (call $note (local.get 4))
             {read}
             (call $note (call $u32 (i32.const 24)))
             (drop (call $get_buffer (i32.const 4) (i32.const 3) (i32.const 5) (i32.const 16) (i32.const 20))) {SAVE})"#
    );
    let mut vm = start(&format!("{}{read}", http_call("a.test:80", HEAD)), &functions);
    let absent = [1, 2, 2, 2, 2, 2, 2, 0, 2];
    assert_eq!(request(&mut vm).0, [&[0, 4][..], &absent].concat());
    assert_eq!(vm.callouts_in_flight(), 1);
    let call = only_http(&mut vm);
    vm.on_http_call_response(call.id, answer()).unwrap();
    assert_eq!(vm.callouts_in_flight(), 0);
    vm.on_http_call_response(call.id, answer()).unwrap();
    let (told, saved) = request(&mut vm);
    // Root 1, id 4, 2 headers, 8 bytes, 1 trailer; then what was read, and the headers' size.
    let there = [1, 4, 2, 8, 1, 0, 0, 0, 1, 0, 0, 2, 2, 2, 18];
    assert_eq!(told, [&[0, 4][..], &absent, &there, &[0, 8], &absent].concat());
    assert_eq!(saved.as_deref(), Some(&b"entry"[..]));
}

#[test]
fn a_call_from_an_answer_s_callback_and_one_of_the_start_are_handed_over() {
    let call = format!(r#"(drop (call $http_call @"a.test:80" {HEAD} @"" @"" (i32.const 0) (i32.const 300)))"#);
    let functions = format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) {call} (i32.const 1))
           (func (export "proxy_on_tick") (param i32) {call})
           (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) {call})"#
    );
    let mut vm = start("", &functions);
    let first = only_http(&mut vm);
    assert_eq!(first.timeout, Duration::from_secs(3600));
    vm.on_http_call_response(first.id, answer()).unwrap();
    assert_eq!(only_http(&mut vm).id, 8);
    vm.on_tick().unwrap();
    assert_eq!(only_http(&mut vm).id, 12);
}

#[test]
fn callouts_in_flight_are_bounded_and_come_back() {
    let limits = VmLimits { callouts_in_flight: 2, ..VmLimits::default() };
    let mut vm = start_limited(&http_call("a.test:80", HEAD).repeat(3), "", limits);
    assert_eq!(request(&mut vm).0, [0, 4, 0, 8, 10, 8]);
    let calls = vm.take_callouts();
    assert_eq!(calls.len(), 2);
    drop(calls);
    assert_eq!(request(&mut vm).0[6..], [10, 8, 10, 8, 10, 8]);
    vm.on_http_call_response(4, answer()).unwrap();
    assert_eq!(request(&mut vm).0[12..], [0, 12, 10, 12, 10, 12]);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let call = format!(
        r#"(drop (memory.grow (i32.const 32)))
           (call $note (call $http_call @"a.test:80" {HEAD} (i32.const 0) (i32.const 1048577) @"" (i32.const 0) (i32.const 300)))"#
    );
    assert_eq!(request(&mut start(&call, "")).0, [10]);
}

fn grpc(upstream: &str, out: u32) -> String {
    format!(
        r#"(call $note (call $grpc_call @"{upstream}" @"a.Service" @"Get" {PAIR} @"message" (i32.const 100) (i32.const {out})))
           (call $note (call $u32 (i32.const {out})))"#
    )
}

fn grpc_stream(upstream: &str) -> String {
    format!(
        r#"(call $note (call $grpc_stream @"{upstream}" @"a.Service" @"Watch" @"" (i32.const 300)))
           (call $note (call $u32 (i32.const 300)))"#
    )
}

#[test]
fn a_grpc_call_reaches_the_proxy_by_name_or_by_message() {
    let message = r"\0a\1e\0a\16outbound|80||auth.test\12\04auth";
    let asks =
        [grpc("outbound|80||auth.test", 300), grpc(message, 300), grpc("nobody", 304), grpc(r"\0a\04\0a\02xy", 304)];
    let mut vm = start(&asks.concat(), "");
    assert_eq!(request(&mut vm).0, [0, 5, 0, 9, 4, 0, 10, 0]);
    let calls = vm.take_callouts();
    let [Callout::Grpc(by_name), Callout::Grpc(by_message)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(by_name.path.as_str(), "/a.Service/Get");
    assert_eq!(
        (by_name.message.as_deref(), by_name.timeout),
        (Some(&b"message"[..]), Some(Duration::from_millis(100)))
    );
    assert_eq!(by_name.metadata["t"], "1");
    assert_eq!(by_name.authority, None);
    assert_eq!(by_message.authority.as_ref().map(|authority| authority.as_str()), Some("auth"));
    assert_eq!(by_name.upstream, by_message.upstream);
}

#[test]
fn a_grpc_service_that_is_no_path_is_refused() {
    let bad =
        |service: &str| format!(r#"(call $note (call $grpc_stream @"a:1" @"{service}" @"Get" @"" (i32.const 300)))"#);
    let mut vm = start(&[bad(""), bad("a/b"), bad("a b"), bad("a?b"), bad(r"a\0d\0a")].concat(), "");
    assert_eq!(request(&mut vm).0, [2; 5]);
}

const GRPC_CALLBACKS: &str = r#"
    (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32)
      (call $note (i32.const 101)) (call $note (local.get 1)) (call $note (local.get 2))
      (call $note (call $get (i32.const 4) @"x-user" (i32.const 16) (i32.const 20))))
    (func (export "proxy_on_grpc_receive") (param i32 i32 i32)
      (call $note (i32.const 102)) (call $note (local.get 1)) (call $note (local.get 2))
      (call $note (call $get_buffer (i32.const 5) (i32.const 0) (i32.const 9) (i32.const 16) (i32.const 20))))
    (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32)
      (call $note (i32.const 103)) (call $note (local.get 1)) (call $note (local.get 2))
      (call $note (call $get (i32.const 5) @"x-user" (i32.const 16) (i32.const 20))))
    (func (export "proxy_on_grpc_close") (param i32 i32 i32)
      (call $note (i32.const 104)) (call $note (local.get 1)) (call $note (local.get 2))
      (call $note (call $get_status (i32.const 24) (i32.const 16) (i32.const 20)))
      (call $note (call $u32 (i32.const 24)))
      (i32.store (i32.const 400) (call $u32 (i32.const 16))) (i32.store (i32.const 404) (call $u32 (i32.const 20)))
      (call $note (call $grpc_close (local.get 1))))"#;

#[test]
fn a_grpc_stream_tells_metadata_messages_and_its_end() {
    let asks = format!("{}(drop (call $grpc_send (i32.const 6) @\"hi\" (i32.const 0)))", grpc_stream("a:1"));
    let mut vm = start(&asks, GRPC_CALLBACKS);
    assert_eq!(request(&mut vm).0, [0, 6]);
    let calls = vm.take_callouts();
    let [Callout::Grpc(open), Callout::GrpcSend(send)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((open.message.is_none(), open.timeout, send.id), (true, None, 6));
    assert_eq!((&send.message[..], send.end), (&b"hi"[..], false));
    vm.on_grpc_initial_metadata(6, StatusCode::OK, answer().headers).unwrap();
    vm.on_grpc_message(6, Bytes::from_static(b"abc"), false).unwrap();
    vm.on_grpc_trailing_metadata(6, answer().headers).unwrap();
    vm.on_grpc_close(6, 5, Bytes::from_static(b"gone")).unwrap();
    vm.on_grpc_close(6, 5, Bytes::from_static(b"gone")).unwrap();
    vm.on_grpc_message(6, Bytes::from_static(b"late"), false).unwrap();
    let (told, saved) = request(&mut vm);
    let wanted = [101, 6, 2, 0, 102, 6, 3, 0, 103, 6, 1, 0, 104, 6, 5, 0, 5, 0];
    assert_eq!(told[2..20], wanted);
    assert_eq!(saved.as_deref(), Some(&b"gone"[..]));
    assert_eq!(vm.callouts_in_flight(), 1, "the second request's own");
}

#[test]
fn a_grpc_call_is_over_with_its_message_or_its_failure() {
    let mut vm = start(&grpc("a:1", 300).repeat(2), GRPC_CALLBACKS);
    request(&mut vm);
    vm.on_grpc_message(5, Bytes::from_static(b"abc"), true).unwrap();
    vm.on_grpc_close(9, 14, Bytes::new()).unwrap();
    assert_eq!(vm.callouts_in_flight(), 0);
    // The id of a call that is over is not known any more.
    assert_eq!(request(&mut vm).0[4..14], [102, 5, 3, 0, 104, 9, 14, 0, 14, 1]);
}

#[test]
fn a_cancelled_grpc_stream_is_told_nothing_more() {
    let asks = format!("{}(call $note (call $grpc_cancel (i32.const 6)))", grpc_stream("a:1"));
    let mut vm = start(&asks, GRPC_CALLBACKS);
    assert_eq!(request(&mut vm).0, [0, 6, 0]);
    assert!(vm.take_callouts().is_empty(), "it had not begun");
    vm.on_grpc_close(6, 1, Bytes::new()).unwrap();
    assert_eq!(request(&mut vm).0.len(), 6);
}

const QUERY: &str = r#"@"*1\0d\0a$4\0d\0aPING\0d\0a""#;

#[test]
fn a_redis_server_is_made_known_and_called() {
    let asks = format!(
        r#"(call $note (call $redis_call @"redis.test:6379" {QUERY} (i32.const 300)))
           (call $note (call $redis_init @"redis?db=1" @"" @"" (i32.const 100)))
           (call $note (call $redis_init @"redis.test:6379?db=x" @"" @"" (i32.const 100)))
           (call $note (call $redis_init @"redis.test:6379?db=3&buffer_flush_timeout=0" @"user" @"secret" (i32.const 100)))
           (call $note (call $redis_call @"redis.test:6379" {QUERY} (i32.const 300)))
           (call $note (call $u32 (i32.const 300)))
           (call $note (call $redis_call @"redis.test:6379" @"PING" (i32.const 300)))"#
    );
    let functions = format!(
        r#"(func (export "proxy_on_redis_call_response") (param i32 i32 i32 i32)
             (call $note (local.get 1)) (call $note (local.get 2)) (call $note (local.get 3))
             (call $note (call $get_buffer (i32.const 9) (i32.const 0) (i32.const 99) (i32.const 16) (i32.const 20)))
             {SAVE})"#
    );
    let mut vm = start(&asks, &functions);
    assert_eq!(request(&mut vm).0, [2, 2, 2, 0, 0, 7, 2]);
    let calls = vm.take_callouts();
    let [Callout::Redis(call)] = calls.as_slice() else { panic!("{calls:?}") };
    let server = &call.server;
    assert_eq!((server.database, server.username.as_str(), server.password.as_str()), (3, "user", "secret"));
    assert_eq!((server.timeout, &call.query[..]), (Duration::from_millis(100), &b"*1\r\n$4\r\nPING\r\n"[..]));
    vm.on_redis_response(7, Some(Bytes::from_static(b"+PONG\r\n"))).unwrap();
    vm.on_redis_response(7, None).unwrap();
    let (told, saved) = request(&mut vm);
    assert_eq!(told[7..11], [7, 0, 7, 0]);
    assert_eq!(saved.as_deref(), Some(&b"+PONG\r\n"[..]));
    vm.on_redis_response(11, None).unwrap();
    assert_eq!(request(&mut vm).0[18..22], [11, 1, 0, 0]);
}

#[test]
fn one_vm_s_callouts_are_nothing_to_another() {
    let text = guest(&format!(
        r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             {} (i32.const 0))"#,
        http_call("a:1", HEAD)
    ));
    let (module, settings, shared) = (compile(&text).unwrap(), Arc::new(VmSettings::default()), Shared::new());
    for _ in 0..2 {
        let mut vm: PluginVm<Host> = PluginVm::start(&module, &settings, &shared).unwrap();
        let (stream, id) = vm.new_stream(stream());
        vm.on_request_headers(id.unwrap(), stream, true).1.unwrap();
        assert_eq!(only_http(&mut vm).id, 4);
    }
}
