//! Whole outputs of the command line, run as a user does, and its exit codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run printed.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// Exit code and both streams, as the snapshots hold them.
    fn whole(&self) -> String {
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        format!("exit code: {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs the binary in `folder` with `input` on standard input.
fn run_with(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("modules");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", cache)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes the pipe: no matter.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run(folder: &str, arguments: &[&str]) -> Ran {
    run_with(&testdata().join(folder), arguments, "")
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata")
}

/// File and line of every `# N:` mark in a folder.
fn marked_lines(folder: &Path) -> BTreeSet<(String, u64)> {
    let mut marked = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_mark =
            |line: &str| line.rsplit_once("# ").is_some_and(|(_, mark)| mark.starts_with(|c: char| c.is_ascii_digit()));
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if is_mark(line) {
                marked.insert((name.clone(), number as u64 + 1));
            }
        }
    }
    marked
}

#[test]
fn check_finds_each_of_ten_mistakes_at_its_line() {
    let folder = testdata().join("check/ten-mistakes");
    let ran = run("check/ten-mistakes", &["check", "--config", ".", "-o", "json"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = answer["diagnostics"].as_array().unwrap();
    let place =
        |finding: &serde_json::Value| (finding["file"].as_str().unwrap().to_owned(), finding["line"].as_u64().unwrap());
    let found: BTreeSet<_> = findings.iter().filter(|finding| finding["severity"] == "error").map(place).collect();
    let marked = marked_lines(&folder);
    assert_eq!(marked.len(), 10);
    assert_eq!(found, marked);
}

#[test]
fn check_prints_findings_for_people() {
    insta::assert_snapshot!(run("check/ten-mistakes", &["check", "--config", "."]).whole());
}

#[test]
fn check_prints_findings_for_programs() {
    insta::assert_snapshot!(run("check/ten-mistakes", &["check", "--config", ".", "-o", "json"]).whole());
}

#[test]
fn check_prints_findings_for_github() {
    insta::assert_snapshot!(run("check/ten-mistakes", &["check", "--config", ".", "-o", "github"]).whole());
}

#[test]
fn check_is_content_with_good_files() {
    insta::assert_snapshot!(run("explain", &["check", "--config", "."]).whole());
}

#[test]
fn check_reads_standard_input() {
    let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  serverss: []\n";
    insta::assert_snapshot!(run_with(&testdata(), &["check", "--config", "-"], text).whole());
}

#[test]
fn check_takes_the_seed_without_an_error() {
    let ran = run("seed", &["check", "--config", "gateway.yaml", "--config", "canary.yaml"]);
    insta::assert_snapshot!(ran.whole());
}

/// A folder with a WasmPlugin that runs this module.
fn with_filter(module: &str, config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("auth.wasm"), wat::parse_str(module.replace('\n', " ")).unwrap()).unwrap();
    let plugin = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: auth\nspec:\n  url: ./auth.wasm\n";
    fs::write(folder.path().join("auth.yaml"), format!("{plugin}  pluginConfig:\n{config}")).unwrap();
    folder
}

#[test]
fn check_points_at_what_breaks_the_filters_schema() {
    let module = r#"(module (func (export "proxy_abi_version_0_2_1")) (memory (export "memory") 1)
        (@custom "portolan.schema" "{\"type\": \"object\", \"additionalProperties\": false, \"required\": [\"realm\"],
          \"properties\": {\"realm\": {\"type\": \"string\"}, \"users\": {\"type\": \"array\", \"items\": {\"type\": \"object\",
            \"properties\": {\"age\": {\"type\": \"integer\", \"minimum\": 1}}}}}}"))"#;
    let config = "    relm: main\n    users:\n    - age: 3\n    - age: none\n";
    let folder = with_filter(module, config);
    insta::assert_snapshot!(run_with(folder.path(), &["check", "--config", "."], "").whole());
}

