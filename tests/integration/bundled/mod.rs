//! Filters of the library, put into the chain by `url: bundled://NAME`; one file for each, and here what holds for all.

mod basic_auth;
mod body_limit;
mod compress;
mod cors;
mod ext_authz;
mod fault;
mod header_edit;
mod ip_allow;
mod jwt_auth;
mod maintenance;
mod rate_limit;
mod sticky_canary;

use std::fmt::Write;

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// Every request goes to this upstream, past these plugins.
pub(crate) fn options(app: &Upstream, plugins: &str) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("plugin.yaml", plugins)
}

/// Starts it, and waits until no filter is still being compiled: until then its requests are refused.
pub(crate) fn start(app: &Upstream, plugins: &str) -> Gateway {
    let gateway = options(app, plugins).start();
    await_running(&gateway);
    gateway
}

/// Waits until every filter that the gateway knows runs, and fails with the log when one is refused.
pub(crate) fn await_running(gateway: &Gateway) {
    gateway.await_filters();
}

/// A WasmPlugin with a filter of the library; `config` is YAML of one block, not indented.
pub(crate) fn plugin(filter: &str, config: &str) -> String {
    let mut text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {filter}\nspec:\n  url: \
         bundled://{filter}\n  pluginConfig:\n"
    );
    for line in config.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

#[test]
fn a_filter_of_the_library_is_a_filter_like_any_other() {
    let app = Upstream::start("app");
    let text = plugin("ip-allow", "deny: [127.0.0.1]") + "  phase: AUTHZ\n  priority: 7\n";
    let gateway = start(&app, &text);
    assert_eq!(gateway.get("h", "/").status, 403);
    let filters = gateway.admin("/filters?format=json").text();
    for part in ["default.ip-allow", "AUTHZ", "FAIL_CLOSE", "plugin.yaml:2"] {
        assert!(filters.contains(part), "{part} in {filters}");
    }
    gateway.replace("plugin.yaml", plugin("ip-allow", "deny: [127.0.0.2]"));
    gateway.await_answer("h", "/", |response| response.status == 200);
    gateway.replace("plugin.yaml", plugin("ip-allow", "deny: [127.0.0.1/8]"));
    gateway.await_log("has bits beyond its prefix");
    assert_eq!(gateway.get("h", "/").status, 200, "the last good configuration serves on");
}

#[test]
fn a_lock_is_no_concern_of_the_library() {
    let app = Upstream::start("app");
    let lock = r#"{"version": 1, "filters": {}}"#;
    let gateway = options(&app, &plugin("ip-allow", "deny: [127.0.0.1]")).file("portolan.lock", lock).start();
    await_running(&gateway);
    assert_eq!(gateway.get("h", "/").status, 403);
}

#[test]
fn a_file_can_take_the_place_of_a_filter_of_the_library() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("other.wasm");
    std::fs::write(&module, crate::support::wasm::naming("other")).unwrap();
    let option = format!("ip-allow={}", module.display());
    let gateway = options(&app, &plugin("ip-allow", "deny: [127.0.0.1]")).argument("--filter").argument(option).start();
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.header("x-module")), (200, Some("other")));
}
