//! Filters of layer 4 (WasmPlugin `type: NETWORK`) on TCP connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::await_true;
use crate::support::config::wasm_plugin;
use crate::support::gateway::Options;
use crate::support::tcp::{Server, Tcp, read_all, read_some, to};

/// Imports, a memory, and an allocator; texts of the guest begin at 1024.
const PRELUDE: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (memory (export "memory") 16)
  (global $heap (mut i32) (i32.const 131072))
  (func (export "malloc") (param i32) (result i32)
    global.get $heap
    (global.set $heap (i32.add (global.get $heap) (local.get 0))))
"#;

/// Puts `<` before what the upstream says and `>` before what the client says.
const MARKS: &str = r#"
  (data (i32.const 1024) "><")
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (if (local.get 1) (then (drop (call $set_buffer (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 1)))))
    (i32.const 0))
  (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
    (if (local.get 1) (then (drop (call $set_buffer (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1025) (i32.const 1)))))
    (i32.const 0))
"#;

/// Traps on data that begins with `X`.
const TRAPS: &str = r#"
  (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
    (drop (call $get_buffer (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 20)))
    (if (i32.and (i32.ne (local.get 1) (i32.const 0)) (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 88)))
      (then unreachable))
    (i32.const 0))
"#;

fn module(body: &str) -> Vec<u8> {
    let marker = r#"(func (export "proxy_abi_version_0_2_1"))"#;
    wat::parse_str(format!("(module {PRELUDE}{marker}{body})")).expect("a module in text form")
}

/// A gateway to `server` with these filters, each with the rest of its WasmPlugin's spec.
fn start(server: std::net::SocketAddr, filters: &[(&str, &str, &str)]) -> Tcp {
    let folder = tempfile::tempdir().expect("a folder for modules");
    let mut options = Options::new();
    let mut files = to(server);
    for (name, body, rest) in filters {
        let path = folder.path().join(format!("{name}.wasm"));
        std::fs::write(&path, module(body)).expect("the module");
        files.push_str("---\n");
        files.push_str(&wasm_plugin(name, &path, "{}"));
        files.push_str("  type: NETWORK\n");
        files.push_str(rest);
    }
    options = options.file("tcp.yaml", files);
    Tcp::start_with(options)
}

fn ended(mut client: &TcpStream) -> bool {
    // With bytes unread on either side the end is a reset.
    matches!(client.read(&mut [0]), Ok(0) | Err(_))
}

#[test]
fn filters_rewrite_bytes_both_ways() {
    let server = Server::start();
    let tcp = start(server.address, &[("marks", MARKS, "")]);
    let mut client = tcp.connect();
    client.write_all(b"ask").unwrap();
    let mut upstream = server.accept();
    assert_eq!(read_some(&upstream, 4), ">ask");
    upstream.write_all(b"say").unwrap();
    assert_eq!(read_some(&client, 4), "<say");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&upstream), "");
    drop(upstream);
    assert_eq!(read_all(&client), "");
    let calls = |callback: &str| tcp.gateway.metric("portolan_filter_calls_total", &[callback]);
    await_true("the calls to be counted", || calls("on_downstream_data") >= 2.0 && calls("on_upstream_data") >= 2.0);
}

#[test]
fn the_client_meets_filters_forwards_and_the_server_backwards() {
    let server = Server::start();
    let one = MARKS.replace("><", "12");
    let two = MARKS.replace("><", "34");
    let tcp = start(server.address, &[("a", &one, "  priority: 2\n"), ("b", &two, "  priority: 1\n")]);
    let mut client = tcp.connect();
    client.write_all(b"x").unwrap();
    let mut upstream = server.accept();
    assert_eq!(read_some(&upstream, 3), "31x");
    upstream.write_all(b"y").unwrap();
    assert_eq!(read_some(&client, 3), "24y");
}