#[test]
fn check_tells_the_filters_own_words_when_it_refuses_its_configuration() {
    let module = r#"(module (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1) (data (i32.const 16) "no such realm: `main`")
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $log (i32.const 4) (i32.const 16) (i32.const 21))) (i32.const 0)))"#;
    let folder = with_filter(module, "    realm: main\n");
    insta::assert_snapshot!(run_with(folder.path(), &["check", "--config", "."], "").whole());
}

#[test]
fn check_tells_of_a_module_that_is_not_there() {
    let text = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: stamp}\nspec:\n  url: file:///no/such/filter.wasm\n";
    let ran = run_with(&testdata(), &["check", "--config", "-"], text);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stdout.starts_with("error[P0501]: filter default.stamp: cannot read /no/such/filter.wasm"),
        "{}",
        ran.stdout
    );
}

#[test]
fn check_refuses_a_bundled_filter_that_is_not_there_and_what_is_said_of_its_module() {
    let head = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: gate\nspec:\n";
    let check = |spec: &str| run_with(&testdata(), &["check", "--config", "-"], &format!("{head}{spec}"));
    let unknown = check("  url: bundled://ip-alow\n");
    assert_eq!(unknown.code, Some(1));
    for part in
        ["6:8", "P0127", "no filter `ip-alow` comes with this binary", "ip-allow", "did you mean `bundled://ip-allow`?"]
    {
        assert!(unknown.stdout.contains(part), "{part}: {}", unknown.stdout);
    }
    let pinned = check(
        "  url: bundled://ip-allow\n  imagePullPolicy: Always\n  imagePullSecret: s\n  type: NETWORK\n  pluginConfig: {deny: ['::1']}\n",
    );
    for part in
        ["7:3", "8:3", "9:9", "`imagePullPolicy` is for modules that are fetched", "`ip-allow` is a filter for HTTP"]
    {
        assert!(pinned.stdout.contains(part), "{part}: {}", pinned.stdout);
    }
}

#[test]
fn filter_list_names_what_a_plugin_may_use() {
    let text = run("seed", &["filter", "list"]);
    let json = run("seed", &["filter", "list", "-o", "json"]);
    let entries: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let entries = entries.as_array().unwrap();
    assert_eq!((text.code, json.code, text.stdout.lines().count()), (Some(0), Some(0), entries.len()));
    for (line, entry) in text.stdout.lines().zip(entries) {
        let (name, about) = (entry["name"].as_str().unwrap(), entry["about"].as_str().unwrap());
        assert!(line.starts_with(name) && line.ends_with(about), "{line}");
        assert_eq!(entry["url"], format!("bundled://{name}"));
        assert!(entry["bytes"].as_u64().unwrap() > 1000);
        let page = format!("docs/filters/{name}.md");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&page).exists(), "{page}");
    }
}

/// A folder with this module as `f.wasm`.
fn with_module(module: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.wasm"), wat::parse_str(module).unwrap()).unwrap();
    folder
}

#[test]
fn inspect_tells_a_module_part_by_part() {
    let module = r#"(module (import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
        (import "env" "proxy_redis_init" (func (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2 100) (table 3 funcref) (data (i32.const 0) "words")
        (func (export "proxy_abi_version_0_2_1")) (func (export "proxy_on_tick") (param i32))
        (@custom "portolan.schema" "{\"type\": \"object\"}"))"#;
    let folder = with_module(module);
    insta::assert_snapshot!(run_with(folder.path(), &["filter", "inspect", "f.wasm"], "").whole());
    insta::assert_snapshot!(run_with(folder.path(), &["filter", "inspect", "f.wasm", "--schema"], "").whole());
    let json = run_with(folder.path(), &["filter", "inspect", "f.wasm", "-o", "json"], "");
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["imports"][1]["name"], "env.proxy_redis_init");
    assert_eq!((&report["imports"][1]["served"], &report["imports"][1]["envoy"]), (&true.into(), &false.into()));
    assert_eq!((&report["instanceMemory"], &report["abi"]), (&131_072.into(), &"0.2.1".into()));
}

