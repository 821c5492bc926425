//! Wasm modules for the tests: filters of this repository built once per run, and small ones written by hand.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The module of a filter of this repository, e.g. `filters/route-match` or `examples/filter-stamp`. Cargo builds it
/// when something changed; two tests that ask at once wait for each other on cargo's lock.
pub(crate) fn built(folder: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = root.join(folder).join("Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--profile", "filter", "--target", "wasm32-wasip1"]);
    cargo.args(["--message-format", "json-render-diagnostics", "--manifest-path"]).arg(&manifest);
    cargo.arg("--target-dir").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("filters")).current_dir(root);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let output = cargo.stderr(Stdio::inherit()).output().expect("cargo");
    assert!(output.status.success(), "{folder} does not build for wasm32-wasip1");
    let module = String::from_utf8_lossy(&output.stdout).lines().find_map(|line| module_of(line, &manifest));
    module.unwrap_or_else(|| panic!("cargo names no module of {folder}"))
}

/// The `.wasm` file that this message of cargo names for a manifest.
fn module_of(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let ours = message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
    let files = message["filenames"].as_array().filter(|_| ours)?;
    files.iter().filter_map(|file| file.as_str()).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}

/// The same module with another digest: a custom section with this text at its end.
pub(crate) fn restamped(module: &[u8], text: &str) -> Vec<u8> {
    let name = b"portolan-test";
    let length = u8::try_from(1 + name.len() + text.len()).expect("a short text");
    assert!(length < 0x80, "one LEB128 byte");
    let mut bytes = module.to_vec();
    bytes.extend_from_slice(&[0, length, u8::try_from(name.len()).expect("a short name")]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// A module with nothing but the ABI marker, and `body` inside it.
pub(crate) fn from_text(body: &str) -> Vec<u8> {
    let text = format!("(module {body} (func (export \"proxy_abi_version_0_2_1\")))");
    wat::parse_str(text).expect("a module in text form")
}

/// A module that writes `x-module: NAME` to each response.
pub(crate) fn naming(name: &str) -> Vec<u8> {
    let text = format!(
        "(module (import \"env\" \"proxy_add_header_map_value\"
           (func $add (param i32 i32 i32 i32 i32) (result i32)))
         (func (export \"proxy_abi_version_0_2_1\"))
         (memory (export \"memory\") 1) (data (i32.const 0) \"x-module\") (data (i32.const 16) \"{name}\")
         (func (export \"malloc\") (param i32) (result i32) i32.const 1024)
         (func (export \"proxy_on_context_create\") (param i32 i32))
         (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1)
         (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 1)
         (func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32)
           (drop (call $add (i32.const 2) (i32.const 0) (i32.const 8) (i32.const 16) (i32.const {})))
           i32.const 0))",
        name.len()
    );
    wat::parse_str(text).expect("a module in text form")
}

/// A module that writes a property in hex to a header of each response; nothing where there is no such property.
pub(crate) fn showing(property: &str, header: &str) -> Vec<u8> {
    let text = format!(
        "(module
           (import \"env\" \"proxy_get_property\" (func $get (param i32 i32 i32 i32) (result i32)))
           (import \"env\" \"proxy_add_header_map_value\" (func $add (param i32 i32 i32 i32 i32) (result i32)))
           (func (export \"proxy_abi_version_0_2_1\"))
           (memory (export \"memory\") 1)
           (data (i32.const 0) \"{property}\") (data (i32.const 128) \"{header}\") (data (i32.const 256) \"0123456789abcdef\")
           (func (export \"malloc\") (param i32) (result i32) i32.const 1024)
           (func (export \"proxy_on_context_create\") (param i32 i32))
           (func (export \"proxy_on_vm_start\") (param i32 i32) (result i32) i32.const 1)
           (func (export \"proxy_on_configure\") (param i32 i32) (result i32) i32.const 1)
           (func $digit (param i32 i32) (i32.store8 (local.get 0) (i32.load8_u offset=256 (local.get 1))))
           (func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32)
             (local $at i32) (local $byte i32)
             (if (call $get (i32.const 0) (i32.const {}) (i32.const 512) (i32.const 516)) (then (return (i32.const 0))))
             (block $done (loop $next
               (br_if $done (i32.eq (local.get $at) (i32.load (i32.const 516))))
               (local.set $byte (i32.load8_u (i32.add (i32.load (i32.const 512)) (local.get $at))))
               (call $digit (i32.add (i32.const 2048) (i32.shl (local.get $at) (i32.const 1)))
                            (i32.shr_u (local.get $byte) (i32.const 4)))
               (call $digit (i32.add (i32.const 2049) (i32.shl (local.get $at) (i32.const 1)))
                            (i32.and (local.get $byte) (i32.const 15)))
               (local.set $at (i32.add (local.get $at) (i32.const 1)))
               (br $next)))
             (drop (call $add (i32.const 2) (i32.const 128) (i32.const {}) (i32.const 2048)
                              (i32.shl (i32.load (i32.const 516)) (i32.const 1))))
             i32.const 0))",
        property.len(),
        header.len()
    );
    wat::parse_str(text).expect("a module in text form")
}
