//! House rules that no compiler checks: how files open and how long they are, what must not be in them, who may
//! depend on whom, and that the documents tell the truth about commands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest file without its tests.
const MAX_LINES: usize = 500;

/// Which packages of this workspace may use which: the design's table.
const OUR_DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "portolan",
        &[
            "portolan-admin",
            "portolan-allocator",
            "portolan-config",
            "portolan-filters",
            "portolan-model",
            "portolan-proxy",
            "portolan-telemetry",
            "portolan-wasm",
        ],
    ),
    ("portolan-allocator", &[]),
    ("portolan-admin", &["portolan-model", "portolan-proxy", "portolan-telemetry"]),
    ("portolan-proxy", &["portolan-model", "portolan-telemetry", "portolan-wasm"]),
    ("portolan-config", &["portolan-model"]),
    ("portolan-wasm", &[]),
    ("portolan-telemetry", &[]),
    ("portolan-model", &[]),
    ("portolan-sdk", &["portolan-sdk-derive"]),
    ("portolan-sdk-derive", &[]),
    ("portolan-filters", &[]),
    ("portolan-filter-conditions", &["portolan-sdk"]),
];

/// Heavy dependencies and their one home (the root package's tests may use them as well).
const HOMES: &[(&str, &[&str])] = &[
    ("wasmtime", &["portolan-wasm"]),
    ("wasmparser", &["portolan-wasm"]),
    ("hyper", &["portolan-proxy", "portolan-admin", "portolan"]),
    ("hyper-util", &["portolan-proxy", "portolan-admin", "portolan"]),
    ("axum", &["portolan-admin"]),
    ("serde_yaml", &["portolan-config"]),
    ("granit-parser", &["portolan-config"]),
    ("notify", &["portolan-config"]),
    ("hickory-resolver", &["portolan-proxy"]),
    ("h2", &["portolan-proxy"]),
    ("h3", &["portolan-proxy"]),
    ("h3-quinn", &[]),
    ("quinn", &["portolan-proxy"]),
    ("tokio-rustls", &["portolan-proxy"]),
    ("x509-parser", &["portolan-proxy"]),
    ("prometheus", &["portolan-telemetry"]),
    ("clap", &["portolan"]),
    ("reqwest", &["portolan"]),
    ("tar", &["portolan"]),
    ("instant-acme", &["portolan"]),
    ("anyhow", &["portolan"]),
    ("mimalloc", &["portolan-allocator"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository, with its path from the root; what cargo built and what tools keep is left out.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap().flatten() {
            let path = folder.join(entry.file_name());
            let built = root().join(&path).join("CACHEDIR.TAG").exists();
            match entry.file_type().unwrap() {
                kind if kind.is_dir() && !built && !is_kept_by_a_tool(&path) => folders.push(path),
                // A worktree has a file where a clone has a folder of git's.
                kind if kind.is_file() && entry.file_name() != ".git" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// `target` in whatever state, what npm fetched, and folders like `.git`; `.ci` is ours.
fn is_kept_by_a_tool(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name == "target" || name == "node_modules" || (name.starts_with('.') && name != ".ci")
}

fn rust_files() -> impl Iterator<Item = (PathBuf, String)> {
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files().into_iter().filter(is_rust).map(|path| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path, text)
    })
}

/// True for files that hold only tests.
fn is_test(path: &Path) -> bool {
    let named = |name: &str| path.components().any(|part| part.as_os_str() == name);
    named("tests") || named("testing") || path.file_name().is_some_and(|name| name == "tests.rs")
}

/// The lines before the inline test module.
fn without_tests(text: &str) -> &str {
    let end = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        text[*at..].lines().take(4).any(|line| line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{'))
    });
    &text[..end.unwrap_or(text.len())]
}

/// Fails with all findings at once.
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent = rust_files().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path.display().to_string());
    none("open with `//!`", silent.collect());
}

#[test]
fn no_file_is_longer_than_500_lines_without_its_tests() {
    let long = rust_files().filter(|(path, _)| !is_test(path)).filter_map(|(path, text)| {
        let lines = without_tests(&text).lines().count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", path.display()))
    });
    none("split the file", long.collect());
}

#[test]
fn nothing_outside_tests_panics_by_habit() {
    let words = [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!("];
    let mut findings = Vec::new();
    for (path, text) in rust_files().filter(|(path, _)| !is_test(path)) {
        for (number, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let hits = words.iter().filter(|word| code.contains(**word));
            findings.extend(hits.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    none("return an error instead", findings);
}

#[test]
fn every_lint_exception_has_a_reason() {
    let mut findings = Vec::new();
    for (path, text) in rust_files() {
        for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in text.match_indices(opening) {
                let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                if text[line_start..at].trim().is_empty() && !attribute.contains("reason") {
                    findings.push(format!("{}:{}", path.display(), text[..at].lines().count()));
                }
            }
        }
    }
    none("add `reason = \"..\"`", findings);
}

#[test]
fn unsafe_code_stays_in_the_sdk_and_the_allocator() {
    let mut findings = Vec::new();
    for (path, text) in rust_files().filter(|(path, _)| !path.starts_with("sdk") && !path.starts_with("host/allocator"))
    {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl") {
                findings.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    let ours = |finding: &String| !finding.starts_with("tests/house.rs");
    none(
        "unsafe code belongs into the SDK's raw ABI, or into the allocator's crate",
        findings.into_iter().filter(ours).collect(),
    );
}

#[test]
fn no_path_of_a_machine_and_no_registry_is_written_down() {
    // Put together here, so that this file does not find itself.
    let words: Vec<String> =
        [("/wo", "rk/"), ("/ro", "ot/"), ("/tmp", "/t/"), ("/ho", "me/"), ("registry.", "npmjs.org")]
            .map(|(start, end)| [start, end].concat())
            .into();
    let mut findings = Vec::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let hits = words.iter().filter(|word| line.contains(word.as_str()));
            findings.extend(hits.map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        }
    }
    none("remove the path or host name", findings);
}

#[test]
fn lock_files_name_only_cargos_own_registry() {
    let own = "registry+https://github.com/rust-lang/crates.io-index";
    let mut findings = Vec::new();
    for path in files().into_iter().filter(|path| path.ends_with("Cargo.lock")) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let sources = text.lines().filter_map(|line| line.strip_prefix("source = "));
        findings.extend(
            sources.filter(|source| source.trim_matches('"') != own).map(|s| format!("{}: {s}", path.display())),
        );
    }
    none("only crates from cargo's own registry", findings);
}

#[test]
fn make_commands_of_the_documents_exist() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let known: BTreeSet<_> = makefile.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    let mut findings = Vec::new();
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for (at, _) in text.match_indices("make ") {
            let is_command = text[..at].ends_with('`') || text[..at].ends_with("    ") || text[..at].ends_with("$ ");
            let name = text[at + 5..].split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
            if is_command && !known.contains(name) {
                findings.push(format!("{}: make {name}", path.display()));
            }
        }
    }
    none("no such make target", findings);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut findings = Vec::new();
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#']).next().unwrap_or_default();
            let folder = root().join(&path).parent().unwrap().to_owned();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                findings.push(format!("{}: {target}", path.display()));
            }
        }
    }
    none("dead link", findings);
}