#[test]
fn inspect_tells_of_a_module_that_is_refused_as_well() {
    let module = r#"(module (import "env" "proxy_levitate" (func (param i32) (result i32)))
        (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#;
    let folder = with_module(module);
    insta::assert_snapshot!(run_with(folder.path(), &["filter", "inspect", "f.wasm"], "").whole());
    fs::write(folder.path().join("f.wasm"), "no module").unwrap();
    insta::assert_snapshot!(run_with(folder.path(), &["filter", "inspect", "f.wasm"], "").whole());
}

#[test]
fn publishing_says_what_it_wants() {
    let folder = with_module("(module)");
    fs::write(folder.path().join("sealed.key"), "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n").unwrap();
    let mut whole = String::new();
    for arguments in [
        &["push", "f.wasm", "oci://127.0.0.1:1/f:1"][..],
        &["push", "g.wasm", "oci://127.0.0.1:1/f:1"],
        &["push", "f.wasm", "oci://127.0.0.1:1/f:1", "--sign", "sealed.key"],
        &["push", "f.wasm", "oci://127.0.0.1:1/f:1", "--sign", "no.key"],
        &["push", "f.wasm", "oci://127.0.0.1:1/F F"],
        &["push", "oci://127.0.0.1:1/f:1", "oci://127.0.0.1:1/f:1"],
        &["pull", "f.wasm"],
        &["verify", "f.wasm"],
        &["verify", "f.wasm", "--sha256", &"0".repeat(64)],
        &["verify", "f.wasm", "--key", "f.wasm"],
        &["inspect", "f.wasm", "--schema"],
    ] {
        let ran = run_with(folder.path(), &[&["filter"], arguments].concat(), "");
        assert_eq!(ran.stdout, "", "{arguments:?}");
        whole.push_str(&format!("$ {}\n{:?} {}", arguments.join(" "), ran.code.unwrap(), ran.stderr));
    }
    insta::assert_snapshot!(whole);
}

#[test]
fn check_with_strict_fails_on_warnings() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shadow}
spec:
  hosts: ['*']
  gateways: [g]
  http:
  - route: [{destination: {host: a.test}}]
  - match: [{uri: {prefix: /never}}]
    route: [{destination: {host: b.test}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";
    let plain = run_with(&testdata(), &["check", "--config", "-"], text);
    assert_eq!(plain.code, Some(0), "{}", plain.whole());
    let strict = run_with(&testdata(), &["check", "--config", "-", "--strict"], text);
    assert_eq!(strict.code, Some(1));
    assert!(strict.stdout.contains("warning"), "{}", strict.stdout);
}

#[test]
fn check_of_a_path_that_is_not_there_is_an_error() {
    let ran = run("seed", &["check", "--config", "no-such-file.yaml"]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.whole().contains("no-such-file.yaml"), "{}", ran.whole());
}

#[test]
fn explain_shows_the_rules_tried_the_split_and_the_policy() {
    let url = "http://shop.example.com:8080/api/cart";
    insta::assert_snapshot!(run("explain", &["explain", "--config", ".", "--url", url, "-H", "x-user: beta"]).whole());
}

#[test]
fn explain_in_json_holds_the_same() {
    let url = "http://shop.example.com:8080/api/cart";
    let ran = run("explain", &["explain", "--config", ".", "--url", url, "-o", "json"]).whole();
    insta::assert_snapshot!(without_request_ids(&ran));
}

/// Each request has one of its own.
fn without_request_ids(text: &str) -> String {
    let mut is_id = false;
    let line = |line: &str| {
        let text = if is_id { "            \"ID\"".to_owned() } else { line.to_owned() };
        is_id = line.trim() == "\"x-request-id\",";
        text + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn explain_shows_a_redirect() {
    let url = "http://shop.example.com:8080/api/v2/x";
    insta::assert_snapshot!(run("explain", &["explain", "--config", ".", "--url", url, "-X", "POST"]).whole());
}

#[test]
fn explain_says_where_connections_go() {
    let url = "tcp://127.0.0.1:9000";
    insta::assert_snapshot!(run("tcp", &["explain", "--config", ".", "--url", url]).whole());
    let json = run("tcp", &["explain", "--config", ".", "--url", url, "-o", "json"]);
    let tree: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(tree["split"][1]["percent"], 20.0);
    let without_port = run("tcp", &["explain", "--config", ".", "--url", "tcp://127.0.0.1"]);
    assert!(without_port.stderr.contains("it names no port"), "{}", without_port.stderr);
}

#[test]
fn check_tells_of_tcp_servers_that_are_not_served() {
    insta::assert_snapshot!(run("tcp", &["check", "--config", "."]).whole());
}

#[test]
fn explain_names_the_nearest_rule_when_none_fits() {
    let url = "http://shop.example.com:8080/nowhere";
    insta::assert_snapshot!(run("explain", &["explain", "--config", ".", "--url", url]).whole());
}

#[test]
fn explain_says_when_no_host_fits() {
    let url = "http://other.example.com:8080/";
    insta::assert_snapshot!(run("explain", &["explain", "--config", ".", "--url", url]).whole());
}

#[test]
fn explain_tells_rewrite_headers_and_policies_with_their_lines() {
    let url = "http://shop.example.com/api/cart?page=2";
    let arguments = ["explain", "--config", "served", "--url", url, "-H", "x-user: beta"];
    insta::assert_snapshot!(run("routes", &arguments).whole());
}

/// What the client gets, and what the rule does on the way.
#[test]
fn explain_tells_what_faults_preflights_and_missing_endpoints_answer() {
    let explained = |path: &str, more: &[&str]| {
        let url = format!("http://h{path}");
        let arguments = [&["explain", "--config", "answers", "--url", &url], more].concat();
        let text = run("routes", &arguments).stdout;
        let json = run("routes", &[&arguments[..], &["-o", "json"]].concat()).stdout;
        let status = serde_json::from_str::<serde_json::Value>(&json).unwrap()["answer"]["status"].as_u64();
        (text, status)
    };
    let preflight = ["-X", "OPTIONS", "-H", "origin: https://a.test", "-H", "access-control-request-method: PUT"];
    for (path, more, status, lines) in [
        (
            "/always",
            &[][..],
            Some(555),
            &["fault delay 50 ms for 100 %, abort 555 for 100 %", "555 by the rule's fault"][..],
        ),
        (
            "/often",
            &[],
            None,
            &[
                "mirror to app.test for 5 %  ",
                "sent to app.test; grpc-status UNAVAILABLE by the rule's fault for 12.5 %",
                "answers/all.yaml:21",
            ],
        ),
        (
            "/cors",
            &preflight,
            Some(200),
            &[
                "cors exact \"https://a.test\", methods GET,PUT, max age 60 s, with credentials",
                "200 to a preflight by the rule's corsPolicy",
            ],
        ),
        ("/cors", &preflight[..4], None, &["sent to app.test"]),
        ("/nobody", &[], Some(503), &["503 cluster_not_found for app.test none"]),
        ("/", &[], Some(503), &["503 no_healthy_upstream for app.test empty"]),
    ] {
        let (text, got) = explained(path, more);
        assert_eq!(got, status, "{path}: {text}");
        for line in lines {
            assert!(text.contains(line), "{path} {line:?}: {text}");
        }
    }
}

#[test]
fn each_match_of_a_line_is_covered_by_itself() {
    let ran = run("routes", &["test", "--config", "answers", "--coverage"]);
    assert_eq!(ran.code, Some(0), "{}", ran.whole());
    assert!(ran.stdout.contains("4 of 7 rules are reached"), "{}", ran.stdout);
    assert!(ran.stdout.contains("uri exact \"/a\"") && !ran.stdout.contains("uri exact \"/b\""), "{}", ran.stdout);
}

#[test]
fn explain_tells_a_direct_response() {
    let url = "http://shop.example.com/healthz";
    insta::assert_snapshot!(run("routes", &["explain", "--config", "served", "--url", url]).whole());
}

#[test]
fn explain_tells_delegates_and_how_connections_are_made() {
    let url = "http://shop.example.com/api/cart";
    let arguments = ["explain", "--config", "edge", "--locality", "eu/a", "--url", url, "-H", "x-user: beta"];
    insta::assert_snapshot!(run("routes", &arguments).whole());
}

#[test]
fn rules_of_delegates_are_covered_by_name_of_their_root_too() {
    let ran = run("routes", &["test", "--config", "edge", "--coverage"]);
    insta::assert_snapshot!(without_times(&ran.whole()));
}

/// Times differ from run to run.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| word.parse::<f64>().is_ok();
    let line = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let timed = |at: usize| {
            let unit = words.get(at + 1).is_some_and(|unit| ["ms)", "s)"].contains(unit));
            unit && is_time(words[at].trim_start_matches('('))
        };
        let word = |(at, word): (usize, &&str)| if timed(at) { "(N".to_owned() } else { (*word).to_owned() };
        words.iter().enumerate().map(word).collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn route_tests_beside_the_configuration_pass_and_tell_what_they_reach() {
    let ran = run("routes", &["test", "--config", "served", "--coverage", "--min-coverage", "100"]);
    insta::assert_snapshot!(without_times(&ran.whole()));
}

#[test]
fn a_file_of_resources_whose_host_is_called_like_a_test_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let served = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/routes/served");
    std::fs::copy(served.join("all.yaml"), folder.path().join("app.test.yaml")).unwrap();
    let tests = std::fs::read_to_string(served.join("routes.test.yaml")).unwrap();
    std::fs::write(folder.path().join("routes.test.yaml"), tests.replace("all.yaml:", "app.test.yaml:")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
    let ran = command.args(["test", "--config"]).arg(folder.path()).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_route_test_that_fails_shows_both_sides() {
    let arguments = ["test", "--config", "served", "failing.test.yaml", "--coverage", "--min-coverage", "60%"];
    insta::assert_snapshot!(without_times(&run("routes", &arguments).whole()));
}

#[test]
fn route_tests_annotate_github_at_the_line_that_expects_otherwise() {
    let arguments = ["test", "--config", "served", "failing.test.yaml", "--coverage", "--format", "github"];
    insta::assert_snapshot!(run("routes", &arguments).whole());
}

#[test]
fn route_tests_report_to_programs() {
    let arguments = ["test", "--config", "served", "failing.test.yaml", "--coverage", "-o", "json"];
    let ran = run("routes", &arguments);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &report["passed"], &report["failed"]), (Some(1), &1.into(), &1.into()));
    assert_eq!(report["cases"][0]["differences"][0]["line"], 6, "{report}");
    assert_eq!(report["coverage"]["reached"], 2, "{report}");
    assert_eq!(report["coverage"]["unreached"][0]["line"], 64, "{report}");
    let junit = run("routes", &["test", "--config", "served", "failing.test.yaml", "-o", "junit"]).stdout;
    assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
}

#[test]
fn route_tests_that_cannot_be_used_end_with_2() {
    insta::assert_snapshot!(run("routes", &["test", "--config", "served", "unreadable.test.yaml"]).whole());
    let none = run("explain", &["test", "--config", "."]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(2), ""), "{}", none.stderr);
    let nothing_listens = run("routes", &["test", "--config", "served", "--label", "istio=other"]);
    assert_eq!(nothing_listens.code, Some(2), "{}", nothing_listens.whole());
    let gone = run("routes", &["test", "served/routes.test.yaml", "--admin", "127.0.0.1:1"]);
    assert_ne!(gone.code, Some(0), "{}", gone.whole());
}

#[test]
fn the_schema_of_a_route_test_is_json() {
    let ran = run("routes", &["test", "--schema"]);
    let schema: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(schema["properties"]["expect"]["properties"]["destination"].is_object(), "{schema}");
}

#[test]
fn check_and_run_do_not_take_route_tests_for_resources() {
    let ran = run("routes", &["check", "--config", "served"]);
    assert_eq!(ran.code, Some(0), "{}", ran.whole());
    assert!(ran.stdout.contains("1 file, "), "{}", ran.stdout);
}

#[test]
fn diff_tells_what_a_change_means() {
    insta::assert_snapshot!(run("routes", &["diff", "served", "wanted"]).whole());
}

#[test]
fn diff_in_json_holds_the_same() {
    insta::assert_snapshot!(run("routes", &["diff", "served", "wanted", "-o", "json", "--exit-code"]).whole());
}

#[test]
fn diff_of_the_same_is_silent() {
    let ran = run("routes", &["diff", "served", "served/all.yaml", "--exit-code"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "no change in meaning\n"), "{}", ran.stderr);
    let one = run("routes", &["diff", "served"]);
    assert_eq!(one.code, Some(2), "{}", one.whole());
}

#[test]
fn explain_names_the_rule_of_the_seed_by_file_and_line() {
    let arguments =
        ["explain", "--config", "gateway.yaml", "--config", "canary.yaml", "--url", "http://app.example.com/"];
    let ran = run("seed", &arguments);
    assert!(ran.stdout.contains("canary.yaml:12"), "{}", ran.whole());
    insta::assert_snapshot!(ran.whole());
}

#[test]
fn init_writes_files_that_check_is_content_with_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(run_with(folder.path(), &["init", "mygw"], "").whole());
    let check = run_with(folder.path(), &["check", "--config", "mygw"], "");
    assert_eq!(check.code, Some(0), "{}", check.whole());
    let again = run_with(folder.path(), &["init", "mygw"], "");
    assert_ne!(again.code, Some(0), "{}", again.whole());
}

