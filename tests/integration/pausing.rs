//! Filters that hold a stream: resumed from a tick, timed out, ended with their VM; bodies held by several filters.

use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// What the guests below import and have in common.
const PRELUDE: &str = r#"
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $held (mut i32) (i32.const 0))
  (data (i32.const 0) "x-held")
  (data (i32.const 16) "yes")
  (data (i32.const 32) "A")
  (func (export "malloc") (param i32) (result i32) i32.const 1024)
  (func $no_reply (param i32) (result i32)
    (call $reply (local.get 0) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const -1)))
"#;

/// Holds each request's head. `on_tick` runs every 20 ms.
fn holding(on_tick: &str) -> String {
    format!(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick_period (i32.const 20))) (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (global.set $held (local.get 0)) (i32.const 1))
           (func (export "proxy_on_tick") (param i32)
             (if (global.get $held) (then {on_tick} (global.set $held (i32.const 0)))))"#
    )
}

/// Holds a body until its end and adds a letter to it then.
fn adding(export: &str, kind: u32, letter: char) -> String {
    format!(
        r#"(data (i32.const 40) "{letter}")
           (func (export "{export}") (param i32 i32 i32) (result i32)
             (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
             (drop (call $set_buffer (i32.const {kind}) (local.get 1) (i32.const 0) (i32.const 40) (i32.const 1)))
             (i32.const 0))"#
    )
}

fn module(abi: &str, body: &str) -> Vec<u8> {
    let text = format!("(module {PRELUDE} (func (export \"proxy_abi_version_{abi}\")) {body})");
    wat::parse_str(text).expect("a module in text form")
}

/// A gateway with these modules as plugins, in this order, and one route.
fn gateway(app: &Upstream, rule: &str, extra: &str, modules: &[Vec<u8>]) -> Gateway {
    let mut options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(&format!("- route: [{{destination: {{host: app.test}}}}]\n{rule}")))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]));
    let folder = tempfile::tempdir().expect("a folder").keep();
    for (number, module) in modules.iter().enumerate() {
        let path = folder.join(format!("{number}.wasm"));
        std::fs::write(&path, module).expect("the module's file");
        let priority = 100 - number;
        let plugin = wasm_plugin(&format!("p{number}"), &path, "{}") + &format!("  priority: {priority}\n{extra}");
        options = options.file(&format!("plugin{number}.yaml"), plugin);
    }
    options.start()
}

#[test]
fn a_held_request_goes_on_changed_when_a_tick_resumes_it() {
    let app = Upstream::start("app");
    let on_tick = "(drop (call $effective (global.get $held))) \
         (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 3))) \
         (drop (call $continue (i32.const 0)))";
    let gateway = gateway(&app, "", "", &[module("0_2_1", &holding(on_tick))]);
    for _ in 0..3 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.seen("x-held").as_deref()), (200, Some("yes")));
    }
}

#[test]
fn a_held_request_gets_the_answer_that_a_tick_gives() {
    let app = Upstream::start("app");
    let on_tick = "(drop (call $effective (global.get $held))) (drop (call $no_reply (i32.const 403)))";
    let gateway = gateway(&app, "", "", &[module("0_2_1", &holding(on_tick))]);
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (403, "yes"));
    assert_eq!(app.requests(), 0);
}

#[test]
fn a_request_under_way_is_ended_by_the_answer_that_a_tick_gives() {
    let app = Upstream::start("app");
    app.always("delay 20000");
    let text = holding("(drop (call $effective (global.get $held))) (drop (call $no_reply (i32.const 403)))");
    // Not held: the request is at the upstream when the tick comes.
    let text = text
        .replace("(global.set $held (local.get 0)) (i32.const 1)", "(global.set $held (local.get 0)) (i32.const 0)");
    let gateway = gateway(&app, "", "", &[module("0_2_1", &text)]);
    let begun = Instant::now();
    assert_eq!(gateway.get("h", "/").status, 403);
    assert!(begun.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_request_that_is_never_resumed_gets_504_within_the_time_of_its_route() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "  timeout: 0.3s\n", "", &[module("0_2_1", &holding(""))]);
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    assert_eq!(app.requests(), 0);
}

