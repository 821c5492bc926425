//! Filters of users in the chain: one on our SDK, one on the stock SDK, and what a broken one costs.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::Options;
use crate::support::upstream::Upstream;
use crate::support::{await_true, wasm};

fn options(app: &Upstream) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
}

/// A module that traps at each request when `when` holds in text form: an i32 on the stack, 0 for no.
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
fn a_plugin_whose_file_is_missing_fails_closed_until_it_appears() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("late.wasm");
    let gateway = options(&app).start();
    assert_eq!(gateway.get("h", "/").status, 200);
    gateway.write("plugin.yaml", &wasm_plugin("late", &module, "{}"));
    gateway.await_log("late.wasm");
    let bytes = std::fs::read(wasm::built("examples/filter-stamp")).unwrap();
    std::fs::write(&module, bytes).unwrap();
    gateway.await_log("late.wasm");
    await_true("requests to pass again", || gateway.get("h", "/").status == 200);
}

#[test]
fn filters_of_users_run_in_the_chain_whatever_their_sdk() {
    let app = Upstream::start("app");
    let (stamp, stock) = (wasm::built("examples/filter-stamp"), wasm::built("examples/filter-stock"));
    let gateway = options(&app)
        .file("stamp.yaml", wasm_plugin("stamp", &stamp, "{}"))
        .file("stock.yaml", wasm_plugin("stock", &stock, "{}"))
        .start();
    let mut connection = gateway.connect();
    for _ in 0..50 {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.headers.iter().any(|(name, _)| name == "x-stamp"), "{:?}", response.headers);
        assert!(response.headers.iter().any(|(name, _)| name == "x-stock"), "{:?}", response.headers);
    }
}
