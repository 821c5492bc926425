//! Bundled filters replaced by a file while requests run; a bad module never takes over.

use std::fs;

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::load::Load;
use crate::support::upstream::Upstream;
use crate::support::{await_true, wasm};

/// A gateway whose `route-match` is the file `route-match.wasm` in a folder of its own.
struct Swapping {
    gateway: Gateway,
    folder: tempfile::TempDir,
    _app: Upstream,
}

impl Swapping {
    fn start(module: &[u8]) -> Self {
        let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
        let file = folder.path().join("route-match.wasm");
        fs::write(&file, module).unwrap();
        let gateway = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
            .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
            .argument("--filter")
            .argument(format!("route-match={}", file.display()))
            .start();
        Self { gateway, folder, _app: app }
    }

    /// Puts a module in place in one step.
    fn put(&self, module: &[u8]) {
        let new = self.folder.path().join("new");
        fs::write(&new, module).unwrap();
        fs::rename(new, self.folder.path().join("route-match.wasm")).unwrap();
    }

    /// True when the module with this digest serves.
    fn serves(&self, module: &[u8]) -> bool {
        self.gateway.admin("/config_dump").text().contains(&digest(module))
    }
}

fn digest(module: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(module).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn route_match() -> Vec<u8> {
    fs::read(wasm::built("filters/route-match")).unwrap()
}

#[test]
fn twenty_swaps_of_a_filter_under_load_fail_no_request() {
    let module = route_match();
    let swapping = Swapping::start(&module);
    let load = Load::start(swapping.gateway.address(), &Request::get("h", "/load"), 4);
    for number in 1..=20 {
        let next = wasm::restamped(&module, &format!("swap {number} {}", std::process::id()));
        swapping.put(&next);
        await_true("the new module to serve", || swapping.serves(&next));
        load.await_more(20);
    }
    let report = load.stop();
    report.assert_no_failures();
    assert_eq!(report.reconnects, 0, "a swap closes no connection");
}

#[test]
fn bad_modules_are_refused_and_named_and_the_old_one_serves_on() {
    let module = route_match();
    let swapping = Swapping::start(&module);
    let load = Load::start(swapping.gateway.address(), &Request::get("h", "/load"), 2);
    let trap = "(memory (export \"memory\") 1) (func (export \"malloc\") (param i32) (result i32) i32.const 1024) \
                (func (export \"_initialize\") unreachable)";
    let refuses = "(memory (export \"memory\") 1) (func (export \"proxy_on_context_create\") (param i32 i32)) \
                   (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1) \
                   (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 0) \
                   (func (export \"malloc\") (param i32) (result i32) i32.const 1024)";
    let import = "(import \"env\" \"proxy_no_such_call\" (func (param i32) (result i32)))";
    let unknown =
        format!("(module {import} (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")))");
    let bad: [(&str, Vec<u8>); 5] = [
        ("not Wasm at all", b"not a module".to_vec()),
        ("cut short", module[..module.len() / 2].to_vec()),
        ("traps in start", wasm::from_text(trap)),
        ("refuses its configuration", wasm::from_text(refuses)),
        ("unknown import", wat::parse_str(unknown).unwrap()),
    ];
    for (what, bytes) in bad {
        let said = swapping.gateway.log().matches("route-match.wasm").count();
        swapping.put(&bytes);
        await_true(&format!("a word on a module that is {what}"), || {
            swapping.gateway.log().matches("route-match.wasm").count() > said
        });
        load.await_more(50);
        assert!(!swapping.serves(&bytes), "{what}");
    }
    assert!(swapping.gateway.log().contains("proxy_no_such_call"), "the unknown import is named");
    let next = wasm::restamped(&module, "good again");
    swapping.put(&next);
    await_true("a good module to take over", || swapping.serves(&next));
    load.stop().assert_no_failures();
}

#[test]
fn a_module_written_in_parts_is_taken_when_it_is_whole() {
    let module = route_match();
    let swapping = Swapping::start(&module);
    let load = Load::start(swapping.gateway.address(), &Request::get("h", "/load"), 2);
    let next = wasm::restamped(&module, "written in place");
    let file = swapping.folder.path().join("route-match.wasm");
    fs::write(&file, &next[..next.len() / 3]).unwrap();
    load.await_more(80);
    fs::write(&file, &next).unwrap();
    await_true("the whole module to serve", || swapping.serves(&next));
    load.stop().assert_no_failures();
}

