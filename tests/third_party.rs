//! Filters of other toolchains, built by `tests/modules/build.sh`: plain Go, AssemblyScript, C, Rust on the stock SDK.
//! Run by `make modules`, which CI does with CI_FULL=1: the toolchains are not on every machine.
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

/// A built module; none when its toolchain was not there.
fn module(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PORTOLAN_TEST_MODULES").expect("PORTOLAN_TEST_MODULES: the folder of build.sh");
    Some(PathBuf::from(folder).join(format!("{name}.wasm"))).filter(|path| path.exists())
}

/// A gateway with one of them, that it serves with. The AssemblyScript one knows its root context by that name.
fn start(app: &Upstream, name: &str) -> Option<Gateway> {
    let gateway = options(app).start();
    gateway.write("plugin.yaml", &(wasm_plugin(name, &module(name)?, "{stamp: built}") + "  pluginName: as\n"));
    let start = Instant::now();
    // A cold compile of a large module takes its time in a debug build, and the rest is served meanwhile.
    while !gateway.get("h", "/").headers.iter().any(|(header, _)| header.starts_with("x-stamp") || header == mark(name))
    {
        assert!(start.elapsed() < Duration::from_secs(300), "{name} does not come:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(gateway)
}

/// The response header that a filter writes.
fn mark(name: &str) -> &str {
    match name {
        "go" => "x-go",
        "assemblyscript" => "x-as",
        "c" => "x-c",
        _ => "x-stamp",
    }
}

#[test]
#[ignore = "needs the modules of tests/modules/build.sh: make modules"]
fn filters_of_other_toolchains_run_and_their_traps_cost_one_request() {
    for name in ["go", "assemblyscript", "c", "rust"] {
        let app = Upstream::start("app");
        let Some(gateway) = start(&app, name) else {
            println!("left out: {name}");
            continue;
        };
        for _ in 0..20 {
            let response = gateway.get("h", "/v3/path?q=5");
            assert_eq!((response.status, response.header(mark(name)).is_some()), (200, true), "{name}");
        }
        if name != "rust" {
            for _ in 0..3 {
                assert_eq!(gateway.get("h", "/panic").status, 503, "{name}");
                gateway.await_answer("h", "/next", |response| response.header(mark(name)).is_some());
            }
        }
    }
}

#[test]
#[ignore = "needs the modules of tests/modules/build.sh: make modules"]
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
#[ignore = "needs the modules of tests/modules/build.sh: make modules"]
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
        assert!(start.elapsed() < Duration::from_secs(300), "it does not come:\n{}", gateway.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("compiled and live after {:?}", start.elapsed());
    let report = load.stop();
    report.assert_no_failures();
    let at = report.latencies.len() * 99 / 100;
    println!("{} requests, p99 {:?}, slowest {:?}", report.answered, report.latencies[at], report.latencies.last());
    assert!(report.latencies[at] < Duration::from_millis(250), "{:?}", report.latencies[at]);
}