#[test]
fn a_filter_that_holds_for_longer_than_it_may_has_failed() {
    let app = Upstream::start("app");
    let body = r#"(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 1))"#;
    for (text, strategy, status) in [
        (holding(""), "FAIL_CLOSE", 504),
        (holding(""), "FAIL_OPEN", 200),
        (body.to_owned(), "FAIL_CLOSE", 504),
        (body.to_owned(), "FAIL_OPEN", 200),
    ] {
        let gateway = gateway(&app, "", &format!("  failStrategy: {strategy}\n"), &[module("0_2_1", &text)]);
        let plugin = std::fs::read_to_string(gateway.config().join("plugin0.yaml")).expect("the plugin's file");
        let annotated =
            plugin.replace("metadata:\n", "metadata:\n  annotations: {portolan.dev/paused-deadline: 300ms}\n");
        gateway.replace("plugin0.yaml", annotated);
        gateway.await_log("reload");
        let response = gateway.send(&Request::new("POST", "h", "/").body("body"));
        assert_eq!(response.status, status, "{strategy}");
    }
}

#[test]
fn requests_that_a_vm_holds_when_it_traps_fail_at_once() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "", "", &[module("0_2_1", &holding("unreachable"))]);
    let begun = Instant::now();
    assert_eq!(gateway.get("h", "/").status, 503);
    assert!(begun.elapsed() < Duration::from_secs(10), "the pause's own limit is longer");
}

#[test]
fn each_filter_that_holds_a_body_sees_it_once() {
    let app = Upstream::start("app");
    let modules = ['A', 'B', 'C'].map(|letter| module("0_2_1", &adding("proxy_on_request_body", 0, letter)));
    let gateway = gateway(&app, "", "", &modules);
    let response = gateway.send(&Request::new("POST", "h", "/").body("body-").order("echo"));
    assert_eq!((response.status, response.text().as_str()), (200, "body-ABC"));
    let modules = ['A', 'B', 'C'].map(|letter| module("0_2_1", &adding("proxy_on_response_body", 1, letter)));
    let gateway = self::gateway(&app, "", "", &modules);
    let response = gateway.send(&Request::new("POST", "h", "/").body("body-").order("echo"));
    assert_eq!((response.status, response.text().as_str()), (200, "body-CBA"));
}

#[test]
fn local_replies_have_their_bodies_filtered() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "", "", &[module("0_2_1", &adding("proxy_on_response_body", 1, 'A'))]);
    gateway.replace("routes.yaml", routes("- directResponse: {status: 418, body: {string: tea}}\n"));
    gateway.await_answer("h", "/", |response| response.status == 418 && response.text() == "teaA");
}

#[test]
fn with_higress_s_rule_the_body_runs_past_a_held_head_and_lets_it_go() {
    let app = Upstream::start("app");
    let text = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.eqz (local.get 2)))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
          (drop (call $add (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 3)))
          (drop (call $set_buffer (i32.const 0) (local.get 1) (i32.const 0) (i32.const 32) (i32.const 1)))
          (i32.const 0))"#;
    let behind = module("0_2_1", &adding("proxy_on_request_body", 0, 'B'));
    let gateway = gateway(&app, "", "", &[module("0_2_100", text), behind]);
    let request = Request::new("POST", "h", "/").body("body-");
    assert_eq!(gateway.send(&request.order("echo")).text(), "body-AB");
    let response = gateway.send(&Request::new("POST", "h", "/").body("body-"));
    assert_eq!((response.status, response.seen("x-held").as_deref()), (200, Some("yes")));
}

#[test]
fn a_stream_that_a_filter_closes_ends_without_an_answer() {
    let app = Upstream::start("app");
    let text = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $close (i32.const 0))) (i32.const 0))"#;
    let gateway = gateway(&app, "", "", &[module("0_2_1", text)]);
    let mut connection = gateway.connect();
    assert!(connection.request(&Request::get("h", "/")).is_err());
    assert_eq!(app.requests(), 0);
    assert_eq!(gateway.admin("/ready").status, 200);
}
