//! What a broken filter costs: the stream that it broke on, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// Runs `body` for each request's head; `$has` says whether the request has the header whose name is `x-bad`.
fn filter(globals: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) {globals}
          (data (i32.const 16) "x-bad")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) (i32.const 1024))
          (func $has (result i32)
            (i32.eqz (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4))))
          (func $_ZN4auth5check17h0123456789abcdefE {body})
          (func (export "proxy_on_context_create") (param i32 i32))
          (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (call $_ZN4auth5check17h0123456789abcdefE) (i32.const 0)))"#
    );
    wat::parse_str(text).unwrap()
}

/// Traps when the request says so.
fn trapping_on_demand() -> Vec<u8> {
    filter("", "(if (call $has) (then unreachable))")
}

struct Broken {
    gateway: Gateway,
    _app: Upstream,
    _folder: tempfile::TempDir,
}

fn start(module: &[u8], strategy: &str) -> Broken {
    start_with(module, strategy, "")
}

/// With an annotation below `portolan.dev/`.
fn start_with(module: &[u8], strategy: &str, annotation: &str) -> Broken {
    let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let file = folder.path().join("broken.wasm");
    std::fs::write(&file, module).unwrap();
    let mut plugin = wasm_plugin("broken", &file, "{}") + &format!("  failStrategy: {strategy}\n");
    if !annotation.is_empty() {
        plugin = plugin.replace("spec:", &format!("  annotations:\n    portolan.dev/{annotation}\nspec:"));
    }
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("plugin.yaml", plugin)
        .start();
    Broken { gateway, _app: app, _folder: folder }
}

fn bad() -> Request {
    Request::get("h", "/").header("x-bad", "1")
}

/// What `/filters` says of the filter.
fn view(gateway: &Gateway) -> serde_json::Value {
    let answer: serde_json::Value = serde_json::from_slice(&gateway.admin("/filters?format=json").body).unwrap();
    answer["filters"].as_array().unwrap().iter().find(|f| f["name"] == "default.broken").unwrap().clone()
}

#[test]
fn one_trap_in_a_hundred_requests_costs_one_request_in_a_hundred() {
    const EACH: usize = 500;
    let count = "(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (if (i32.eq (global.get $n) (i32.const 100)) (then unreachable))";
    let broken = start(&filter("(global $n (mut i32) (i32.const 0))", count), "FAIL_CLOSE");
    let (good, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = broken.gateway.connect();
                for _ in 0..EACH {
                    match connection.request(&Request::get("h", "/")).unwrap().status {
                        200 => good.fetch_add(1, Ordering::Relaxed),
                        503 => failed.fetch_add(1, Ordering::Relaxed),
                        other => panic!("status {other}"),
                    };
                }
            });
        }
    });
    let (good, failed) = (good.into_inner(), failed.into_inner());
    assert!(good * 1000 >= 985 * (good + failed), "{good} good, {failed} failed");
    assert!(broken.gateway.metric("portolan_filter_traps_total", &["default.broken"]) >= 30.0);
    assert_eq!(broken.gateway.metric("portolan_filter_back_offs_total", &["default.broken"]), 0.0);
}

#[test]
fn each_strategy_gives_the_same_answer_on_every_worker() {
    for (strategy, status) in [("FAIL_CLOSE", 503), ("FAIL_OPEN", 200), ("FAIL_RELOAD", 503)] {
        let broken = start(&trapping_on_demand(), strategy);
        for round in 0..12 {
            // New connections, so that both workers have their share.
            assert_eq!(broken.gateway.send(&bad()).status, status, "{strategy}, {round}");
            for _ in 0..4 {
                assert_eq!(broken.gateway.get("h", "/").status, 200, "{strategy}, {round}");
            }
        }
    }
}

#[test]
fn a_filter_that_only_fails_is_put_aside_everywhere_and_tried_again() {
    let broken = start(&trapping_on_demand(), "FAIL_CLOSE");
    let gateway = &broken.gateway;
    for _ in 0..40 {
        assert_eq!(gateway.send(&bad()).status, 503);
    }
    assert!(gateway.metric("portolan_filter_back_offs_total", &["default.broken"]) >= 1.0);
    let restarts = gateway.metric("portolan_filter_restarts_total", &["default.broken"]);
    assert!(restarts < 30.0, "{restarts} VMs for 40 requests");
    let seen = view(gateway);
    assert_eq!(seen["state"], "backing off", "{seen}");
    assert_eq!(gateway.get("h", "/").status, 503, "good requests wait too: no worker passes for healthy");
    gateway.await_answer("h", "/", |response| response.status == 200);
    await_true("all workers to follow", || (0..8).all(|_| gateway.get("h", "/").status == 200));
    assert_eq!(view(gateway)["state"], "running");
}

