//! Modules that come over the network: fetched, kept, checked, and never waited for.

use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::files::{Answer, FileServer};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;
use crate::support::wasm::naming;

pub(crate) fn options(app: &Upstream, cache: &Path) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .argument("--cache-dir")
        .argument(cache.display().to_string())
}

/// A WasmPlugin; `rest` is what stands in its spec besides the url, not indented.
pub(crate) fn plugin(name: &str, url: &str, rest: &str) -> String {
    let lines: String = rest.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}}}\nspec:\n  url: {url}\n{lines}"
    )
}

/// A cache of its own for what is fetched, and everybody's for what is compiled.
pub(crate) fn cache() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules/compiled");
    std::fs::create_dir_all(&shared).unwrap();
    std::os::unix::fs::symlink(shared, folder.path().join("compiled")).unwrap();
    folder
}

pub(crate) fn await_module(gateway: &Gateway, name: &str) {
    gateway.await_answer("h", "/", |response| response.status == 200 && response.header("x-module") == Some(name));
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_gateway_has_its_filters_compiled_by_another_process() {
    let (app, cache) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let files = |folder: &str| std::fs::read_dir(cache.path().join(folder)).unwrap().count();
    let gateway = options(&app, cache.path()).start();
    gateway.await_answer("h", "/", |response| response.status == 200);
    // Each of the three was compiled there, and the code taken from the disk.
    assert_eq!(files("known"), 3);
    assert!(files("compiled/modules") > 0);
}

#[test]
fn a_module_comes_over_https_and_stays_for_a_start_without_network() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start_tls();
    server.set("/a.wasm", Answer::File(naming("one")));
    let ca = cache.path().join("ca.pem");
    std::fs::write(&ca, server.ca()).unwrap();
    let start = || {
        let plugin = plugin("a", &server.url("/a.wasm"), "");
        let options = options(&app, cache.path()).file("a.yaml", plugin).argument("--module-ca");
        options.argument(ca.display().to_string()).start()
    };
    await_module(&start(), "one");
    let asked = server.requests();
    server.set("/a.wasm", Answer::Status(500, vec![]));
    let again = start();
    assert_eq!(again.get("h", "/").header("x-module"), Some("one"), "there before the first request");
    assert_eq!(server.requests(), asked, "nobody is asked for what is there");
}

#[test]
fn a_server_with_an_unknown_authority_is_not_believed() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start_tls();
    server.set("/a.wasm", Answer::File(naming("one")));
    let gateway = options(&app, cache.path()).file("a.yaml", plugin("a", &server.url("/a.wasm"), "")).start();
    gateway.await_log("certificate");
    assert_eq!(gateway.get("h", "/").status, 503);
}

#[test]
fn until_a_module_is_there_its_fail_strategy_counts_and_others_are_served() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/slow.wasm", Answer::Stalled);
    let open = plugin("open", &server.url("/slow.wasm"), "failStrategy: FAIL_OPEN\nmatch: [{mode: CLIENT}]");
    let gateway = options(&app, cache.path()).file("a.yaml", open).start();
    gateway.await_log("P0502");
    assert_eq!(gateway.get("h", "/").status, 200);
    gateway.replace("a.yaml", plugin("closed", &server.url("/slow.wasm"), ""));
    gateway.await_answer("h", "/", |response| response.status == 503);
    assert_eq!(gateway.admin("/ready").status, 200);
}

#[test]
fn fetching_is_tried_again_until_it_works() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/a.wasm", Answer::Status(503, vec![]));
    let gateway = options(&app, cache.path()).start();
    gateway.write("a.yaml", &plugin("a", &server.url("/a.wasm"), ""));
    gateway.await_log("answers 503");
    server.set("/a.wasm", Answer::File(naming("one")));
    await_module(&gateway, "one");
    // What will not change by itself is asked for again on demand only.
    gateway.replace("a.yaml", plugin("a", &server.url("/b.wasm"), ""));
    gateway.await_log("answers 404");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"), "the old one serves on");
    server.set("/b.wasm", Answer::File(naming("two")));
    gateway.signal("HUP");
    await_module(&gateway, "two");
}

