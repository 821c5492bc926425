//! Projects of filters, built by the real `portolan filter build`, where their toolchain is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

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
    if !has_toolchain(language) {
        return None;
    }
    let locks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects");
    fs::create_dir_all(&locks).expect("the folder of locks");
    let lock = File::create(locks.join(name.replace('/', "-"))).expect("a lock file");
    lock.lock().expect("the lock");
    Some(build(&folder(""), name))
}

/// The module of the template of a language, of a project that `filter new` has made in a folder of its own.
pub(crate) fn of_template(language: &str) -> Option<(TempDir, PathBuf)> {
    if !has_toolchain(language) {
        return None;
    }
    let parent = tempfile::tempdir().expect("a folder for the project");
    portolan(parent.path(), &["filter", "new", "template", "--lang", language]);
    let module = build(parent.path(), "template");
    Some((parent, module))
}

fn has_toolchain(language: &str) -> bool {
    let (_, tools) = TOOLS.iter().find(|(known, _)| *known == language).expect("a known language");
    let missing = tools.iter().find(|tool| !is_on_path(tool));
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "CI must install `{tool}`");
        println!("skipped: `{tool}` is not installed");
    }
    missing.is_none()
}

/// Builds a project that lies in a folder.
fn build(parent: &Path, name: &str) -> PathBuf {
    let said = portolan(parent, &["filter", "build", name]);
    // `built 0.7 s  PATH 212 kB  imports ok ..`, the path from where it was run when it is below.
    let module = said.split_whitespace().find(|word| word.ends_with(".wasm")).expect("the module's path");
    parent.join(module)
}

/// Standard output of a run that succeeds.
fn portolan(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    if folder != self::folder("") {
        // The crates of templates in Rust are built once for all tests.
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates"));
    }
    let output = command.args(arguments).current_dir(folder).output().expect("portolan");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "portolan {}: {said}{errors}", arguments.join(" "));
    said.into_owned()
}

/// True when a program of this name is installed.
pub(crate) fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).exists())
}