/// Codes of diagnostics in a text: `P` and four digits between two marks that are not part of a word.
#[test]
fn the_map_names_each_file_once() {
    let map = std::fs::read_to_string(root().join("docs/map.md")).unwrap();
    let mut known = BTreeSet::new();
    let rows = map.lines().filter(|line| line.starts_with("| ["));
    let files = rows.filter_map(|line| Some(line.split_once("](")?.1.split_once(')')?.0));
    none("docs/map.md has two rows", files.filter(|file| !known.insert(*file)).map(str::to_owned).collect());
    assert!(known.len() > 100, "rows are found");
}

fn codes_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_code =
        |word: &&str| word.len() == 5 && word.starts_with("P0") && word[1..].bytes().all(|b| b.is_ascii_digit());
    words.filter(is_code).map(str::to_owned).collect()
}

/// Codes that a user can meet: whole strings of the sources, outside of tests.
fn codes_in_use() -> BTreeSet<String> {
    let sources = rust_files().filter(|(path, _)| path.starts_with("host") && !is_test(path));
    let strings = |text: &str| without_tests(text).split('"').filter(|s| s.len() == 5).flat_map(codes_in).collect();
    sources.flat_map(|(_, text)| -> Vec<String> { strings(&text) }).collect()
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let used = codes_in_use();
    let pages: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| Some(path.strip_prefix("docs/codes").ok()?.file_stem()?.to_str()?.to_owned()))
        .collect();
    let missing = used.difference(&pages).map(|code| format!("docs/codes/{code}.md is missing"));
    let idle = pages.difference(&used).map(|code| format!("docs/codes/{code}.md: nothing uses this code"));
    none("pages and codes differ", missing.chain(idle).collect());
}

