//! Projects as folders, without any toolchain.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use std::fs;

use super::*;

/// A folder with these files; its own name is no good one.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn refusal(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let error = Project::open(folder.path()).unwrap_err();
    assert!(error.downcast_ref::<crate::UsageError>().is_some(), "{error}");
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn everything_that_the_file_says_is_taken() {
    let text =
        "name: stamp\nlanguage: go\nconfig: {a: [1, x]}\nphase: AUTHN\nfailStrategy: FAIL_OPEN\npluginName: root\n";
    let folder = folder(&[(FILE, text)]);
    let project = Project::open(folder.path()).unwrap();
    assert_eq!((project.name(), project.language()), ("stamp", Language::Go));
    assert_eq!(project.config_json(), r#"{"a":[1,"x"]}"#);
    assert_eq!((project.phase(), project.fail_strategy()), (Some(Phase::Authn), Some(FailStrategy::Open)));
    assert_eq!(project.plugin_name(), Some("root"));
    assert!(project.folder().is_absolute() && project.file().exists());
}

#[test]
fn mistakes_of_the_file_are_told_with_their_place() {
    assert_eq!(
        refusal(&[(FILE, "name: a\nlanguge: go\n")]),
        "filter.yaml:2:1: unknown field `languge` in filter.yaml\nhelp: did you mean `language`?"
    );
    assert!(
        refusal(&[(FILE, "name: a\nlanguage: golang\n")]).starts_with("filter.yaml:2:11: `language`: unknown variant")
    );
    assert_eq!(refusal(&[(FILE, "language: go\nbuild: []\n")]), "filter.yaml:2:8: `build` names no program");
    assert_eq!(
        refusal(&[(FILE, "name: a\n")]),
        "filter.yaml:1:1: `language` is missing, and no file of the folder tells it"
    );
    assert!(refusal(&[(FILE, "language: c\n---\nname: b\n")]).ends_with("a project has one document"));
    assert!(refusal(&[]).contains("holds no filter: neither filter.yaml nor Cargo.toml"));
}

#[test]
fn a_folder_without_the_file_is_known_by_its_toolchain() {
    for (file, language) in [
        ("Cargo.toml", Language::Rust),
        ("go.mod", Language::Go),
        ("package.json", Language::AssemblyScript),
        ("src/filter.c", Language::C),
    ] {
        let folder = folder(&[(file, "")]);
        let project = Project::open(folder.path()).unwrap();
        assert_eq!(project.language(), language, "{file}");
        assert_eq!(Some(project.name()), folder.path().file_name().unwrap().to_str());
        assert_eq!(project.config_json(), "");
    }
}

#[test]
fn sources_are_what_the_compiler_reads() {
    let files = ["Cargo.toml", "src/lib.rs", "src/page.html", "target/x.rs", "README.md", "tests/a.test.yaml"];
    let rust = folder(&files.map(|file| (file, "")));
    let project = Project::open(rust.path()).unwrap();
    let counted: Vec<_> = files.into_iter().filter(|file| project.is_source(&project.folder().join(file))).collect();
    assert_eq!(counted, ["Cargo.toml", "src/lib.rs", "src/page.html"]);
    assert_eq!(project.sources(), ["src", "Cargo.toml"].map(|path| project.folder().join(path)));

    let go = folder(&[("go.mod", ""), ("main.go", ""), ("abi/abi.go", ""), ("README.md", ""), ("build/x.go", "")]);
    let project = Project::open(go.path()).unwrap();
    let is_source = |file: &str| project.is_source(&project.folder().join(file));
    assert!(is_source("main.go") && is_source("abi/abi.go"));
    assert!(!is_source("README.md") && !is_source("build/x.go"));

    let own =
        folder(&[(FILE, "language: go\nsources: [., build/made.txt]\n"), ("page.html", ""), ("build/made.txt", "")]);
    let project = Project::open(own.path()).unwrap();
    let is_source = |file: &str| project.is_source(&project.folder().join(file));
    assert!(is_source("page.html") && is_source("build/made.txt"));
    assert!(!is_source("build/other.txt") && !is_source(".git/index"));
}

#[test]
fn a_build_command_of_ones_own_is_run_with_the_profile() {
    let text = "language: c\nname: x\nbuild: [sh, -c, 'printf {profile} > {profile}.wasm']\nmodule: '{profile}.wasm'\n";
    let folder = folder(&[(FILE, text)]);
    let project = Project::open(folder.path()).unwrap();
    let built = project.build(Profile::Release, Output::Captured).unwrap();
    assert_eq!((built.bytes, built.module), (7, project.folder().join("release.wasm")));
    assert_eq!(project.build(Profile::Dev, Output::Captured).unwrap().bytes, 3);
}

#[test]
fn a_failed_build_keeps_what_the_compiler_said() {
    let text = "language: c\nname: x\nbuild: [sh, -c, 'echo out; echo err >&2; exit 3']\n";
    let folder = folder(&[(FILE, text)]);
    let error = Project::open(folder.path()).unwrap().build(Profile::Dev, Output::Captured).unwrap_err();
    assert_eq!(error.output(), "out\nerr\n");
    assert_eq!(error.to_string(), "`sh` failed: the build of `x` ends here");
}

#[test]
fn a_missing_program_and_a_missing_module_are_told() {
    let build = |text: &str| {
        let folder = folder(&[(FILE, text)]);
        let error = Project::open(folder.path()).unwrap().build(Profile::Dev, Output::Captured).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        build("language: c\nbuild: [no-such-compiler]\n"),
        "`no-such-compiler` is not installed\nhelp: `build` of filter.yaml names it"
    );
    assert!(build("language: c\nname: x\nbuild: ['true']\n").starts_with("the build made no module: "));
}
