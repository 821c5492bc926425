//! `explain`, `test` and `diff` against a running gateway: its admin port says where requests would go, and what kinds of
//! them there were.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::client::{Request, send};
use crate::support::config::ANY_GATEWAY;
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// Two services on one upstream; a header sends users to the second.
fn files(upstream: &Upstream, beta: &str) -> String {
    let port = upstream.address().port();
    let entry = |name: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{name}.test]\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]\n"
        )
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: shop}}\nspec:\n  hosts: [shop.test]\n  gateways: [any]\n  \
         http:\n  - match:\n    - headers: {{x-user: {{exact: beta}}, authorization: {{prefix: Basic}}}}\n    - headers: {{x-user: {{exact: beta}}}}\n    \
         route: [{{destination: {{host: {beta}.test}}}}]\n  - route: [{{destination: {{host: one.test}}}}]\n{}{}",
        entry("one"),
        entry("two")
    )
}

fn gateway(upstream: &Upstream) -> Gateway {
    Options::new().file("gateway.yaml", ANY_GATEWAY).file("shop.yaml", files(upstream, "two")).start()
}

fn portolan(folder: &Path, arguments: &[&str]) -> Output {
    let cache = env!("CARGO_TARGET_TMPDIR");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.args(arguments).current_dir(folder).env("XDG_CACHE_HOME", cache).env("NO_COLOR", "1").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_running_gateway_explains_without_touching_its_counters() {
    let upstream = Upstream::start("u");
    let gateway = gateway(&upstream);
    let admin = format!("http://{}", gateway.admin_address());
    let folder = tempfile::tempdir().unwrap();
    let url = format!("http://shop.test:{}/a", gateway.address().port());
    let explained = portolan(folder.path(), &["explain", "--admin", &admin, "--url", &url, "-H", "x-user: beta"]);
    let told = text(&explained.stdout);
    assert!(told.contains("sent to two.test") && told.contains("shop.yaml:"), "{told}{}", text(&explained.stderr));
    // A change is explained as soon as it is served.
    gateway.replace("shop.yaml", files(&upstream, "one"));
    gateway.await_log("reload");
    let explained = portolan(folder.path(), &["explain", "--admin", &admin, "--url", &url, "-H", "x-user: beta"]);
    assert!(text(&explained.stdout).contains("sent to one.test"), "{}", text(&explained.stdout));
    assert_eq!(gateway.metric("envoy_http_downstream_rq_total", &[]), 0.0);
    assert_eq!(upstream.requests(), 0);
    let wrong = gateway.admin("/explain?url=ftp%3A%2F%2Fx");
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}

#[test]
fn route_tests_ask_a_running_gateway() {
    let upstream = Upstream::start("u");
    let gateway = gateway(&upstream);
    let admin = format!("http://{}", gateway.admin_address());
    let folder = tempfile::tempdir().unwrap();
    let test = "name: beta users\nrequest: {host: shop.test, headers: {x-user: beta}}\nexpect: {destination: two.test}\n---\n\
                name: others\nrequest: {host: shop.test}\nexpect: {destination: two.test}\n";
    fs::write(folder.path().join("a.test.yaml"), test).unwrap();
    let ran = portolan(folder.path(), &["test", "--admin", &admin, "a.test.yaml", "--coverage"]);
    let told = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{told}{}", text(&ran.stderr));
    assert!(told.contains("ok    beta users") && told.contains("FAIL  others"), "{told}");
    assert!(told.contains("2 of 3 rules are reached"), "{told}");
}

#[test]
fn diff_lists_remembered_requests_that_would_go_elsewhere() {
    let upstream = Upstream::start("u");
    let gateway = gateway(&upstream);
    let get = |path: &str, headers: &[(&str, &str)]| {
        let request = headers.iter().fold(Request::get("shop.test", path), |r, (name, value)| r.header(name, value));
        assert_eq!(send(gateway.address(), &request).unwrap().status, 200);
    };
    get("/same?token=hidden", &[]);
    for _ in 0..3 {
        get("/moves?a=b", &[("x-user", "beta"), ("authorization", "Bearer hidden"), ("cookie", "hidden")]);
    }
    let remembered = gateway.admin("/traffic");
    assert!(!remembered.text().contains("hidden"), "{}", remembered.text());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.yaml"), ANY_GATEWAY).unwrap();
    fs::write(folder.path().join("shop.yaml"), files(&upstream, "one")).unwrap();
    let admin = format!("http://{}", gateway.admin_address());
    let map = format!("80={}", gateway.address().port());
    let arguments = ["diff", "--admin", &admin, ".", "--port-map", &map, "--traffic", "--exit-code"];
    let ran = portolan(folder.path(), &arguments);
    let told = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(1), "{told}{}", text(&ran.stderr));
    assert!(told.contains("destination: two.test -> one.test"), "{told}");
    assert!(told.contains("traffic: 1 of 2 remembered requests would go elsewhere"), "{told}");
    assert!(told.contains("       3  GET shop.test/moves x-user=beta  two.test -> one.test\n"), "{told}");
}