#[test]
fn a_filter_refuses_connections() {
    let server = Server::start();
    let refuses = r#"
      (func (export "proxy_on_new_connection") (param i32) (result i32)
        (drop (call $close (i32.const 2))) (i32.const 1))"#;
    let tcp = start(server.address, &[("refuses", refuses, "")]);
    assert!(ended(&tcp.connect()));
    tcp.gateway.await_access(r#""- - -" 0 - - wasm_close_stream "#);
    assert!(server.has_none(), "nothing of it reaches the upstream");
}

#[test]
fn held_bytes_come_again_as_a_whole_and_go_on_together() {
    let server = Server::start();
    let gathers = r#"
      (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
        (i32.and (i32.lt_u (local.get 1) (i32.const 10)) (i32.eqz (local.get 2))))"#;
    let tcp = start(server.address, &[("gathers", gathers, "")]);
    let mut client = tcp.connect();
    client.write_all(b"12345").unwrap();
    let upstream = server.accept();
    upstream.set_nonblocking(true).unwrap();
    let received = |bytes: f64| {
        await_true("the gateway to have read it", || {
            tcp.gateway.metric("envoy_tcp_downstream_cx_rx_bytes_total", &[]) == bytes
        });
    };
    received(5.0);
    assert!((&upstream).read(&mut [0]).is_err(), "five bytes are held");
    client.write_all(b"67890").unwrap();
    upstream.set_nonblocking(false).unwrap();
    assert_eq!(read_some(&upstream, 10), "1234567890");
    client.write_all(b"end").unwrap();
    received(13.0);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&upstream), "end");
}

#[test]
fn a_tick_lets_a_held_connection_go_on() {
    let server = Server::start();
    let holds = r#"
      (global $id (mut i32) (i32.const 0))
      (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $tick_period (i32.const 50))) (i32.const 1))
      (func (export "proxy_on_new_connection") (param i32) (result i32)
        (global.set $id (local.get 0)) (i32.const 1))
      (func (export "proxy_on_tick") (param i32)
        (if (i32.eqz (call $effective (global.get $id))) (then (drop (call $continue (i32.const 2))))))"#;
    let tcp = start(server.address, &[("holds", holds, "")]);
    let mut client = tcp.connect();
    let mut upstream = server.accept();
    client.write_all(b"in").unwrap();
    assert_eq!(read_some(&upstream, 2), "in");
    upstream.write_all(b"out").unwrap();
    assert_eq!(read_some(&client, 3), "out");
}

#[test]
fn a_held_connection_goes_on_when_its_filter_lets_data_pass() {
    let server = Server::start();
    let peeks = r#"
      (func (export "proxy_on_new_connection") (param i32) (result i32) (i32.const 1))
      (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32)
        (i32.lt_u (local.get 1) (i32.const 3)))"#;
    let tcp = start(server.address, &[("peeks", peeks, ""), ("marks", MARKS, "  priority: -1\n")]);
    let mut client = tcp.connect();
    client.write_all(b"GO").unwrap();
    await_true("the gateway to have read it", || {
        tcp.gateway.metric("envoy_tcp_downstream_cx_rx_bytes_total", &[]) == 2.0
    });
    assert!(server.has_none(), "the upstream is not asked before");
    client.write_all(b"!").unwrap();
    assert_eq!(read_some(&server.accept(), 4), ">GO!");
}

#[test]
fn too_much_held_and_too_long_held_close_the_connection() {
    let server = Server::start();
    let never = r#"
      (func (export "proxy_on_downstream_data") (param i32 i32 i32) (result i32) (i32.const 1))"#;
    let tcp = start(server.address, &[("never", never, "")]);
    let client = tcp.connect();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || while writer.write_all(&[0; 64 * 1024]).is_ok() {});
    assert!(ended(&client));
    writing.join().unwrap();
    let line = tcp.gateway.await_access(r#""- - -" 0 - - wasm_buffer_overflow "#);
    assert!(line.contains(" 0 "), "nothing has passed: {line}");
}

