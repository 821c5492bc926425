//! Projects of filters, built by the real `portolan filter build`, where their toolchain is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each language's toolchain is called by.
const TOOLS: &[(&str, &[&str])] =
    &[("rust", &["cargo"]), ("go", &["go"]), ("assemblyscript", &["node", "npm"]), ("c", &["clang", "wasm-ld"])];

/// The folder of a project of this repository.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The module of a project of this repository, e.g. `examples/filter-go`. None where its toolchain is not installed,
/// which CI must not be without. Tests that ask for the same one at once wait for each other.
pub(crate) fn built(name: &str) -> Option<PathBuf> {
    let manifest = fs::read_to_string(folder(name).join("filter.yaml")).expect("filter.yaml");
    let language = manifest.lines().find_map(|line| line.strip_prefix("language: ")).expect("`language`");
    let (_, tools) = TOOLS.iter().find(|(known, _)| *known == language).expect("a known language");
    if let Some(tool) = tools.iter().find(|tool| !is_on_path(tool)) {
        assert!(std::env::var_os("CI").is_none(), "CI must install `{tool}`");
        println!("skipped: `{tool}` is not installed");
        return None;
    }
    let locks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects");
    fs::create_dir_all(&locks).expect("the folder of locks");
    let lock = File::create(locks.join(name.replace('/', "-"))).expect("a lock file");
    lock.lock().expect("the lock");
    let mut build = Command::new(env!("CARGO_BIN_EXE_portolan"));
    let output = build.args(["filter", "build"]).arg(folder(name)).output().expect("portolan");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} does not build: {said}{errors}");
    // `built 0.7 s  PATH 212 kB  imports ok ..`, the path from where the test runs when it is below.
    let module = said.split_whitespace().find(|word| word.ends_with(".wasm")).expect("the module's path");
    Some(folder("").join(module))
}

/// True when a program of this name is installed.
pub(crate) fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}