#[test]
fn every_page_of_a_code_has_the_same_form() {
    let parts = ["\n```", "\n- **Meanwhile**: ", "\n- **What to do**: ", "\n- **Istio**: "];
    let mut findings = Vec::new();
    for path in files().iter().filter(|path| path.starts_with("docs/codes")) {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let code = path.file_stem().unwrap().to_string_lossy().into_owned();
        let opening = format!("# {code}: ");
        let opens = (!text.starts_with(&opening)).then(|| format!("`{opening}`"));
        let missing = parts.iter().filter(|part| !text.contains(**part)).map(|part| format!("`{}`", part.trim()));
        findings.extend(opens.into_iter().chain(missing).map(|part| format!("{}: no {part}", path.display())));
    }
    none("a page says what it means, with an example, and what to do", findings);
}

#[test]
fn every_code_is_named_by_a_test() {
    let mut named = BTreeSet::new();
    for path in files() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            named.extend(codes_in(&text[without_tests(&text).len()..]));
        } else if path.components().any(|part| part.as_os_str() == "tests") || is_test(&path) {
            named.extend(codes_in(&text));
        }
    }
    none("write a test that shows the code", codes_in_use().difference(&named).cloned().collect());
}

/// Kinds of `docs/istio.md`: section, file of the type, type.
const ISTIO_KINDS: &[(&str, &str, &str)] = &[
    ("Gateway", "gateway", "Gateway"),
    ("VirtualService", "virtual_service", "VirtualService"),
    ("DestinationRule", "destination_rule", "DestinationRule"),
    ("ServiceEntry and WorkloadEntry", "service_entry", "ServiceEntry"),
    ("ServiceEntry and WorkloadEntry", "workload_entry", "WorkloadEntry"),
    ("WasmPlugin and TrafficExtension", "wasm_plugin", "WasmPlugin"),
    ("WasmPlugin and TrafficExtension", "traffic_extension", "TrafficExtension"),
    ("Telemetry", "telemetry", "Telemetry"),
    ("MeshConfig and ProxyConfig", "operator", "MeshConfig"),
    ("RequestAuthentication and AuthorizationPolicy", "request_authentication", "RequestAuthentication"),
    ("RequestAuthentication and AuthorizationPolicy", "authorization_policy", "AuthorizationPolicy"),
];

