//! Wasm modules for the tests: filters of this repository built once per run, and small ones written by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The module of a filter of this repository, e.g. `filters/route-match` or `examples/filter-stamp`. Cargo builds it
/// when something changed; two tests that ask at once wait for each other on cargo's lock.
pub(crate) fn built(folder: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("filters");
    let manifest = root.join(folder).join("Cargo.toml");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--profile", "filter", "--target", "wasm32-wasip1"]);
    cargo.arg("--manifest-path").arg(&manifest).arg("--target-dir").arg(&target).current_dir(root);
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("cargo");
    assert!(status.success(), "{folder} does not build for wasm32-wasip1");
    let name = Path::new(folder).file_name().expect("a folder's name").to_string_lossy().replace('-', "_");
    let module = |profile: &str| target.join("wasm32-wasip1").join(profile).join(format!("{name}.wasm"));
    let path = module("filter");
    assert!(path.exists(), "{} is missing", path.display());
    path
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
    let text = format!("(module (func (export \"proxy_abi_version_0_2_1\")) {body})");
    wat::parse_str(text).expect("a module in text form")
}
