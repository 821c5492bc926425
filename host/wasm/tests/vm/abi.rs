//! What the versions of the ABI differ in, and what a guest may call before it has started.

use portolan_wasm::{AbiVersion, FilterAction, StartError, VmSettings};

use crate::support::{compile, guest, notes, run, start, start_with, stream};

/// A guest with the prelude, of another version.
fn guest_of(version: &str, body: &str) -> String {
    guest(body).replace("proxy_abi_version_0_2_1", &format!("proxy_abi_version_{version}"))
}

const READ_ABSENT: &str = r#"
  (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
    (call $note (call $get (i32.const 0) @"absent" (i32.const 16) (i32.const 20)))
    (call $note (call $u32 (i32.const 20)))
    (i32.const 0))"#;

#[test]
fn higress_s_version_is_the_newest_and_has_its_own_rule_for_pauses() {
    let both = guest_of("0_2_100", "(func (export \"proxy_abi_version_0_2_0\"))");
    let module = compile(&both).unwrap();
    assert_eq!(module.abi(), AbiVersion::V0_2_100);
    assert!(module.abi().runs_body_while_headers_wait());
    assert_eq!(module.abi().to_string(), "0.2.100");
    assert!(!compile(&guest("")).unwrap().abi().runs_body_while_headers_wait());
}

#[test]
fn an_absent_header_is_empty_in_0_1_0_and_not_found_later() {
    assert_eq!(notes(&run(&guest_of("0_1_0", READ_ABSENT))), [0, 0]);
    assert_eq!(notes(&run(&guest_of("0_2_0", READ_ABSENT)))[0], 1);
}

#[test]
fn callbacks_of_0_1_0_without_an_end_are_called() {
    let text = guest_of(
        "0_1_0",
        r#"(func (export "proxy_on_request_headers") (param i32 i32) (result i32)
             (call $note (local.get 1))
             (call $note (call $continue_request))
             (call $note (call $continue_response))
             (call $note (call $clear))
             (i32.const 1))"#,
    );
    let imports = r#"(import "env" "proxy_continue_request" (func $continue_request (result i32)))
        (import "env" "proxy_continue_response" (func $continue_response (result i32)))
        (import "env" "proxy_clear_route_cache" (func $clear (result i32)))"#;
    let mut vm = start(&importing(imports, &text));
    let (stream, id) = vm.new_stream(stream());
    let (stream, action) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(action, Ok(FilterAction::Pause));
    assert_eq!(notes(&stream)[1..], [0, 0, 0]);
    assert!(stream.route_cleared);
}

/// The text format wants imports before anything else.
fn importing(imports: &str, text: &str) -> String {
    text.replacen("(module", &format!("(module {imports}"), 1)
}

const GET_CONFIGURATION: &str =
    r#"(import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))"#;

const CONFIGURATIONS: &str = r#"
  (global $vm (mut i32) (i32.const 0))
  (global $plugin (mut i32) (i32.const 0))
  (func $length (result i32)
    (drop (call $configuration (i32.const 16) (i32.const 20)))
    (call $u32 (i32.const 20)))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32)
    (global.set $vm (call $length)) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (global.set $plugin (call $length)) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
    (call $note (global.get $vm)) (call $note (global.get $plugin)) (call $note (call $length)) (i32.const 0))"#;

#[test]
fn the_configuration_of_0_1_0_is_the_one_of_the_callback() {
    let text = importing(GET_CONFIGURATION, &guest_of("0_1_0", CONFIGURATIONS));
    let settings =
        VmSettings { vm_configuration: b"vm".to_vec(), configuration: b"plugin".to_vec(), ..VmSettings::default() };
    let mut vm = start_with(&text, settings).unwrap();
    let (stream, id) = vm.new_stream(stream());
    let (stream, _) = vm.on_request_headers(id.unwrap(), stream, true);
    assert_eq!(notes(&stream), [2, 6, 2]);
}

#[test]
fn later_versions_have_no_get_configuration() {
    let error = compile(&importing(GET_CONFIGURATION, &guest_of("0_2_1", CONFIGURATIONS))).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "the module imports what the host does not offer: env.proxy_get_configuration");
}

#[test]
fn callbacks_that_no_host_calls_must_have_their_type() {
    let good = r#"(func (export "proxy_on_request_metadata") (param i32 i32) (result i32) (i32.const 0))
                  (func (export "proxy_on_response_metadata") (param i32 i32) (result i32) (i32.const 0))
                  (func (export "proxy_validate_configuration") (param i32 i32) (result i32) (i32.const 0))"#;
    drop(start(&guest(good)));
    let bad = compile(&guest("(func (export \"proxy_validate_configuration\"))")).map(drop).unwrap_err();
    assert!(bad.to_string().contains("`proxy_validate_configuration` has the wrong type"), "{bad}");
}

/// Starts a guest whose initialiser runs `body`.
fn initialize(name: &str, body: &str) -> Result<(), StartError> {
    start_with(&guest(&format!("(func (export \"{name}\") {body})")), VmSettings::default()).map(drop)
}

#[test]
fn an_initialiser_may_log_and_use_wasi() {
    let allowed = r#"(drop (call $log (i32.const 2) @"hello"))
        (drop (call $random (i32.const 16) (i32.const 8)))
        (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
        (drop (call $environ (i32.const 16) (i32.const 64)))
        (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 0) (i32.const 24)))"#;
    for name in ["_initialize", "_start"] {
        initialize(name, allowed).unwrap();
    }
}

#[test]
fn an_initialiser_that_calls_the_proxy_is_refused() {
    let forbidden = [
        r#"(drop (call $get (i32.const 0) @"x" (i32.const 16) (i32.const 20)))"#,
        r#"(drop (call $set_property @"x" @"y"))"#,
        r#"(drop (call $define_metric (i32.const 0) @"x" (i32.const 16)))"#,
        "(drop (call $tick_period (i32.const 5)))",
    ];
    for body in forbidden {
        for name in ["_initialize", "_start"] {
            let error = initialize(name, body).unwrap_err().to_string();
            assert!(error.contains("called the proxy, which is possible from"), "{error}");
        }
    }
}

/// A guest which calls `proxy_done` in `on_tick`.
fn retiring(agrees: bool) -> portolan_wasm::PluginVm<crate::support::Host> {
    let text = guest(&format!(
        r#"(func (export "proxy_on_done") (param i32) (result i32) (i32.const {}))
           (func (export "proxy_on_tick") (param i32)
             (drop (call $done)))
           (func (export "proxy_on_delete") (param i32) (unreachable))"#,
        i32::from(agrees)
    ));
    start(&importing(r#"(import "env" "proxy_done" (func $done (result i32)))"#, &text))
}

#[test]
fn a_root_context_that_is_not_done_goes_when_it_says_so() {
    let mut vm = retiring(false);
    vm.on_tick().unwrap();
    assert_eq!(vm.retire(), Ok(false), "`proxy_done` before its time changes nothing");
    assert_eq!(vm.retire(), Ok(false));
    vm.on_tick().unwrap();
    assert!(vm.retire().is_err(), "`on_delete` has run");
}

#[test]
fn a_root_context_that_agrees_is_deleted_at_once() {
    assert!(retiring(true).retire().is_err(), "`on_delete` has run");
    let mut silent = start(&guest(""));
    assert_eq!(silent.retire(), Ok(true));
    assert_eq!(silent.retire(), Ok(true));
}
