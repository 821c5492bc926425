//! The versions of the ABI.

use std::fs;

use crate::support::config::wasm_plugin;
use crate::support::probe::{self, Probe, options};
use crate::support::upstream::Upstream;

/// The probe with another version's marker of the same length.
fn marked(version: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.wasm");
    let mut bytes = fs::read(probe::module()).unwrap();
    let (old, new) = ("proxy_abi_version_0_2_1", format!("proxy_abi_version_{version}"));
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
    fs::write(&file, bytes).unwrap();
    (folder, file)
}

#[test]
fn each_marker_is_taken() {
    for version in ["0_1_0", "0_2_0", "0_2_1"] {
        let (_folder, file) = marked(version);
        let probe = Probe::of(&file, "");
        assert_eq!(
            probe.saw("request_headers { get_header_map_value 0 ':method' && }").of("request_headers"),
            "get_header_map_value=0:GET",
            "{version}"
        );
    }
}

/// A filter of ABI 0.1.0: header callbacks without an end, a missing header that is empty, and the functions that only
/// this version has.
const OLDEST: &str = r#"(module
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
  (import "env" "proxy_continue_request" (func $continue_request (result i32)))
  (import "env" "proxy_continue_response" (func $continue_response (result i32)))
  (import "env" "proxy_clear_route_cache" (func $clear (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 100) "x-none" "x-saw" "x-config")
  (func (export "proxy_abi_version_0_1_0"))
  (func (export "malloc") (param i32) (result i32) i32.const 65536)
  (global $length (mut i32) (i32.const 0))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $configuration (i32.const 0) (i32.const 4)))
    (memory.copy (i32.const 2048) (i32.load (i32.const 0)) (i32.load (i32.const 4)))
    (global.set $length (i32.load (i32.const 4)))
    (i32.const 1))
  ;; Each status as a digit.
  (func $digit (param i32 i32) (i32.store8 (local.get 0) (i32.add (i32.const 48) (local.get 1))))
  (func (export "proxy_on_request_headers") (param i32 i32) (result i32)
    (call $digit (i32.const 200) (call $get (i32.const 0) (i32.const 100) (i32.const 6) (i32.const 8) (i32.const 12)))
    (call $digit (i32.const 201) (i32.load (i32.const 12)))
    (call $digit (i32.const 202) (call $clear))
    (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 106) (i32.const 5) (i32.const 200) (i32.const 3)))
    (drop (call $add (i32.const 2) (i32.const 111) (i32.const 8) (i32.const 2048) (global.get $length)))
    (i32.const 0)))"#;

#[test]
fn abi_0_1_0_has_its_own_rules() {
    let (app, folder) = (Upstream::start("app"), tempfile::tempdir().unwrap());
    let module = folder.path().join("oldest.wasm");
    fs::write(&module, wat::parse_str(OLDEST).unwrap()).unwrap();
    let gateway = options(&app).file("plugin.yaml", wasm_plugin("oldest", &module, "{\"a\": 1}")).start();
    let response = gateway.get("h", "/");
    assert_eq!(response.header("x-saw"), Some("000"), "a missing header is OK and empty");
    assert_eq!(response.header("x-config"), Some("{\"a\":1}"));
}