#[test]
fn a_failure_is_logged_once_with_demangled_names_and_shown() {
    let broken = start(&trapping_on_demand(), "FAIL_CLOSE");
    let gateway = &broken.gateway;
    for _ in 0..5 {
        assert_eq!(gateway.send(&bad()).status, 503);
        assert_eq!(gateway.get("h", "/").status, 200);
    }
    assert_eq!(gateway.log().matches("the filter failed; its VM is replaced").count(), 1, "{}", gateway.log());
    assert!(gateway.log().contains("auth::check"), "{}", gateway.log());
    let seen = view(gateway);
    let failure = &seen["last_failure"];
    assert!(failure["reason"].as_str().unwrap().contains("unreachable"), "{seen}");
    assert!(failure["backtrace"].to_string().contains("auth::check"), "{seen}");
    assert_eq!(seen["versions"][0]["abi"], "0.2.1");
    assert!(seen["origin"].as_str().unwrap().ends_with("plugin.yaml:2"), "{seen}");
    let text = gateway.admin("/filters").text();
    for part in ["default.broken", "running", "route-match", "last failure", "auth::check"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn the_cost_of_callbacks_is_counted_by_their_names() {
    let broken = start(&trapping_on_demand(), "FAIL_CLOSE");
    let gateway = &broken.gateway;
    for _ in 0..50 {
        assert_eq!(gateway.get("h", "/").status, 200);
    }
    let labels = ["default.broken", "callback=\"on_request_headers\""];
    await_true("all calls to be counted", || gateway.metric("portolan_filter_calls_total", &labels) == 50.0);
    assert!(gateway.metric("portolan_filter_cpu_seconds_count", &labels) > 0.0);
    assert!(gateway.metric("portolan_filter_cpu_seconds_sum", &labels) > 0.0);
    assert_eq!(gateway.metric("portolan_filter_vms", &["default.broken"]), 2.0);
    assert!(gateway.metric("portolan_filter_memory_bytes", &["default.broken"]) >= 131_072.0);
    assert_eq!(gateway.metric("portolan_filter_generations", &["default.broken"]), 1.0);
}

#[test]
fn a_filter_that_has_used_up_its_time_is_unavailable_until_the_next_second() {
    let busy = "(local $i i32) (if (call $has) (then (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $i) (i32.const 15000000))))))";
    let broken = start_with(&filter("", busy), "FAIL_CLOSE", "cpu-per-second: 2ms");
    let gateway = &broken.gateway;
    let until_refused = |request: &Request| await_true("a refusal", || gateway.send(request).status == 503);
    until_refused(&bad());
    assert!(gateway.metric("portolan_filter_budget_exhausted_total", &["default.broken"]) >= 1.0);
    assert_eq!(gateway.metric("portolan_filter_deadlines_total", &["default.broken"]), 0.0);
    gateway.await_answer("h", "/", |response| response.status == 200);
}

#[test]
fn memory_is_refused_at_the_ceiling_that_the_plugin_names() {
    let grow = "(if (call $has) (then (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))";
    let broken = start_with(&filter("", grow), "FAIL_CLOSE", "memory-limit: 1Mi");
    assert_eq!(broken.gateway.send(&bad()).status, 503);
    assert_eq!(broken.gateway.metric("portolan_filter_memory_limit_total", &["default.broken"]), 1.0);
    assert_eq!(broken.gateway.get("h", "/").status, 200);
    let roomy = start_with(&filter("", grow), "FAIL_CLOSE", "memory-limit: 8Mi");
    assert_eq!(roomy.gateway.send(&bad()).status, 200);
    await_true("the memory to be counted", || {
        roomy.gateway.metric("portolan_filter_memory_bytes", &["default.broken"]) > 6_500_000.0
    });
}

#[test]
fn a_loop_costs_its_request_and_is_not_repeated_at_will() {
    let broken = start(&filter("", "(if (call $has) (then (loop br 0)))"), "FAIL_CLOSE");
    let gateway = &broken.gateway;
    assert_eq!(gateway.send(&bad()).status, 503);
    assert_eq!(gateway.get("h", "/").status, 200);
    for _ in 0..20 {
        assert_eq!(gateway.send(&bad()).status, 503);
    }
    let deadlines = gateway.metric("portolan_filter_deadlines_total", &["default.broken"]);
    assert!((2.0..8.0).contains(&deadlines), "{deadlines} loops ran to their deadline");
    gateway.await_answer("h", "/", |response| response.status == 200);
}

/// Stamps answers with `stamp`, and traps in `body` for requests with `x-bad`.
fn stamping(stamp: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 16) "x-bad") (data (i32.const 32) "x-stamp") (data (i32.const 48) "{stamp}")
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "malloc") (param i32) (result i32) (i32.const 1024))
          (func (export "proxy_on_context_create") (param i32 i32))
          (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
            (if (i32.eqz (call $get (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 0) (i32.const 4)))
              (then {body}))
            (i32.const 0))
          (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $add (i32.const 2) (i32.const 32) (i32.const 7) (i32.const 48) (i32.const {length})))
            (i32.const 0)))"#,
        length = stamp.len()
    );
    wat::parse_str(text).unwrap()
}

