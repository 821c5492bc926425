//! Wild pointers and lengths in every host function.

use crate::support::probe::Probe;

/// Each function that takes an address: its name, the number of its parameters, and the places of addresses.
const FUNCTIONS: &[(&str, usize, &[usize])] = &[
    ("log", 3, &[1]),
    ("get_log_level", 1, &[0]),
    ("get_current_time_nanoseconds", 1, &[0]),
    ("get_buffer_bytes", 5, &[3, 4]),
    ("set_buffer_bytes", 5, &[3]),
    ("get_buffer_status", 3, &[1, 2]),
    ("get_header_map_size", 2, &[1]),
    ("get_header_map_pairs", 3, &[1, 2]),
    ("set_header_map_pairs", 3, &[1]),
    ("get_header_map_value", 5, &[1, 3, 4]),
    ("add_header_map_value", 5, &[1, 3]),
    ("replace_header_map_value", 5, &[1, 3]),
    ("remove_header_map_value", 3, &[1]),
    ("send_local_response", 8, &[1, 3, 5]),
    ("get_status", 3, &[0, 1, 2]),
    ("http_call", 10, &[0, 2, 4, 6, 9]),
    ("grpc_call", 12, &[0, 2, 4, 6, 8, 11]),
    ("grpc_stream", 9, &[0, 2, 4, 6, 8]),
    ("grpc_send", 4, &[1]),
    ("redis_init", 7, &[0, 2, 4]),
    ("redis_call", 5, &[0, 2, 4]),
    ("get_shared_data", 5, &[0, 2, 3, 4]),
    ("set_shared_data", 5, &[0, 2]),
    ("register_shared_queue", 3, &[0, 2]),
    ("resolve_shared_queue", 5, &[0, 2, 4]),
    ("enqueue_shared_queue", 3, &[1]),
    ("dequeue_shared_queue", 3, &[1, 2]),
    ("define_metric", 4, &[1, 3]),
    ("get_metric", 2, &[1]),
    ("get_property", 4, &[0, 2, 3]),
    ("set_property", 4, &[0, 2]),
    ("call_foreign_function", 6, &[0, 2, 4, 5]),
    ("args_sizes_get", 2, &[0, 1]),
    ("environ_sizes_get", 2, &[0, 1]),
    ("environ_get", 2, &[0, 1]),
    ("clock_time_get", 3, &[2]),
    ("clock_res_get", 2, &[1]),
    ("fd_fdstat_get", 2, &[1]),
    ("fd_write", 4, &[1, 3]),
    ("poll_oneoff", 4, &[3]),
    ("random_get", 2, &[0]),
];

/// Addresses at and beyond the end of any guest's memory, and lengths that overflow with them.
const WILD: [(i64, i64); 4] = [(-1, 16), (-4, 4), (0x7fff_ffff, -1), (-16, -1)];

#[test]
fn wild_pointers_get_a_status_in_every_host_function() {
    let probe = Probe::start();
    for (name, count, addresses) in FUNCTIONS {
        let mut calls = Vec::new();
        for (address, length) in WILD {
            for wild in addresses.iter() {
                // Everything else is 1, or a length where an address stands before it.
                let arguments = (0..*count).map(|at| match at {
                    _ if at == *wild => address,
                    _ if at == wild + 1 && !addresses.contains(&at) => length,
                    _ => 0,
                });
                let arguments: Vec<_> = arguments.map(|argument| argument.to_string()).collect();
                calls.push(format!("{name} {}", arguments.join(" ")));
            }
        }
        let response = probe.get(&format!("request_headers {{ {} }}", calls.join("; ")));
        assert_eq!(response.status, 200, "{name}: {response:?}\n{}", probe.gateway.log());
        let saw = response.header("x-saw").unwrap();
        assert_eq!(saw.matches(&format!("{name}=")).count(), calls.len(), "{name}: {saw}");
        assert!(!saw.contains(&format!("{name}=0")) || MAY_SUCCEED.contains(name), "{name}: {saw}");
    }
    assert_eq!(probe.gateway.metric("portolan_filter_restarts_total", &[]), 0.0, "no VM was lost");
}

/// An empty text is fine wherever it is said to be, and `environ_get` writes nothing when there is nothing.
const MAY_SUCCEED: &[&str] = &["environ_get", "fd_write", "get_header_map_pairs", "call_foreign_function"];

/// An allocator of every bad kind under a filter that reads its path. The answer says with which status.
fn with_allocator(body: &str) -> String {
    format!(
        r#"(module
  (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) {body})
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $reply (i32.add (i32.const 400) (call $pairs (i32.const 0) (i32.const 0) (i32.const 8)))
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
    (i32.const 0)))"#
    )
}

#[test]
fn an_allocator_that_misbehaves_is_contained() {
    let kinds = [
        ("gives nothing", "(i32.const 0)", &[406][..]),
        ("gives what is beyond the memory", "(i32.const -1)", &[406]),
        ("gives the end of the memory", "(i32.const 65535)", &[406]),
        ("traps", "unreachable", &[503]),
        ("calls the host", "(drop (call $pairs (i32.const 0) (i32.const 0) (i32.const 8))) (i32.const 1024)", &[400]),
    ];
    for (kind, body, statuses) in kinds {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("allocator.wasm");
        std::fs::write(&module, wat::parse_str(with_allocator(body)).unwrap()).unwrap();
        let mut probe = Probe::of(&module, "");
        for _ in 0..3 {
            let status = probe.gateway.get("h", "/").status;
            assert!(statuses.contains(&status), "an allocator that {kind}: {status}");
        }
        assert!(probe.gateway.is_running());
    }
}