/// Every file of a new project but the SDK's.
fn written(folder: &Path, language: &str) -> String {
    let made = run_with(folder, &["filter", "new", "rate-limit", language, "--lang", language], "");
    let mut files: Vec<String> = files_below(&folder.join(language), "");
    files.retain(|file| !file.starts_with("vendor/portolan-sdk/src/"));
    files.sort();
    made.whole() + "--- files\n" + &files.join("\n")
}

fn files_below(folder: &Path, inner: &str) -> Vec<String> {
    let entries = fs::read_dir(folder.join(inner)).unwrap().map(Result::unwrap);
    let deeper = |entry: fs::DirEntry| {
        let path = Path::new(inner).join(entry.file_name()).display().to_string();
        if entry.file_type().unwrap().is_dir() { files_below(folder, &path) } else { vec![path] }
    };
    entries.flat_map(deeper).collect()
}

#[test]
fn filter_new_writes_a_project_in_each_language() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["rust", "go", "assemblyscript", "c"] {
        insta::assert_snapshot!(format!("filter_new_{language}"), written(folder.path(), language));
    }
}

#[test]
fn filter_new_fills_in_the_name_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_with(folder.path(), &["filter", "new", "rate-limit"], "").code, Some(0));
    let text = |file: &str| fs::read_to_string(folder.path().join("rate-limit").join(file)).unwrap();
    assert!(text("src/lib.rs").contains("filter! { RateLimit:"));
    assert!(text("Cargo.toml").contains("name = \"rate-limit\""));
    assert!(text("README.md").contains("rate_limit.wasm"));
    insta::assert_snapshot!("filter_yaml", text("filter.yaml"));
    fs::write(folder.path().join("rate-limit/src/lib.rs"), "mine").unwrap();
    let again = run_with(folder.path(), &["filter", "new", "rate-limit", "--lang", "c"], "");
    insta::assert_snapshot!("filter_new_again", again.whole());
    assert_eq!(text("src/lib.rs"), "mine");
    let wrong = run_with(folder.path(), &["filter", "new", "Rate_Limit"], "");
    insta::assert_snapshot!("filter_new_wrong_name", wrong.whole());
}

