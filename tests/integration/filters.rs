//! Filters of users in the chain: one on our SDK, one on the stock SDK, and what a broken one costs.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::Options;
use crate::support::upstream::Upstream;
use crate::support::wasm;

fn options(app: &Upstream) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
}

/// A module that traps at each request.
fn trapping() -> Vec<u8> {
    wasm::from_text(
        "(memory (export \"memory\") 1) (func (export \"malloc\") (param i32) (result i32) i32.const 1024) \
         (func (export \"proxy_on_context_create\") (param i32 i32)) \
         (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1) \
         (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 1) \
         (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) unreachable)",
    )
}

/// A module that never comes back from a request.
fn endless() -> Vec<u8> {
    wasm::from_text(
        "(memory (export \"memory\") 1) (func (export \"malloc\") (param i32) (result i32) i32.const 1024) \
         (func (export \"proxy_on_context_create\") (param i32 i32)) \
         (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1) \
         (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 1) \
         (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32) (loop br 0) i32.const 0)",
    )
}

#[test]
fn a_filter_that_traps_fails_its_requests_closed_and_the_gateway_lives() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("trap.wasm");
    std::fs::write(&module, trapping()).unwrap();
    let gateway = options(&app).file("plugin.yaml", wasm_plugin("trap", &module, "{}")).start();
    for _ in 0..20 {
        assert_eq!(gateway.get("h", "/").status, 503);
    }
    assert_eq!(app.requests(), 0);
    std::fs::remove_file(gateway.config().join("plugin.yaml")).unwrap();
    gateway.await_answer("h", "/", |response| response.status == 200);
}

#[test]
fn a_filter_that_traps_is_passed_by_when_it_may_fail_open() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("trap.wasm");
    std::fs::write(&module, trapping()).unwrap();
    let plugin = wasm_plugin("trap", &module, "{}") + "  failStrategy: FAIL_OPEN\n";
    let gateway = options(&app).file("plugin.yaml", plugin).start();
    for _ in 0..20 {
        assert_eq!(gateway.get("h", "/").status, 200);
    }
}

#[test]
fn a_filter_that_never_returns_is_cut_off() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("endless.wasm");
    std::fs::write(&module, endless()).unwrap();
    let gateway = options(&app).file("plugin.yaml", wasm_plugin("endless", &module, "{}")).start();
    assert_eq!(gateway.get("h", "/").status, 503);
    assert_eq!(gateway.admin("/ready").status, 200);
}

#[test]
fn a_plugin_whose_file_comes_late_is_taken_when_it_is_there() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("late.wasm");
    let gateway = options(&app).start();
    assert_eq!(gateway.get("h", "/").status, 200);
    gateway.write("plugin.yaml", &wasm_plugin("late", &module, "{stamp: late}"));
    gateway.await_log("late.wasm");
    let bytes = std::fs::read(wasm::built("examples/filter-stamp")).unwrap();
    std::fs::write(&module, bytes).unwrap();
    gateway.await_answer("h", "/", |response| response.header("x-stamp") == Some("late"));
}

#[test]
fn filters_of_users_run_in_the_chain_whatever_their_sdk() {
    let app = Upstream::start("app");
    for (folder, stamp) in [("examples/filter-stamp", "on our SDK"), ("examples/filter-stock", "on the stock SDK")] {
        let config = format!("{{stamp: {stamp}}}");
        let gateway = options(&app).file("stamp.yaml", wasm_plugin("stamp", &wasm::built(folder), &config)).start();
        let mut connection = gateway.connect();
        for _ in 0..50 {
            let response = connection.request(&Request::get("h", "/")).unwrap();
            assert_eq!((response.status, response.header("x-stamp")), (200, Some(stamp)));
        }
        // Local answers pass through the chain as well.
        gateway.replace("routes.yaml", routes("- directResponse: {status: 418}\n"));
        let reply = gateway.await_answer("h", "/", |response| response.status == 418);
        assert_eq!(reply.header("x-stamp"), Some(stamp));
    }
}

#[test]
fn responses_meet_the_filters_backwards() {
    let app = Upstream::start("app");
    let (inner, outer) = (wasm::built("examples/filter-stock"), wasm::built("examples/filter-stamp"));
    let plugin = |name: &str, module: &std::path::Path, priority: u32| {
        wasm_plugin(name, module, &format!("{{stamp: {name}}}")) + &format!("  priority: {priority}\n")
    };
    let gateway = options(&app)
        .file("outer.yaml", plugin("outer", &outer, 20))
        .file("inner.yaml", plugin("inner", &inner, 10))
        .start();
    assert_eq!(
        gateway.get("h", "/").header("x-stamp"),
        Some("outer"),
        "the first of the request is the last of the answer"
    );
}

#[test]
fn check_points_at_a_wrong_key_by_the_schema_inside_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = |config: &str| wasm_plugin("stamp", &wasm::built("examples/filter-stamp"), config);
    for (config, place, words) in [
        ("\n    stmp: x", ":8:5", "unknown field `stmp`"),
        ("\n    stamp: 7", ":8:12", "want string, but got number"),
        ("\n    stamp: ''", ":8:12", "length must be >=1, but got 0"),
        ("{}", ":7:3", "missing properties 'stamp'"),
    ] {
        std::fs::write(folder.path().join("stamp.yaml"), plugin(config)).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["check", "--config", ".", "--cache-dir", env!("CARGO_TARGET_TMPDIR")])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("stamp.yaml{place}")) && text.contains(words), "{config}: {text}");
    }
}

#[test]
fn a_plugin_takes_a_new_configuration_and_keeps_the_old_when_it_is_refused() {
    let app = Upstream::start("app");
    let module = wasm::built("examples/filter-stamp");
    let gateway = options(&app).file("stamp.yaml", wasm_plugin("stamp", &module, "{stamp: one}")).start();
    assert_eq!(gateway.get("h", "/").header("x-stamp"), Some("one"));
    gateway.replace("stamp.yaml", wasm_plugin("stamp", &module, "{stamp: two}"));
    gateway.await_answer("h", "/", |response| response.header("x-stamp") == Some("two"));
    gateway.replace("stamp.yaml", wasm_plugin("stamp", &module, "{stmp: three}"));
    gateway.await_log("stmp");
    assert_eq!(gateway.get("h", "/").header("x-stamp"), Some("two"));
}
