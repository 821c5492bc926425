//! `portolan filter test` and `bench` as an author uses them: cases that pass, fail and cannot be read, records, budgets.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::await_true;
use crate::support::ports::Port;
use crate::support::wasm;

/// What a run printed.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A module with its cases.
struct Filter {
    folder: TempDir,
}

impl Filter {
    fn new(module: &[u8], cases: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("filter.wasm"), module).unwrap();
        fs::create_dir(folder.path().join("tests")).unwrap();
        let filter = Self { folder };
        if !cases.is_empty() {
            filter.write("tests/a.test.yaml", cases);
        }
        filter
    }

    /// One of the repository's, with its configuration.
    fn built(folder: &str, config: &str) -> Self {
        let filter = Self::new(&fs::read(wasm::built(folder)).unwrap(), "");
        filter.write("filter.yaml", &format!("language: rust\nconfig: {config}\n"));
        filter
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Ran {
        let output = portolan(self.folder.path()).args(["filter", command, "filter.wasm"]).args(arguments).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn test(&self, arguments: &[&str]) -> Ran {
        self.run("test", arguments)
    }

    /// All cases pass.
    fn passes(&self, cases: usize) {
        let ran = self.test(&["-o", "json"]);
        let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(
            (ran.code, report["passed"].as_u64()),
            (Some(0), Some(cases as u64)),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
    }
}

fn portolan(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.current_dir(folder).env("NO_COLOR", "1").stdin(Stdio::null());
    command.env("XDG_CACHE_HOME", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("modules"));
    command
}

/// Without the times.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let (before, after) = line.split_once("  (").unwrap_or((line, ""));
        let rest = after.split_once(')').map_or(after, |(_, rest)| rest);
        out.push_str(&format!("{before}{rest}\n"));
    }
    out
}

/// Compares with a file of `tests/snapshots`.
fn snapshot(name: &str, text: &str) {
    insta::with_settings!({ snapshot_path => "../snapshots" }, { insta::assert_snapshot!(name, text) });
}

const PASSING: &str = "\
name: the module names itself
upstream: {headers: {x-up: 1}, body: tea}
expect:
  request: {path: /, headers: {x-module: {present: false}}}
  response: {status: 200, headers: {x-module: one, x-up: 1}, body: tea}
  calls: {exact: ['add_header(\"x-module\", \"one\")']}
";

#[test]
fn cases_that_pass_are_told_in_a_line_each() {
    let filter = Filter::new(&wasm::naming("one"), PASSING);
    filter.write("b.test.yaml", &PASSING.replace("the module", "beside it the module"));
    let ran = filter.test(&[]);
    let told = "ok    beside it the module names itself\nok    the module names itself\n2 cases passed\n";
    assert_eq!((ran.code, timeless(&ran.stdout).as_str()), (Some(0), told), "{}", ran.stderr);
    assert!(timeless(&filter.test(&["--case", "the module names itself"]).stdout).ends_with("1 case passed\n"));
    assert_eq!(filter.test(&["--case", "no such"]).code, Some(2));
}