#[test]
fn a_module_with_another_digest_is_not_run() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/a.wasm", Answer::File(naming("one")));
    let wrong = format!("sha256: {}", "0".repeat(64));
    let gateway = options(&app, cache.path()).file("a.yaml", plugin("a", &server.url("/a.wasm"), &wrong)).start();
    gateway.await_log("is wanted");
    assert_eq!(gateway.get("h", "/").status, 503);
    let right = format!("sha256: {}", hex(&naming("one")));
    gateway.replace("a.yaml", plugin("a", &server.url("/a.wasm"), &right));
    await_module(&gateway, "one");
}

#[test]
fn with_always_a_new_module_is_taken_at_the_next_reload_and_a_bad_one_is_not() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/a.wasm", Answer::File(naming("one")));
    let always = plugin("a", &server.url("/a.wasm"), "imagePullPolicy: Always");
    let gateway = options(&app, cache.path()).file("a.yaml", always).start();
    await_module(&gateway, "one");
    server.set("/a.wasm", Answer::File(naming("three")));
    gateway.signal("HUP");
    await_module(&gateway, "three");
    server.set("/a.wasm", Answer::File(b"<html>moved</html>".to_vec()));
    gateway.signal("HUP");
    gateway.await_log("no WebAssembly");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("three"));
}

#[test]
fn link_local_addresses_are_not_asked_even_by_redirect() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/a.wasm", Answer::Status(302, vec!["location: http://169.254.169.254/latest".to_owned()]));
    let gateway = options(&app, cache.path()).file("a.yaml", plugin("a", &server.url("/a.wasm"), "")).start();
    gateway.await_log("link-local");
    assert_eq!(gateway.get("h", "/").status, 503);
}

#[test]
fn filters_see_the_hosts_and_paths_that_they_ask_for() {
    let (app, cache) = (Upstream::start("app"), cache());
    let server = FileServer::start();
    server.set("/a.wasm", Answer::File(naming("one")));
    let annotated = plugin("a", &server.url("/a.wasm"), "failStrategy: FAIL_CLOSE").replace(
        "metadata: {name: a}",
        "metadata: {name: a, annotations: {portolan.dev/match: '[{hosts: [shop.test], paths: [{prefix: /api}]}]'}}",
    );
    let gateway = options(&app, cache.path()).file("a.yaml", annotated).start();
    gateway.await_answer("shop.test", "/api/x", |response| response.header("x-module") == Some("one"));
    for (host, path) in [("shop.test", "/"), ("other.test", "/api")] {
        assert_eq!(gateway.get(host, path).header("x-module"), None, "{host}{path}");
    }
}

#[test]
fn what_is_not_locked_is_not_run() {
    let (app, cache) = (Upstream::start("app"), cache());
    let file = cache.path().join("a.wasm");
    std::fs::write(&file, naming("one")).unwrap();
    let url = format!("file://{}", file.display());
    let gateway = options(&app, cache.path()).file("a.yaml", plugin("a", &url, "")).start();
    await_module(&gateway, "one");
    let portolan = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(arguments).arg("--config").arg(gateway.config()).arg("--cache-dir").arg(cache.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = portolan(&["filter", "lock"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("default.a: new") && text.contains(&hex(&naming("one"))), "{text}");
    let lock = std::fs::read_to_string(gateway.config().join("portolan.lock")).unwrap();
    assert!(lock.contains("env.proxy_add_header_map_value"), "{lock}");
    std::fs::write(&file, naming("two")).unwrap();
    gateway.await_log("P0503");
    assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"));
    let (code, text) = portolan(&["check"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("P0503") && text.contains("portolan filter lock"), "{text}");
    assert!(portolan(&["filter", "lock"]).1.contains("default.a: changed"));
    await_module(&gateway, "two");
}
