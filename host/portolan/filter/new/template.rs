//! The templates: what each writes, with the filter's name filled in.

use super::super::project::Language;
use super::name::Name;

/// Made by the build script: `RUST`, `GO`, `ASSEMBLYSCRIPT`, `C` and `SDK`, each a list of paths and texts.
mod packed {
    include!(concat!(env!("OUT_DIR"), "/templates.rs"));
}

/// Where a project in Rust has the SDK.
const VENDOR: &str = "vendor/portolan-sdk";

/// What to do with a project, whatever its language.
pub(super) const NEXT: &[(&str, &str)] = &[
    ("cd {folder}", ""),
    ("portolan filter dev", "builds, serves on http://127.0.0.1:8080, and again after each edit"),
    ("portolan filter test", "the cases in tests, in the gateway's own host"),
    ("portolan filter build", "the module for traffic, small and fast"),
];

/// All files of a new project: paths with `/` between, and texts.
pub(super) fn files(language: Language, name: &Name) -> Vec<(String, String)> {
    let (template, vendored) = match language {
        Language::Rust => (packed::RUST, packed::SDK),
        Language::Go => (packed::GO, &[][..]),
        Language::AssemblyScript => (packed::ASSEMBLYSCRIPT, &[][..]),
        Language::C => (packed::C, &[][..]),
    };
    let own = template.iter().map(|(path, text)| (named(path, name), filled_in(path, text, name)));
    let vendored = vendored.iter().map(|(path, text)| (format!("{VENDOR}/{path}"), (*text).to_owned()));
    own.chain(vendored).collect()
}

/// The files that an author opens, and what each is.
pub(super) fn about(language: Language) -> &'static [(&'static str, &'static str)] {
    match language {
        Language::Rust => &[
            ("src/lib.rs", "the filter, its configuration and its unit tests"),
            ("tests/filter.test.yaml", "what it does to requests, in the gateway's own host"),
            ("filter.yaml", "name, language, configuration for the tests"),
            ("vendor/portolan-sdk", "the SDK"),
            ("README.md", "what to do with it"),
        ],
        Language::Go => &[
            ("main.go", "the filter and its configuration"),
            ("proxywasm", "the ABI, for Go's own compiler"),
            ("tests/filter.test.yaml", "what it does to requests, in the gateway's own host"),
            ("filter.yaml", "name, language, configuration for the tests"),
            ("README.md", "what to do with it"),
        ],
        Language::AssemblyScript => &[
            ("assembly/index.ts", "the filter and its configuration"),
            ("assembly/proxywasm.ts", "the ABI"),
            ("tests/filter.test.yaml", "what it does to requests, in the gateway's own host"),
            ("filter.yaml", "name, language, configuration for the tests"),
            ("README.md", "what to do with it"),
        ],
        Language::C => &[
            ("src/filter.c", "the filter and its configuration"),
            ("src/proxywasm.h", "the ABI"),
            ("tests/filter.test.yaml", "what it does to requests, in the gateway's own host"),
            ("filter.yaml", "name, language, configuration for the tests"),
            ("README.md", "what to do with it"),
        ],
    }
}

fn named(path: &str, name: &Name) -> String {
    path.replace("my-filter", name.as_written())
}

/// The templates build as they stand, under the name `my-filter`.
fn filled_in(path: &str, text: &str, name: &Name) -> String {
    let text = text
        .replace("my-filter", name.as_written())
        .replace("my_filter", &name.snake())
        .replace("MyFilter", &name.camel());
    if path == "Cargo.lock" { sorted(&text) } else { text }
}

/// Cargo wants the packages of its lock in order of name, and writes the file anew where they are not.
fn sorted(lock: &str) -> String {
    let mut parts = lock.split("\n[[package]]\n");
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<&str> = parts.map(str::trim_end).collect();
    packages.sort_by_key(|package| package.lines().next().unwrap_or_default().trim_end_matches('"'));
    let packages: String = packages.iter().map(|package| format!("\n[[package]]\n{package}\n")).collect();
    format!("{head}{packages}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

    use super::*;

    const LANGUAGES: [Language; 4] = [Language::Rust, Language::Go, Language::AssemblyScript, Language::C];

    #[test]
    fn no_placeholder_is_left() {
        let name = Name::parse("rate-limit").unwrap();
        for (path, text) in LANGUAGES.into_iter().flat_map(|language| files(language, &name)) {
            for placeholder in ["my-filter", "my_filter", "MyFilter"] {
                assert!(!path.contains(placeholder) && !text.contains(placeholder), "{path}: {placeholder}");
            }
        }
    }

    #[test]
    fn what_is_told_of_is_written() {
        for language in LANGUAGES {
            let files = files(language, &Name::parse("stamp").unwrap());
            for (path, _) in about(language) {
                let is_it = |file: &str| file == *path || file.starts_with(&format!("{path}/"));
                assert!(files.iter().any(|(file, _)| is_it(file)), "{language:?}: {path}");
            }
        }
    }

    #[test]
    fn the_lock_is_in_order_whatever_the_name() {
        for name in ["a", "serde-x", "zzz"] {
            let files = files(Language::Rust, &Name::parse(name).unwrap());
            let (_, lock) = files.iter().find(|(path, _)| path == "Cargo.lock").unwrap();
            let names: Vec<_> = lock.lines().filter_map(|line| line.strip_prefix("name = ")).collect();
            assert!(names.is_sorted() && names.len() > 5, "{names:?}");
            assert!(lock.ends_with("\n") && !lock.ends_with("\n\n"));
        }
    }

    #[test]
    fn the_vendored_sdk_takes_nothing_from_a_workspace() {
        let manifests = packed::SDK.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
        for (path, text) in manifests {
            assert!(text.contains("edition = \"2024\"") && !text.contains("workspace ="), "{path}: {text}");
            assert!(!text.contains("\n[dev-dependencies"), "{path}");
        }
    }
}