#[test]
fn a_failing_case_shows_request_calls_and_response_side_by_side() {
    let failing = PASSING
        .replace("path: /, ", "path: {prefix: /a}, ")
        .replace("x-module: one, x-up: 1", "x-module: two, x-up: {regex: '[a-z]'}")
        .replace("body: tea}\n  calls", "body: coffee}\n  calls")
        .replace("\"one\"", "\"two\"");
    let filter = Filter::new(&wasm::naming("one"), &failing);
    let ran = filter.test(&[]);
    assert_eq!(ran.code, Some(1));
    snapshot("filter_test_fails", &timeless(&ran.stdout));
    let json: serde_json::Value = serde_json::from_str(&filter.test(&["-o", "json"]).stdout).unwrap();
    let status = json["cases"][0]["differences"].as_array().unwrap();
    let fields: Vec<_> = status.iter().map(|difference| difference["field"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        ["request.path", "calls[0]", "response.headers.x-module", "response.headers.x-up", "response.body"]
    );
    let github = filter.test(&["-o", "github"]).stdout;
    assert!(github.starts_with("::error file=tests/a.test.yaml,line=4,col=20,title=P0602::"), "{github}");
    let junit = filter.test(&["-o", "junit"]).stdout;
    assert!(
        junit.contains("tests=\"1\" failures=\"1\"") && junit.contains("<failure message=\"request.path: "),
        "{junit}"
    );
}

#[test]
fn cases_that_cannot_be_read_end_before_anything_runs() {
    let filter = Filter::new(&wasm::naming("one"), &PASSING.replace("status:", "staus:"));
    let ran = filter.test(&[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    snapshot("filter_test_unreadable", &ran.stdout);
}

#[test]
fn a_folder_without_cases_does_not_pass() {
    let ran = Filter::new(&wasm::naming("one"), "").test(&[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.starts_with("error: no case in .: "), "{}", ran.stderr);
}

#[test]
fn a_case_of_its_own_sees_nothing_of_the_others() {
    let counts = "(module (import \"env\" \"proxy_set_shared_data\" (func $set (param i32 i32 i32 i32 i32) (result i32)))
        (import \"env\" \"proxy_get_shared_data\" (func $get (param i32 i32 i32 i32 i32) (result i32)))
        (import \"env\" \"proxy_send_local_response\" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
        (func (export \"proxy_abi_version_0_2_1\")) (memory (export \"memory\") 1) (data (i32.const 0) \"key\")
        (func (export \"malloc\") (param i32) (result i32) i32.const 1024)
        (func (export \"proxy_on_request_headers\") (param i32 i32 i32) (result i32)
          (if (call $get (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 20) (i32.const 24))
            (then (drop (call $set (i32.const 0) (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 0))) (return (i32.const 0))))
          (drop (call $send (i32.const 429) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
          i32.const 1))";
    let case = |name: &str, before: &str, status: u16| {
        format!("name: {name}\nbefore: {before}\nexpect: {{response: {{status: {status}}}}}\n---\n")
    };
    let cases = [case("first", "[]", 200), case("again", "[]", 200), case("second", "[{path: /a}]", 429)].concat();
    Filter::new(&wat::parse_str(counts).unwrap(), cases.trim_end_matches("---\n")).passes(3);
}

#[test]
fn what_is_recorded_passes_and_nothing_is_overwritten() {
    let record = |filter: &Filter, arguments: &[&str]| {
        let ran = filter.test(&[&["--record", "The First"], arguments].concat());
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(0), "recorded tests/the-first.test.yaml\n"),
            "{}",
            ran.stderr
        );
        filter.passes(1);
        filter.read("tests/the-first.test.yaml")
    };
    let stamp = Filter::built("examples/filter-stamp", "{stamp: checked}");
    let text = record(&stamp, &["--url", "http://shop.test/a?b=c", "-H", "x-user: ada", "-d", "two\nlines\n"]);
    snapshot("filter_test_recorded", &text);
    let again = stamp.test(&["--record", "the first"]);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("`./tests/the-first.test.yaml` is there already"), "{}", again.stderr);
    assert_eq!(stamp.read("tests/the-first.test.yaml"), text);
    record(&Filter::new(&wasm::naming("one"), ""), &[]);
    // Nobody answers its callouts: the filter does.
    let text =
        record(&Filter::built("examples/filter-authorize", "{cluster: 'outbound|80||no.test'}"), &["--url", "/x"]);
    assert!(text.contains("request: none") && text.contains("status: 503"), "{text}");
    // Reads what is another one each time.
    let probe = Filter::new(&fs::read(wasm::built("tests/probe")).unwrap(), "");
    let script = "x-do: request_headers { get_header_map_value 0 'x-request-id' && }";
    let text = record(&probe, &["--url", "/x", "-H", script]);
    assert!(text.contains("get_header(\"x-request-id\") = \"...\""), "{text}");
}

#[test]
fn a_request_that_came_to_dev_is_saved_as_a_case_that_passes() {
    let filter = Filter::new(&wasm::naming("one"), "");
    let (listen, admin) = (Port::free(), Port::free());
    let (listening, admins) = (listen.address().to_string(), admin.address().to_string());
    let mut dev = portolan(filter.folder.path())
        .args(["filter", "dev", "filter.wasm", "--listen", &listening, "--admin-address", &admins])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let request = crate::support::client::Request::get("shop.test", "/orders?id=1").header("x-user", "ada");
    await_true("an answer", || crate::support::client::send(listen.address(), &request).is_ok());
    let input = dev.stdin.as_mut().unwrap();
    let tests = filter.folder.path().join("tests");
    let saved = || fs::read_dir(&tests).unwrap().count();
    // The line may be there before the trace of the request.
    await_true("a saved case", || {
        writeln!(input, "save").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        saved() > 0
    });
    writeln!(input, "q").unwrap();
    assert!(dev.wait().unwrap().success());
    filter.passes(saved());
    let file = fs::read_dir(&tests).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(file).unwrap();
    for part in ["host: shop.test", "path: /orders?id=1", "x-user: ada", "x-module: one"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_budget_is_kept_or_not_by_the_median_of_a_request() {
    let filter = Filter::built("examples/filter-stamp", "{stamp: checked}");
    let bench = |arguments: &[&str]| filter.run("bench", &[&["--duration", "50ms"], arguments].concat());
    let kept = bench(&["--budget", "1s"]);
    assert_eq!(kept.code, Some(0), "{}{}", kept.stdout, kept.stderr);
    assert!(kept.stdout.contains("on_response_headers"), "{}", kept.stdout);
    let exceeded = bench(&["--budget", "1ns", "-o", "json"]);
    assert_eq!(exceeded.code, Some(1), "{}", exceeded.stderr);
    let report: serde_json::Value = serde_json::from_str(&exceeded.stdout).unwrap();
    assert_eq!(report["within_budget"], false);
    assert_eq!(report["per_request"]["host_calls"], 1.0, "{report}");
    assert!(report["memory_at_start_bytes"].as_u64().unwrap() > 0 && report["requests"].as_u64().unwrap() > 0);
    let wrong = bench(&["--plugin-config", "{}"]);
    assert_eq!((wrong.code, wrong.stderr.as_str()), (Some(1), "error: missing properties 'stamp'\n"));
}

#[test]
fn callouts_of_a_case_are_answered_while_it_is_measured() {
    let filter = Filter::built("examples/filter-authorize", "{cluster: 'outbound|80||authz.test'}");
    filter.write(
        "tests/a.test.yaml",
        "name: known\nservices: {'outbound|80||authz.test': {headers: {x-user: ada}}}\nexpect: {response: {status: 200}}\n---\n\
         name: unknown\nservices: {'outbound|80||authz.test': {status: 401}}\nexpect: {response: {status: 401}}\n",
    );
    filter.passes(2);
    let report = |case: &str| {
        let ran = filter.run("bench", &["--duration", "50ms", "--case", case, "-o", "json"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()
    };
    let (known, unknown) = (report("known"), report("unknown"));
    let rows = |report: &serde_json::Value| {
        let rows = report["callbacks"].as_array().unwrap().iter();
        rows.map(|row| row["callback"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(rows(&known).contains(&"on_http_call_response".to_owned()), "{known}");
    assert_eq!((&known["answered"], &known["held"]), (&0.into(), &0.into()), "{known}");
    assert_eq!(unknown["answered"], unknown["requests"], "{unknown}");
}

#[test]
fn the_examples_pass_their_own_cases() {
    for name in ["filter-stamp", "filter-authorize", "filter-stock"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let filter = Filter::new(&fs::read(wasm::built(&format!("examples/{name}"))).unwrap(), "");
        for file in ["filter.yaml", "tests/filter.test.yaml"] {
            filter.write(file, &fs::read_to_string(example.join(file)).unwrap());
        }
        let ran = filter.test(&[]);
        assert_eq!(ran.code, Some(0), "{name}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn the_examples_of_the_documentation_pass_and_fulfil_the_schema() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/filter-tests.md")).unwrap();
    let schema = Filter::new(&wasm::naming("one"), "").test(&["--schema"]).stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let known = schema["properties"].as_object().unwrap();
    for (name, folder, config) in [
        ("stamp", "examples/filter-stamp", "{stamp: checked}"),
        ("authorize", "examples/filter-authorize", "{cluster: 'outbound|80||authz.test'}"),
    ] {
        let start = format!("```yaml {name}\n");
        let blocks: Vec<_> = page.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        let filter = Filter::built(folder, config);
        for (number, block) in blocks.iter().enumerate() {
            filter.write(&format!("tests/{number}.test.yaml"), block);
            let fields = block.lines().filter(|line| !line.starts_with([' ', '-']) && line.contains(':'));
            for field in fields.map(|line| line.split(':').next().unwrap()) {
                assert!(known.contains_key(field), "`{field}` is not in the schema");
            }
        }
        let cases = blocks.iter().map(|block| block.matches("name: ").count()).sum();
        filter.passes(cases);
    }
}