#[test]
fn filter_build_says_what_is_wrong_with_a_project() {
    let folder = tempfile::tempdir().unwrap();
    let build = || run_with(folder.path(), &["filter", "build", "."], "").whole();
    insta::assert_snapshot!("filter_build_nothing", build());
    fs::write(folder.path().join("filter.yaml"), "name: a\nlang: go\nbuild: make\n").unwrap();
    insta::assert_snapshot!("filter_build_wrong_file", build());
    fs::write(folder.path().join("filter.yaml"), "language: go\nbuild: [no-such-compiler]\n").unwrap();
    insta::assert_snapshot!("filter_build_no_tool", build());
    let module = wat::parse_str(
        "(module (import \"env\" \"frob\" (func)) (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")))",
    );
    fs::write(folder.path().join("a.wasm"), module.unwrap()).unwrap();
    fs::write(folder.path().join("filter.yaml"), "language: go\nbuild: ['true']\nmodule: a.wasm\n").unwrap();
    insta::assert_snapshot!("filter_build_unknown_import", build());
}

#[test]
fn version_names_the_binary() {
    let ran = run("seed", &["version"]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stdout.to_lowercase().starts_with(&format!("portolan {}", env!("CARGO_PKG_VERSION"))),
        "{}",
        ran.stdout
    );
    let short = run("seed", &["--version"]);
    assert_eq!(short.stdout, format!("portolan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2_and_says_so_on_standard_error() {
    for arguments in
        [&["frob"][..], &["check"], &["explain", "--config", "."], &["run", "--config", ".", "--workers", "many"]]
    {
        let ran = run("seed", arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(!ran.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_of_a_code_is_its_page() {
    let page = include_str!("../docs/codes/P0204.md");
    for word in ["P0204", "p0204"] {
        let ran = run("seed", &["help", word]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), page));
    }
    let unknown = run("seed", &["help", "P0500"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert_eq!(unknown.stderr, "error: there is no code `P0500`; did you mean `P0501`?\n");
}

#[test]
fn help_of_a_command_is_what_its_own_flag_prints() {
    for words in [&["check"][..], &["filter", "new"]] {
        let flag = run("seed", &[words, &["--help"]].concat());
        let help = run("seed", &[&["help"], words].concat());
        assert_eq!((help.code, help.stdout.trim_end()), (Some(0), flag.stdout.trim_end()));
    }
    let whole = run("seed", &["help"]).stdout;
    assert!(whole.contains("Usage: portolan <COMMAND>"), "{whole}");
    let unknown = run("seed", &["help", "serve"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("there is no command `serve`"), "{}", unknown.stderr);
}

#[test]
fn help_lists_every_command() {
    insta::assert_snapshot!(run("seed", &["--help"]).whole());
}

#[test]
fn completions_and_the_manual_come_from_the_binary() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = run("seed", &["completions", shell]);
        assert!(ran.code == Some(0) && ran.stdout.contains("portolan"), "{shell}");
    }
    assert!(run("seed", &["man"]).stdout.contains(".TH portolan 1"));
}

#[test]
fn check_is_content_with_every_example() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for path in ["compose/config", "compose/backends/v1.yaml", "compose/backends/v2.yaml", "kubernetes/portolan.yaml"] {
        let ran = run_with(&examples, &["check", "--config", path], "");
        assert_eq!(ran.code, Some(0), "{path}: {}", ran.whole());
    }
    let text = config_map(&fs::read_to_string(examples.join("kubernetes/portolan.yaml")).unwrap());
    assert!(text.contains("kind: VirtualService"), "{text}");
    let ran = run_with(&examples, &["check", "--config", "-"], &text);
    assert_eq!(ran.code, Some(0), "{}", ran.whole());
}

/// The documents of a manifest's ConfigMap: what is indented under the keys of `data`.
fn config_map(manifest: &str) -> String {
    let data = manifest.lines().skip_while(|line| *line != "data:").skip(1).take_while(|line| *line != "---");
    let mut text = String::new();
    for line in data {
        match line.strip_prefix("    ") {
            Some(content) => text.push_str(&format!("{content}\n")),
            None => text.push_str("---\n"),
        }
    }
    text
}