#[test]
fn each_bundled_filter_can_be_replaced() {
    let app = Upstream::start("app");
    let mut options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]));
    for name in ["route-match", "traffic-split", "circuit-breaker"] {
        let module = wasm::built(&format!("filters/{name}"));
        options = options.argument("--filter").argument(format!("{name}={}", module.display()));
    }
    assert_eq!(options.start().get("h", "/").status, 200);
}

#[test]
fn rules_change_before_and_after_a_swap() {
    let module = route_match();
    let swapping = Swapping::start(&module);
    let load = Load::start(swapping.gateway.address(), &Request::get("h", "/load"), 4);
    for number in 1..=6 {
        if number % 2 == 0 {
            let next = wasm::restamped(&module, &format!("between {number} {}", std::process::id()));
            swapping.put(&next);
            await_true("the new module to serve", || swapping.serves(&next));
        }
        let rule = format!(
            "- match: [{{uri: {{prefix: /{number}}}}}]\n  directResponse: {{status: 200, body: {{string: '{number}'}}}}\n"
        );
        swapping
            .gateway
            .replace("routes.yaml", routes(&format!("{rule}- route: [{{destination: {{host: app.test}}}}]\n")));
        swapping.gateway.await_answer("h", &format!("/{number}"), |response| response.text() == number.to_string());
        load.await_more(20);
    }
    load.stop().assert_no_failures();
}

/// A `route-match` of the time before rules came on demand: it starts with whole configurations only, and takes the last
/// rule for every request.
const OLD_MATCHER: &str = r#"
    (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_set_property" (func $set (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (data (i32.const 0) "portolan.route")
    (func (export "malloc") (param i32) (result i32) i32.const 4096)
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
    (func (export "proxy_on_configure") (param i32 i32) (result i32) (local $at i32)
      (drop (call $buffer (i32.const 7) (i32.const 0) (local.get 1) (i32.const 64) (i32.const 68)))
      ;; `{"schema":2`
      (if (i32.ne (i32.load8_u (i32.const 4106)) (i32.const 50)) (then (return (i32.const 0))))
      (i32.store (i32.const 128) (i32.const -1))
      (local.set $at (i32.const 4096))
      (block $end (loop $next
        (br_if $end (i32.ge_u (local.get $at) (i32.add (i32.const 4096) (local.get 1))))
        ;; `prefix":`, once for each rule
        (if (i64.eq (i64.load (local.get $at)) (i64.const 0x3a22786966657270))
          (then (i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
      i32.const 1)
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (drop (call $set (i32.const 0) (i32.const 14) (i32.const 128) (i32.const 4)))
      i32.const 0)"#;

#[test]
fn a_matcher_that_knows_whole_configurations_only_is_told_all_rules_and_their_changes() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("old.wasm");
    std::fs::write(&module, wasm::from_text(OLD_MATCHER)).unwrap();
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let services = [("one.test", &one), ("two.test", &two)];
    let services = services.map(|(host, app)| service_entry(host, &[("v1", app.address())])).join("---\n");
    let split = "- match: [{uri: {prefix: /c}}]\n  route: [{destination: {host: one.test}, weight: 1}, {destination: \
                 {host: two.test}, weight: 1}]\n";
    let rule = |path: &str, host: &str| {
        format!("- match: [{{uri: {{prefix: {path}}}}}]\n  route: [{{destination: {{host: {host}}}}}]\n")
    };
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(&(rule("/a", "two.test") + &rule("/b", "one.test"))))
        .file("services.yaml", services)
        .argument("--filter")
        .argument(format!("route-match={}", module.display()))
        .start();
    // The filter's decision, whatever the path; the bundled `traffic-split` goes on from it.
    assert_eq!(gateway.get("h", "/a").upstream(), "one");
    gateway
        .replace("routes.yaml", routes(&(rule("/a", "one.test") + &rule("/b", "one.test") + &rule("/c", "two.test"))));
    gateway.await_answer("h", "/a", |response| response.upstream() == "two");
    gateway.replace("routes.yaml", routes(&(rule("/a", "two.test") + split)));
    gateway.await_answer("h", "/a", |response| response.upstream() == "one");
    gateway.await_answer("h", "/a", |response| response.upstream() == "two");
}
