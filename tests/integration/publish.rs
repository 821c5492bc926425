//! `filter push`, `pull` and `verify` against a real registry, and the gateway with what was pushed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::modules::{await_module, cache, options, plugin};
use crate::support::await_true;
use crate::support::gateway::{Gateway, Options};
use crate::support::registry::{PASSWORD, Registry, Signer, USER};
use crate::support::tokens::TokenServer;
use crate::support::upstream::Upstream;
use crate::support::wasm::{self, naming};

/// What a run of the command printed.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A folder that commands run in, without anybody's credentials.
struct Desk {
    folder: TempDir,
    host: String,
    environment: Vec<(&'static str, String)>,
}

impl Desk {
    fn new(registry: &Registry) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), host: registry.host(), environment: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).unwrap();
    }

    fn keys(&self, name: &str, signer: &Signer) {
        self.write(&format!("{name}.key"), signer.private_pem());
        self.write(&format!("{name}.pub"), signer.public_pem());
    }

    /// `portolan filter ARGUMENTS` against the registry.
    fn filter(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .arg("filter")
            .args(arguments)
            .args(["--insecure-registry", &self.host])
            .env_remove("DOCKER_CONFIG")
            .env("HOME", self.folder.path())
            .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD), "a password is never printed");
        ran
    }

    fn done(&self, arguments: &[&str]) -> Ran {
        let ran = self.filter(arguments, "");
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    fn refused(&self, arguments: &[&str], reason: &str) {
        let ran = self.filter(arguments, "");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(reason), "{arguments:?} wants {reason}: {}", ran.stderr);
    }

    /// The answer of a push in JSON.
    fn pushed(&self, arguments: &[&str]) -> Value {
        let ran = self.done(&[&["push"], arguments, &["-o", "json"]].concat());
        serde_json::from_str(&ran.stdout).unwrap()
    }
}

fn gateway(app: &Upstream, cache: &Path, registry: &Registry) -> Options {
    options(app, cache).argument("--insecure-registry").argument(registry.host())
}

/// What `/filters` tells of the only filter.
fn told(gateway: &Gateway) -> String {
    gateway.admin("/filters").text()
}

#[test]
fn the_lines_that_push_prints_run_the_filter() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache, desk) = (Upstream::start("app"), cache(), Desk::new(&registry));
    desk.keys("cosign", &Signer::new());
    let gateway = gateway(&app, cache.path(), &registry).start();
    for layout in ["artifact", "compat", "docker"] {
        desk.write("my_filter.wasm", naming(layout));
        let url = registry.url(&format!("filters/naming:{layout}"));
        let ran = desk.done(&["push", "my_filter.wasm", &url, "--layout", layout, "--sign", "cosign.key"]);
        assert!(
            ran.stdout.contains("name: my-filter\n") && ran.stdout.contains("verificationKey: |"),
            "{}",
            ran.stdout
        );
        assert!(ran.stderr.contains("pushed") && ran.stderr.contains("signed"), "{}", ran.stderr);
        gateway.replace("a.yaml", ran.stdout);
        await_module(&gateway, layout);
    }
}

#[test]
fn a_project_is_built_and_pushed_with_what_it_says_of_itself() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache, desk) = (Upstream::start("app"), cache(), Desk::new(&registry));
    std::fs::create_dir(desk.path("p")).unwrap();
    desk.write("p/source.wasm", naming("built"));
    let project = "name: stamp\nlanguage: c\nbuild: [cp, source.wasm, out.wasm]\nmodule: out.wasm\nphase: AUTHN\n\
                   failStrategy: FAIL_OPEN\npluginName: root\nconfig: {a: [1, x]}\n";
    desk.write("p/filter.yaml", project);
    let ran = desk.done(&["push", "p", &registry.url("p:1")]);
    for line in [
        "name: stamp",
        "phase: AUTHN",
        "failStrategy: FAIL_OPEN",
        "pluginName: \"root\"",
        r#"pluginConfig: {"a":[1,"x"]}"#,
    ] {
        assert!(ran.stdout.contains(&format!("  {line}\n")), "{line}: {}", ran.stdout);
    }
    await_module(&gateway(&app, cache.path(), &registry).file("a.yaml", ran.stdout).start(), "built");
}