/// Fields of the structs of Istio's resources by type: name in YAML (empty when flattened) and type. One that is made of
/// another type has that one's fields.
fn istio_types() -> BTreeMap<String, Vec<(String, String)>> {
    let mut types: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (_, text) in rust_files().filter(|(path, _)| path.starts_with("host/config/src/resources/istio")) {
        let (mut current, mut rename, mut from) = (None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("pub struct ") {
                current = rest.split([' ', '<', '{', ';']).next().map(str::to_owned);
                let fields = types.entry(current.clone().unwrap()).or_default();
                if let Some(from) = from.take() {
                    fields.push((String::new(), from));
                    current = None;
                }
            } else if line == "}" {
                current = None;
            } else if let Some(rest) = line.strip_prefix("#[serde(rename = \"") {
                rename = rest.split('"').next().map(str::to_owned);
            } else if let Some(rest) = line.strip_prefix("#[serde(from = \"") {
                from = rest.split('"').next().map(str::to_owned);
            } else if line == "#[serde(flatten)]" {
                rename = Some(String::new());
            } else if let (Some(owner), Some(rest)) =
                (&current, line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")))
                && let Some((name, kind)) = rest.trim_end_matches(',').split_once(": ")
            {
                let name = rename.take().unwrap_or_else(|| camel(name));
                types.get_mut(owner).unwrap().push((name, inner(kind)));
            }
        }
    }
    types
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

/// `Option<Vec<super::x::T>>` and `BTreeMap<String, T>` are about `T`.
fn inner(kind: &str) -> String {
    let last = kind.trim_end_matches('>').rsplit(['<', ' ']).next().unwrap_or_default();
    last.rsplit("::").next().unwrap_or_default().to_owned()
}

/// Paths of all fields of a type; what was told of a type once is not told again.
fn paths(
    types: &BTreeMap<String, Vec<(String, String)>>,
    kind: &str,
    before: &str,
    told: &mut BTreeSet<String>,
) -> Vec<String> {
    let mut all = Vec::new();
    for (name, kind) in types.get(kind).into_iter().flatten() {
        let path = [before, name].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
        match types.contains_key(kind) && told.insert(kind.clone()) {
            true => all.extend(paths(types, kind, &path, told)),
            false if name.is_empty() => {}
            false => all.push(path),
        }
    }
    all
}

/// The rows of a section of `docs/istio.md`: fields that it is about, status, tests.
fn istio_rows(section: &str) -> Vec<(Vec<String>, String, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/istio.md")).unwrap();
    let body = text.split("\n## ").find_map(|part| part.strip_prefix(section)?.strip_prefix('\n')).unwrap_or_default();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(|name| name.replace("[]", "")).collect();
    let rows = body.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| {
            (
                quoted(cells[1]),
                cells.get(2).copied().unwrap_or_default().to_owned(),
                quoted(cells.get(3).unwrap_or(&"")),
            )
        })
        .collect()
}

#[test]
fn every_field_of_istios_resources_has_a_row() {
    let types = istio_types();
    let mut findings = Vec::new();
    for (section, file, kind) in ISTIO_KINDS {
        assert!(types.contains_key(*kind), "no type {kind} in {file}.rs");
        let named: Vec<String> = istio_rows(section).into_iter().flat_map(|(fields, ..)| fields).collect();
        let mut told = BTreeSet::from([(*kind).to_owned()]);
        // A row may leave the beginning of a path out, but not so that one word is left of several.
        let is_told = |path: &String| {
            let ends = |name: &String| name.contains('.') && path.ends_with(&format!(".{name}"));
            named.iter().any(|name| name == path || ends(name))
        };
        let missing = paths(&types, kind, "", &mut told).into_iter().filter(|path| !is_told(path));
        findings.extend(missing.map(|path| format!("{section}: `{path}`")));
    }
    none("docs/istio.md has no row for these fields", findings);
}

#[test]
fn rows_of_istios_fields_say_what_happens_and_name_tests_that_exist() {
    let sources: String = rust_files().map(|(_, text)| text).collect();
    let pages: BTreeSet<PathBuf> = files().into_iter().filter(|path| path.starts_with("docs/codes")).collect();
    let mut findings = Vec::new();
    let sections: BTreeSet<&str> = ISTIO_KINDS.iter().map(|(section, ..)| *section).collect();
    for (fields, status, tests) in sections.iter().flat_map(|section| istio_rows(section)) {
        let field = fields.first().cloned().unwrap_or_default();
        let known = ["supported", "refused", "ignored"].iter().any(|word| status.starts_with(word));
        let says_code = status.starts_with("supported") || !codes_in(&status).is_empty() || status.contains("mesh");
        if !known || !says_code {
            findings.push(format!("{field}: `{status}` is not `supported`, `refused: CODE` or `ignored: CODE`"));
        }
        let lost = codes_in(&status)
            .into_iter()
            .filter(|code| !pages.contains(&PathBuf::from(format!("docs/codes/{code}.md"))));
        findings.extend(lost.map(|code| format!("{field}: no page {code}")));
        let missing = tests.iter().filter(|test| !sources.contains(&format!("fn {test}(")));
        findings.extend(missing.map(|test| format!("{field}: no test {test}")));
        if tests.is_empty() {
            findings.push(format!("{field}: names no test"));
        }
    }
    none("docs/istio.md", findings);
}

#[test]
fn every_field_that_is_read_stands_in_a_golden_file() {
    let inputs = files().into_iter().filter(|path| path.to_string_lossy().ends_with(".in.yaml"));
    let text: String = inputs.map(|path| fs::read_to_string(root().join(path)).unwrap()).collect();
    let written: BTreeSet<&str> = text.split([' ', '{', '\n']).filter_map(|word| word.strip_suffix(':')).collect();
    let sections: BTreeSet<&str> = ISTIO_KINDS.iter().map(|(section, ..)| *section).collect();
    let rows = sections.iter().flat_map(|section| istio_rows(section));
    let read = rows.filter(|(_, status, _)| status.starts_with("supported")).flat_map(|(fields, ..)| fields);
    let missing = read.filter(|path| !written.contains(path.rsplit('.').next().unwrap_or_default()));
    none("write an input for these fields in host/config/tests/testdata/translate", missing.collect());
}

/// Where the suites are that a table of the ABI may name.
const SUITES: &[(&str, &str)] = &[
    ("conformance", "tests/conformance"),
    ("hostile", "tests/hostile"),
    ("vm", "host/wasm/tests/vm"),
    ("integration", "tests/integration"),
    ("envoy", "tests/envoy"),
];

#[test]
fn tests_that_the_abi_s_tables_name_exist() {
    let text = fs::read_to_string(root().join("docs/proxy-wasm.md")).unwrap();
    let mut findings = Vec::new();
    for (suite, folder) in SUITES {
        let files = fs::read_dir(root().join(folder)).unwrap().flatten().map(|file| file.path());
        let sources: String =
            files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
        let start = format!("`{suite}: ");
        let named = text.split(&start).skip(1).filter_map(|rest| rest.split_once('`'));
        let missing = named.filter(|(name, _)| !sources.contains(&format!("fn {name}(")));
        findings.extend(missing.map(|(name, _)| format!("{suite}: {name}")));
    }
    none("docs/proxy-wasm.md names tests that are not there", findings);
}

/// Package, dependency, and whether it is for tests only: every direct one of this workspace.
fn direct_dependencies() -> Vec<(String, String, bool)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut all = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["rename"].as_str().or(dependency["name"].as_str()).unwrap();
            let owner = package["name"].as_str().unwrap();
            all.push((owner.to_owned(), name.to_owned(), dependency["kind"].as_str() == Some("dev")));
        }
    }
    all
}