/// A gateway whose filter has this annotation, with version `old`; `put` replaces the module.
struct Rolling {
    broken: Broken,
    file: std::path::PathBuf,
}

impl Rolling {
    fn start(annotation: &str, strategy: &str) -> Self {
        let broken = start_with(&stamping("old", ""), strategy, annotation);
        let file = broken._folder.path().join("broken.wasm");
        Self { broken, file }
    }

    fn put(&self, module: &[u8]) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, module).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn gateway(&self) -> &Gateway {
        &self.broken.gateway
    }

    fn rollout(&self) -> String {
        view(self.gateway())["rollout"]["state"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_canary_takes_its_share_and_wins_when_the_annotation_goes() {
    let rolling = Rolling::start("canary: 50%", "FAIL_CLOSE");
    rolling.put(&stamping("new", ""));
    await_true("the trial to begin", || rolling.rollout() == "on trial");
    let stamps: Vec<_> =
        (0..60).map(|_| rolling.gateway().get("h", "/").header("x-stamp").unwrap().to_owned()).collect();
    let new = stamps.iter().filter(|stamp| *stamp == "new").count();
    assert!((8..52).contains(&new), "{new} of 60 on the new version");
    assert_eq!(rolling.rollout(), "on trial");
    let plugin = std::fs::read_to_string(rolling.gateway().config().join("plugin.yaml")).unwrap();
    rolling.gateway().replace("plugin.yaml", plugin.replace("    portolan.dev/canary: 50%\n", "    other: x\n"));
    await_true("the end of the trial", || rolling.rollout().is_empty());
    assert!((0..20).all(|_| rolling.gateway().get("h", "/").header("x-stamp") == Some("new")));
}

#[test]
fn a_canary_that_does_worse_is_taken_back_by_itself() {
    for (strategy, status) in [("FAIL_CLOSE", 503), ("FAIL_OPEN", 200)] {
        let rolling = Rolling::start("canary: header x-canary=yes", strategy);
        rolling.put(&stamping("new", "unreachable"));
        await_true("the trial to begin", || rolling.rollout() == "on trial");
        let gateway = rolling.gateway();
        let canary = |bad: bool| {
            let request = Request::get("h", "/").header("x-canary", "yes");
            gateway.send(&if bad { request.header("x-bad", "1") } else { request })
        };
        // Told before the workers have taken it over. Once: each of its streams counts.
        await_true("the trial on a worker", || canary(false).header("x-stamp") == Some("new"));
        assert_eq!(gateway.get("h", "/").header("x-stamp"), Some("old"));
        for _ in 0..4 {
            assert_eq!(canary(true).status, status);
            assert_eq!(canary(false).status, 200);
            assert_eq!(gateway.send(&bad()).status, 200, "the old version knows no bad requests");
        }
        for _ in 0..3 {
            canary(true);
        }
        await_true("the new version to be taken back", || rolling.rollout() == "taken back");
        assert_eq!(canary(true).header("x-stamp"), Some("old"));
        gateway.await_log("is taken back");
        assert_eq!(gateway.metric("portolan_filter_canary_returns_total", &["default.broken"]), 1.0);
    }
}
