//! `sticky-canary` between real sockets.

use super::plugin;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// Whoever has the header goes to the new version.
const ROUTES: &str = "\
- match: [{headers: {x-canary: {exact: 'true'}}}]
  route: [{destination: {host: new.test}}]
- route: [{destination: {host: old.test}}]
";

fn start(old: &Upstream, new: &Upstream, config: &str) -> Gateway {
    let options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(ROUTES))
        .file("old.yaml", service_entry("old.test", &[("v1", old.address())]))
        .file("new.yaml", service_entry("new.test", &[("v1", new.address())]))
        .file("plugin.yaml", plugin("sticky-canary", config));
    let gateway = options.start();
    super::await_running(&gateway);
    gateway
}

const COOKIE: &str = "sticky: {cookie: {name: who, ttl: 24h}}\nsecret: 0123456789abcdef\n";

#[test]
fn a_cookie_keeps_its_user_on_one_version() {
    let (old, new) = (Upstream::start("old"), Upstream::start("new"));
    let gateway = start(&old, &new, &format!("percent: 50\n{COOKIE}"));
    let mut seen = Vec::new();
    for _ in 0..30 {
        let first = gateway.get("h", "/");
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..3 {
            let again = gateway.send(&Request::get("h", "/").header("cookie", &cookie));
            assert_eq!((again.upstream(), again.header("set-cookie")), (first.upstream(), None));
        }
        seen.push(first.upstream().to_owned());
    }
    assert!(["old", "new"].iter().all(|version| seen.iter().any(|name| name == version)), "{seen:?}");
    let canary = gateway.metric("sticky_canary_requests", &["variant=\"canary\""]);
    assert_eq!(canary, new.requests() as f64);
}

#[test]
fn clients_cannot_choose_and_testers_can() {
    let (old, new) = (Upstream::start("old"), Upstream::start("new"));
    let force = "force: [{header: x-tester, value: s3cret}]\n";
    let gateway = start(&old, &new, &format!("percent: 0\n{force}{COOKIE}"));
    let chosen =
        |name: &str, value: &str| gateway.send(&Request::get("h", "/").header(name, value)).upstream().to_owned();
    assert_eq!(chosen("x-canary", "true"), "old", "the route that this header had chosen is chosen anew");
    assert_eq!(chosen("x-tester", "guess"), "old");
    assert_eq!(chosen("x-tester", "s3cret"), "new");
    gateway.replace("plugin.yaml", plugin("sticky-canary", &format!("percent: 100\n{COOKIE}")));
    gateway.await_answer("h", "/", |response| response.upstream() == "new");
    gateway.replace("plugin.yaml", plugin("sticky-canary", &format!("enabled: false\npercent: 100\n{force}{COOKIE}")));
    gateway.await_answer("h", "/", |response| response.upstream() == "old");
    assert_eq!(chosen("x-tester", "s3cret"), "old", "the switch beats all");
}