#[test]
fn pushing_again_changes_nothing() {
    let Some(registry) = Registry::start() else { return };
    let desk = Desk::new(&registry);
    desk.keys("a", &Signer::new());
    desk.keys("b", &Signer::new());
    desk.write("f.wasm", naming("one"));
    let url = registry.url("f:1");
    let first = desk.pushed(&["f.wasm", &url, "--sign", "a.key", "--source", "https://example.com/f"]);
    assert_eq!(first["changed"], true);
    assert_eq!(first["annotations"]["org.opencontainers.image.source"], "https://example.com/f");
    assert_eq!(first["annotations"]["org.opencontainers.image.version"], "1");
    let again = desk.pushed(&["f.wasm", &url, "--sign", "a.key", "--source", "https://example.com/f"]);
    assert_eq!((&again["changed"], &again["digest"]), (&Value::Bool(false), &first["digest"]));
    // Another key's signature stands beside the first.
    let other = desk.pushed(&["f.wasm", &url, "--sign", "b.key", "--source", "https://example.com/f"]);
    assert_eq!((&other["changed"], &other["digest"]), (&Value::Bool(true), &first["digest"]));
    desk.done(&["verify", &url, "--key", "a.pub"]);
    desk.done(&["verify", &url, "--key", "b.pub"]);
    // A new version under the same tag says what it replaces, and sends only what is new.
    desk.write("f.wasm", naming("two"));
    let ran = desk.done(&["push", "f.wasm", &url]);
    let before = first["digest"].as_str().unwrap();
    assert!(ran.stderr.contains(&format!("before     {before}")), "{}", ran.stderr);
    assert!(ran.stderr.contains("(1 blobs sent, 1 were there)"), "{}", ran.stderr);
}

#[test]
fn what_is_not_what_was_meant_is_refused_and_the_old_version_serves_on() {
    let Some(registry) = Registry::start() else { return };
    let (app, cache, desk) = (Upstream::start("app"), cache(), Desk::new(&registry));
    let (ours, other) = (Signer::new(), Signer::new());
    desk.keys("ours", &ours);
    let push = |tag: &str| {
        desk.write("f.wasm", naming(tag));
        desk.pushed(&["f.wasm", &registry.url(&format!("f:{tag}")), "--sign", "ours.key"])["digest"].clone()
    };
    let digest = |value: &Value| value.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let (one, two) = (digest(&push("one")), digest(&push("two")));
    let of = |tag: &str, sha256: &str, signer: &Signer| {
        plugin("f", &registry.url(&format!("f:{tag}")), &format!("sha256: {sha256}\n{}", signer.field()))
    };
    let gateway = gateway(&app, cache.path(), &registry).file("f.yaml", of("one", &one, &ours)).start();
    await_module(&gateway, "one");
    for (sha256, signer, reason) in
        [(&one, &ours, "the SHA-256 of the image is"), (&two, &other, "the image is not signed by `verificationKey`")]
    {
        gateway.replace("f.yaml", of("two", sha256, signer));
        gateway.await_log(reason);
        await_true("the refusal with its place", || {
            gateway.log().lines().any(|line| line.contains(reason) && line.contains("f.yaml:"))
        });
        await_true("the refusal in /filters", || told(&gateway).contains(reason));
        assert_eq!(gateway.get("h", "/").header("x-module"), Some("one"), "the old version serves on");
    }
    gateway.replace("f.yaml", of("two", &two, &ours));
    await_module(&gateway, "two");
    assert!(!told(&gateway).contains("not signed"));
}

