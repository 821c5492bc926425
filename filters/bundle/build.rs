//! Compiles the sibling folders to WebAssembly, so that a plain `cargo build` of the gateway needs no other step.
//!
//! The inner cargo works in `<target>/filters` with a profile of its own: in the outer cargo's folder the two would
//! wait for each other's lock for ever, and in `OUT_DIR` each of build, clippy and release would compile all again.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[expect(dead_code, unreachable_pub, reason = "another crate has it as its own, and here only the names count")]
#[path = "../../host/model/src/library.rs"]
mod library;

const TARGET: &str = "wasm32-wasip1";
/// The decision filters, which are in every chain.
const DECISION: [&str; 3] = ["route-match", "traffic-split", "circuit-breaker"];
/// A folder of prebuilt `NAME.wasm` files: nothing is compiled then.
const PREBUILT: &str = "PORTOLAN_FILTERS_DIR";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    list_library(&out_dir)?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={PREBUILT}");
    if let Ok(dir) = env::var(PREBUILT) {
        println!("cargo::rerun-if-changed={dir}");
        return copy_all(&out_dir, |name| Path::new(&dir).join(format!("{name}.wasm")));
    }
    let root = fs::canonicalize(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../.."))?;
    watch_sources(&root);
    require_target()?;
    let target_dir = outer_target_dir(&out_dir)?.join("filters");
    compile(&root, &target_dir)?;
    copy_all(&out_dir, |name| {
        let file = format!("portolan_filter_{}.wasm", name.replace('-', "_"));
        target_dir.join(TARGET).join("filter").join(file)
    })
}

/// Decision filters and library.
fn filters() -> impl Iterator<Item = &'static str> {
    DECISION.into_iter().chain(library::LIBRARY.iter().map(|filter| filter.name))
}

/// The expression that `src/lib.rs` includes: name and bytes of each filter of the library.
fn list_library(out_dir: &Path) -> Result<(), Box<dyn Error>> {
    let entry = |name: &str| format!("({name:?}, include_bytes!(\"{name}.wasm\")),");
    let entries: String = library::LIBRARY.iter().map(|filter| entry(filter.name)).collect();
    Ok(fs::write(out_dir.join("library.rs"), format!("&[{entries}]"))?)
}

fn watch_sources(root: &Path) {
    let folders: Vec<_> = filters().map(|name| format!("filters/{name}")).collect();
    let shared = ["filters/conditions", "sdk", "host/model", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
    for path in folders.iter().map(String::as_str).chain(shared) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
}

/// Looks before building: cargo's own message for a missing target is `can't find crate for std` in some dependency.
fn require_target() -> Result<(), Box<dyn Error>> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    let libdir = String::from_utf8(output.stdout)?;
    if output.status.success() && Path::new(libdir.trim()).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the Rust target {TARGET} is not installed, and the bundled filters are built for it\n\
         help: rustup target add {TARGET}\n\
         help: or point {PREBUILT} at a folder of prebuilt .wasm files"
    )
    .into())
}

/// The nearest parent of `OUT_DIR` that cargo tagged as a cache, but not `<target>/<triple>`, which it tags as well. A
/// target folder that was there before cargo came, such as a mounted cache, has no tag: it is then found by its place,
/// `<target>[/<triple>]/<profile>/build/<package>/out`.
fn outer_target_dir(out_dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let triple = env::var("TARGET")?;
    let outer = |dir: &&Path| dir.file_name().is_none_or(|name| name != triple.as_str());
    out_dir
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file() && outer(dir))
        .or_else(|| out_dir.ancestors().skip(4).find(outer))
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("no target folder found above {}", out_dir.display()).into())
}

fn compile(root: &Path, target_dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo.current_dir(root).args(["build", "--locked", "--profile", "filter", "--target", TARGET, "--target-dir"]);
    cargo.arg(target_dir);
    for name in filters() {
        cargo.args(["--package", &format!("portolan-filter-{name}")]);
    }
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_outer_setting) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the bundled filters do not compile: cargo ended with {status}").into())
    }
}

/// Flags that are meant for the machine's own target, and wrappers of tools such as clippy, break the inner build. The
/// jobserver stays, so that both cargos together keep to the user's `-j`.
fn is_outer_setting(name: &str) -> bool {
    const NAMES: [&str; 5] =
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_PRIMARY_PACKAGE"];
    const FAMILIES: [&str; 5] = ["CARGO_BUILD_", "CARGO_TARGET_", "CARGO_PROFILE_", "CARGO_FEATURE_", "CARGO_CFG_"];
    NAMES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}

fn copy_all(out_dir: &Path, source: impl Fn(&str) -> PathBuf) -> Result<(), Box<dyn Error>> {
    for name in filters() {
        let from = source(name);
        let module = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        let to = out_dir.join(format!("{name}.wasm"));
        if fs::read(&to).ok().as_ref() != Some(&module) {
            fs::write(to, module)?;
        }
    }
    Ok(())
}
