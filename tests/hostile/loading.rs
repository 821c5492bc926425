//! Modules that cannot be loaded: refused by name, and nothing else suffers.

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::load::Load;
use crate::support::probe::{options, plugin_of};
use crate::support::upstream::Upstream;

const START: &str =
    r#"(func (export "proxy_abi_version_0_2_1")) (func (export "malloc") (param i32) (result i32) (i32.const 1024))"#;

/// Each bad module, in the text format.
fn bad() -> Vec<(&'static str, String)> {
    let with = |body: &str| format!("(module {START} {body})");
    let memory = r#"(memory (export "memory") 1)"#;
    let mut many = String::new();
    for number in 0..3_000 {
        let _ = write!(many, r#"(import "env" "proxy_none_{number}" (func))"#);
    }
    vec![
        ("no-memory", with("")),
        ("memory64", with(r#"(memory (export "memory") i64 1)"#)),
        ("shared", with(r#"(memory (export "memory") 1 2 shared)"#)),
        ("huge-memory", with(r#"(memory (export "memory") 60000)"#)),
        ("huge-table", with(&format!("{memory} (table 9000000 funcref)"))),
        ("start-trap", with(&format!("{memory} (func $s unreachable) (start $s)"))),
        ("initialize-trap", with(&format!("{memory} (func (export \"_initialize\") unreachable)"))),
        (
            "vm-start-trap",
            with(&format!("{memory} (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) unreachable)")),
        ),
        (
            "vm-start-false",
            with(&format!("{memory} (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) (i32.const 0))")),
        ),
        (
            "configure-false",
            with(&format!(
                "{memory} (func (export \"proxy_on_configure\") (param i32 i32) (result i32) (i32.const 0))"
            )),
        ),
        (
            "configure-trap",
            with(&format!("{memory} (func (export \"proxy_on_configure\") (param i32 i32) (result i32) unreachable)")),
        ),
        (
            "wrong-type",
            with(&format!(
                "{memory} (func (export \"proxy_on_request_headers\") (param f64) (result i64) (i64.const 0))"
            )),
        ),
        ("no-marker", format!("(module {memory})")),
        ("many-imports", format!("(module {many} {START} {memory})")),
        ("wrong-import", format!(r#"(module (import "env" "proxy_log" (func (param i64))) {START} {memory})"#)),
        (
            "memory-import",
            format!(r#"(module (import "env" "memory" (memory 1)) {START} (export "memory" (memory 0)))"#),
        ),
        ("exits", with(&format!("{memory} (func (export \"_start\") unreachable)"))),
    ]
}

#[test]
fn modules_that_cannot_be_loaded_are_refused() {
    let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let mut options = options(&app);
    let modules = bad();
    for (name, text) in &modules {
        let file = folder.path().join(format!("{name}.wasm"));
        fs::write(&file, wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))).unwrap();
        options = options.file(&format!("{name}.yaml"), plugin_of(name, &file, "  failStrategy: FAIL_OPEN\n"));
    }
    for (name, bytes) in [("not-wasm", &b"hello"[..]), ("empty", b""), ("cut", b"\0asm\x01\0\0\0\x01\x7f")] {
        let file = folder.path().join(format!("{name}.wasm"));
        fs::write(&file, bytes).unwrap();
        options = options.file(&format!("{name}.yaml"), plugin_of(name, &file, "  failStrategy: FAIL_OPEN\n"));
    }
    let gateway = options.start();
    for _ in 0..10 {
        assert_eq!(gateway.get("h", "/").status, 200, "FAIL_OPEN: served without them");
    }
    for (name, _) in &modules {
        gateway.await_log(&format!("{name}.yaml"));
    }
}

#[test]
fn a_module_that_cannot_be_loaded_closes_its_routes_and_the_gateway_is_ready() {
    let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let file = folder.path().join("bad.wasm");
    fs::write(&file, "not a module").unwrap();
    let gateway = options(&app).file("plugin.yaml", plugin_of("bad", &file, "")).start();
    assert_eq!(gateway.get("h", "/").status, 503);
    assert_eq!(app.requests(), 0);
    fs::remove_file(gateway.config().join("plugin.yaml")).unwrap();
    gateway.await_answer("h", "/", |response| response.status == 200);
}

#[test]
fn a_module_that_loops_while_loading_leaves_the_rest_alone() {
    let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let gateway = options(&app).start();
    let file = folder.path().join("endless.wasm");
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (loop br 0) (i32.const 1))"#;
    let text = format!(r#"(module {START} (memory (export "memory") 1) {body})"#);
    fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
    gateway.write("endless.yaml", &plugin_of("endless", &file, "  failStrategy: FAIL_OPEN\n"));
    let load = Load::start(gateway.address(), &Request::get("h", "/"), 2);
    // Longer than any other wait of these tests: the deadline of a start is 5 s, and a busy machine adds to it.
    let start = Instant::now();
    while !gateway.log().contains("deadline") {
        assert!(start.elapsed() < Duration::from_secs(60), "the start goes on:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = load.stop();
    report.assert_no_failures();
    assert!(report.answered > 500, "{}", report.answered);
}