#[test]
fn a_guarded_registry_wants_credentials_for_both_ways() {
    let Some(registry) = Registry::start_guarded() else { return };
    let desk = Desk::new(&registry);
    let (url, module) = (registry.url("f:1"), naming("one"));
    desk.write("f.wasm", &module);
    desk.refused(&["push", "f.wasm", &url], "help: set PORTOLAN_REGISTRY_USER and PORTOLAN_REGISTRY_PASSWORD");
    desk.write("wrong.json", registry.docker_config().replace("auth\": \"", "auth\": \"AAAA"));
    desk.refused(&["push", "f.wasm", &url, "--docker-config", "wrong.json"], "answers 401");
    std::fs::create_dir(desk.path(".docker")).unwrap();
    desk.write(".docker/config.json", registry.docker_config());
    desk.done(&["push", "f.wasm", &url]);
    std::fs::remove_dir_all(desk.path(".docker")).unwrap();
    desk.refused(&["pull", &url], "answers 401");
    let arguments = ["pull", &url, "-o", "pulled.wasm", "--username", USER, "--password-stdin"];
    let ran = desk.filter(&arguments, &format!("{PASSWORD}\n"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(std::fs::read(desk.path("pulled.wasm")).unwrap(), module);
    let desk = desk.with("PORTOLAN_REGISTRY_USER", USER).with("PORTOLAN_REGISTRY_PASSWORD", PASSWORD);
    assert!(desk.done(&["inspect", &url]).stdout.contains("1, all served"));
}

#[test]
fn a_registry_with_tokens_is_asked_for_what_is_done_and_no_more() {
    let tokens = TokenServer::start();
    let Some(registry) = Registry::start_with(&tokens) else { return };
    let desk = Desk::new(&registry);
    let url = registry.url("filters/f:1");
    desk.write("f.wasm", naming("one"));
    desk.refused(&["push", "f.wasm", &url], "answers 401 for a token");
    let desk = desk.with("PORTOLAN_REGISTRY_USER", USER).with("PORTOLAN_REGISTRY_PASSWORD", PASSWORD);
    desk.done(&["push", "f.wasm", &url]);
    // The registry names what it wants in any order.
    let scopes =
        || tokens.scopes().into_iter().map(|scope| scope.replace("push,pull", "pull,push")).collect::<Vec<_>>();
    assert_eq!(scopes(), ["repository:filters/f:pull", "repository:filters/f:pull,push"]);
    desk.done(&["pull", &url]);
    assert_eq!(scopes(), ["repository:filters/f:pull"]);
}

#[test]
fn verify_says_yes_or_why_not() {
    let Some(registry) = Registry::start() else { return };
    let desk = Desk::new(&registry);
    let (ours, other) = (Signer::new(), Signer::new());
    desk.keys("ours", &ours);
    desk.keys("other", &other);
    let (url, module) = (registry.url("f:1"), naming("one"));
    desk.write("f.wasm", &module);
    let pushed = desk.pushed(&["f.wasm", &url]);
    let digest = pushed["digest"].as_str().unwrap();
    desk.refused(&["verify", &url, "--key", "ours.pub"], "the image is not signed");
    desk.pushed(&["f.wasm", &url, "--sign", "ours.key"]);
    let ran = desk.done(&["verify", &url, "--key", "ours.pub", "--sha256", digest]);
    assert!(ran.stdout.contains(digest) && ran.stdout.contains("signer"), "{}", ran.stdout);
    desk.refused(&["verify", &url, "--key", "other.pub"], "its signatures are of others");
    desk.refused(&["verify", &url, "--sha256", &"0".repeat(64)], "the SHA-256 of the image is");
    desk.refused(&["verify", &registry.url("f:2"), "--sha256", digest], "answers 404");
    desk.refused(&["verify", "f.wasm", "--key", "ours.pub"], "the module is not signed");
    desk.write("f.wasm.sig", ours.sign(&module));
    desk.done(&["verify", "f.wasm", "--key", "ours.pub"]);
    desk.refused(&["verify", "f.wasm", "--key", "other.pub"], "its signature is of another");
}

#[test]
fn pull_writes_what_was_pushed_and_overwrites_nothing_unasked() {
    let Some(registry) = Registry::start() else { return };
    let desk = Desk::new(&registry);
    let stamp = wasm::built("examples/filter-stamp");
    let url = registry.url("filters/stamp:1");
    let pushed = desk.pushed(&[&stamp.display().to_string(), &url]);
    assert!(pushed["annotations"]["dev.portolan.filter.schema"].as_str().unwrap().starts_with("sha256:"));
    desk.done(&["pull", &url]);
    assert_eq!(std::fs::read(desk.path("stamp.wasm")).unwrap(), std::fs::read(&stamp).unwrap());
    desk.done(&["pull", &url]);
    desk.write("stamp.wasm", "mine");
    desk.refused(&["pull", &url], "is there with other contents");
    desk.done(&["pull", &url, "-o", "stamp.wasm", "--sha256", pushed["digest"].as_str().unwrap()]);
    let schema = desk.done(&["inspect", "stamp.wasm", "--schema"]).stdout;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["properties"]["stamp"]["type"], "string");
    let inspected = desk.done(&["inspect", &url, "-o", "json"]).stdout;
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!((&inspected["image"], &inspected["schema"]), (&pushed["digest"], &schema));
    assert!(inspected["imports"].as_array().unwrap().iter().all(|import| import["served"] == true));
}
