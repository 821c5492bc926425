//! Filters of other toolchains, raw as users bring them, that trap, exit and loop on demand: a large one of plain Go,
//! AssemblyScript on Solo's SDK, C. Those whose toolchain is not installed are skipped, and missed under `CI`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test says what went wrong by panicking")]

#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::client::Request;
use support::config::wasm_plugin;
use support::gateway::Gateway;
use support::load::Load;
use support::probe::options;
use support::upstream::Upstream;

/// A module; none where its toolchain is not installed.
fn module(name: &str) -> Option<PathBuf> {
    support::project::built(&format!("tests/modules/{name}"))
}

/// A gateway with one of them, that it serves with. The AssemblyScript one knows its root context by that name.
fn start(app: &Upstream, name: &str) -> Option<Gateway> {
    let module = module(name)?;
    let gateway = options(app).start();
    gateway.write("plugin.yaml", &(wasm_plugin(name, &module, "{stamp: built}") + "  pluginName: as\n"));
    let start = Instant::now();
    // A cold compile of a large module takes its time in a debug build, and the rest is served meanwhile.
    while gateway.get("h", "/").header(mark(name)).is_none() {
        assert!(start.elapsed() < Duration::from_secs(150), "{name} does not come:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(gateway)
}

/// The response header that a filter writes.
fn mark(name: &str) -> &str {
    match name {
        "go" => "x-go",
        "assemblyscript" => "x-as",
        _ => "x-c",
    }
}

/// Answers twenty requests, and three times one that traps.
fn assert_traps_cost_one_request(name: &str) {
    let app = Upstream::start("app");
    let Some(gateway) = start(&app, name) else { return };
    for _ in 0..20 {
        let response = gateway.get("h", "/v3/path?q=5");
        assert_eq!((response.status, response.header(mark(name)).is_some()), (200, true), "{name}");
    }
    for _ in 0..3 {
        assert_eq!(gateway.get("h", "/panic").status, 503, "{name}");
        gateway.await_answer("h", "/next", |response| response.header(mark(name)).is_some());
    }
}

#[test]
fn a_trap_of_assemblyscript_costs_one_request() {
    assert_traps_cost_one_request("assemblyscript");
}

#[test]
fn a_trap_of_c_costs_one_request() {
    assert_traps_cost_one_request("c");
}

#[test]
fn a_go_filter_uses_its_standard_library_and_goroutines() {
    let app = Upstream::start("app");
    let Some(gateway) = start(&app, "go") else { return };
    let response = gateway.get("h", "/v3/path?q=5");
    assert_eq!(response.seen("x-go-version").as_deref(), Some("3"));
    assert_eq!(response.seen("x-go-query").as_deref(), Some("5"));
    let reply = gateway.get("h", "/reply");
    assert_eq!((reply.status, reply.text().as_str()), (418, "<p>/reply</p>"));
    let post = gateway.send(&Request::new("POST", "h", "/").body("abcdef"));
    assert_eq!(post.header("x-go-body"), Some("6"));
    gateway.await_log("a line on standard output");
    gateway.await_log("a line of a goroutine");
    for path in ["/exit", "/loop", "/panic"] {
        assert_eq!(gateway.get("h", path).status, 503, "{path}");
        gateway.await_answer("h", "/next", |response| response.header("x-go").is_some());
    }
}

#[test]
#[ignore = "it measures: make modules"]
fn a_cold_compile_of_a_large_module_holds_no_request_up() {
    let app = Upstream::start("app");
    let Some(file) = module("go") else { return };
    let gateway = options(&app).start();
    let load = Load::start(gateway.address(), &Request::get("h", "/"), 2);
    let cold = support::wasm::restamped(&std::fs::read(file).unwrap(), &format!("cold {}", std::process::id()));
    let module = gateway.folder().join("cold.wasm");
    std::fs::write(&module, cold).unwrap();
    gateway.write(
        "plugin.yaml",
        &wasm_plugin("go", &module, "{stamp: cold}").replace("spec:\n", "spec:\n  failStrategy: FAIL_OPEN\n"),
    );
    let start = Instant::now();
    while gateway.get("h", "/").header("x-go").is_none() {
        assert!(start.elapsed() < Duration::from_secs(150), "it does not come:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("compiled and live after {:?}", start.elapsed());
    let report = load.stop();
    report.assert_no_failures();
    let at = report.latencies.len() * 99 / 100;
    println!("{} requests, p99 {:?}, slowest {:?}", report.answered, report.latencies[at], report.latencies.last());
    assert!(report.latencies[at] < Duration::from_millis(250), "{:?}", report.latencies[at]);
}