#[test]
fn heavy_dependencies_live_in_one_home() {
    let mut findings = Vec::new();
    for (package, dependency, for_tests) in direct_dependencies() {
        let home = HOMES.iter().find(|(name, _)| *name == dependency);
        let root_tests = package == "portolan" && for_tests;
        if home.is_some_and(|(_, homes)| !homes.contains(&package.as_str())) && !root_tests {
            findings.push(format!("{package} uses {dependency}"));
        }
    }
    none("a heavy dependency is reached through its home", findings);
}

#[test]
fn crates_depend_on_each_other_as_the_design_says() {
    let mut findings = Vec::new();
    for (package, dependency, for_tests) in direct_dependencies() {
        if !dependency.starts_with("portolan") || for_tests {
            continue;
        }
        let allowed = OUR_DEPENDENCIES.iter().find(|(name, _)| *name == package);
        // What is not in the table is a filter: it knows the SDK, the model, and the conditions that filters share.
        let of_filters = &["portolan-sdk", "portolan-model", "portolan-filter-conditions"][..];
        let allowed = allowed.map_or(of_filters, |(_, allowed)| allowed);
        if !allowed.contains(&dependency.as_str()) {
            findings.push(format!("{package} uses {dependency}"));
        }
    }
    none("not in the table of docs/architecture.md", findings);
}