#[test]
fn a_trap_closes_its_connection_and_the_next_one_is_served() {
    let server = Server::start();
    let tcp = start(server.address, &[("traps", TRAPS, "")]);
    let mut client = tcp.connect();
    client.write_all(b"X").unwrap();
    assert!(ended(&client));
    tcp.gateway.await_access(r#""- - -" 0 - - wasm_fail_stream "#);
    assert_eq!(read_all(&server.accept()), "");
    for _ in 0..8 {
        let mut client = tcp.connect();
        client.write_all(b"ok").unwrap();
        assert_eq!(read_some(&server.accept(), 2), "ok");
    }
    assert_eq!(tcp.gateway.metric("portolan_filter_traps_total", &[]), 1.0);
}

#[test]
fn with_fail_open_a_connection_goes_on_without_the_filter_that_trapped() {
    let server = Server::start();
    let tcp = start(server.address, &[("traps", TRAPS, "  failStrategy: FAIL_OPEN\n")]);
    let mut client = tcp.connect();
    client.write_all(b"X1").unwrap();
    let mut upstream = server.accept();
    assert_eq!(read_some(&upstream, 2), "X1");
    client.write_all(b"X2").unwrap();
    assert_eq!(read_some(&upstream, 2), "X2");
    upstream.write_all(b"answer").unwrap();
    assert_eq!(read_some(&client, 6), "answer");
}

#[test]
fn ends_and_properties_are_told_in_order() {
    let server = Server::start();
    let tells = r#"
      (data (i32.const 1024) "upstream closed by 0")
      (data (i32.const 1056) "downstream closed by 0")
      (data (i32.const 1088) "done")
      (data (i32.const 1104) "logged")
      (data (i32.const 1120) "deleted")
      (data (i32.const 1136) "upstream\00address")
      (data (i32.const 1168) "request\00path")
      (data (i32.const 1184) "no request")
      (func $say (param i32 i32) (drop (call $log (i32.const 2) (local.get 0) (local.get 1))))
      (func (export "proxy_on_upstream_data") (param i32 i32 i32) (result i32)
        (if (i32.eqz (call $get_property (i32.const 1136) (i32.const 16) (i32.const 16) (i32.const 20)))
          (then (call $say (i32.load (i32.const 16)) (i32.load (i32.const 20)))))
        (if (i32.eq (call $get_property (i32.const 1168) (i32.const 12) (i32.const 16) (i32.const 20)) (i32.const 1))
          (then (call $say (i32.const 1184) (i32.const 10))))
        (i32.const 0))
      (func (export "proxy_on_upstream_connection_close") (param i32 i32)
        (i32.store8 (i32.const 1043) (i32.add (i32.const 48) (local.get 1)))
        (call $say (i32.const 1024) (i32.const 20)))
      (func (export "proxy_on_downstream_connection_close") (param i32 i32)
        (i32.store8 (i32.const 1077) (i32.add (i32.const 48) (local.get 1)))
        (call $say (i32.const 1056) (i32.const 22)))
      (func (export "proxy_on_done") (param i32) (result i32) (call $say (i32.const 1088) (i32.const 4)) (i32.const 1))
      (func (export "proxy_on_log") (param i32) (call $say (i32.const 1104) (i32.const 6)))
      (func (export "proxy_on_delete") (param i32) (call $say (i32.const 1120) (i32.const 7)))"#;
    let tcp = start(server.address, &[("tells", tells, "")]);
    let client = tcp.connect();
    drop(server.accept());
    assert_eq!(read_all(&client), "");
    drop(client);
    tcp.gateway.await_log("deleted");
    let log = tcp.gateway.log();
    let places = [
        server.address.to_string().as_str(),
        "no request",
        "upstream closed by 2",
        "downstream closed by 2",
        "done",
        "logged",
        "deleted",
    ]
    .map(|text| log.find(text).unwrap_or_else(|| panic!("{text:?} in the log")));
    assert!(places.is_sorted(), "{places:?}\n{log}");
}

#[test]
fn network_plugins_see_no_requests_and_http_plugins_no_connections() {
    let server = Server::start();
    let traps = r#"
      (func (export "proxy_on_context_create") (param i32 i32) (if (local.get 1) (then unreachable)))
      (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)"#;
    let tcp = start(server.address, &[("marks", MARKS, ""), ("http", traps, "")]);
    let text = std::fs::read_to_string(tcp.gateway.config().join("tcp.yaml")).unwrap();
    let (before, http) = text.split_once("name: http\nspec").unwrap();
    tcp.gateway.replace("tcp.yaml", format!("{before}name: http\nspec{}", http.replace("type: NETWORK", "type: HTTP")));
    await_true("the filter to be of HTTP", || {
        let mut client = tcp.connect();
        let _ = client.write_all(b"x");
        let mut bytes = [0; 2];
        server.accept_now().is_some_and(|mut upstream| upstream.read_exact(&mut bytes).is_ok() && bytes == *b">x")
    });
    assert_eq!(tcp.gateway.get("any.test", "/").status, 503, "the filter of HTTP fails requests");
}
