//! Mirrors: copies of requests for other clusters, which cost the request nothing.

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::{Seen, Upstream};

const ANSWER: &[u8] = b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nbad";

fn mirror() -> Upstream {
    Upstream::scripted("mirror", Box::new(|_| ANSWER.to_vec()))
}

fn gateway(rules: &str, app: &Upstream, mirror: std::net::SocketAddr) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("mirror.yaml", service_entry("mirror.test", &[("v1", mirror)]))
        .start()
}

fn await_seen(mirror: &Upstream, count: usize) -> Vec<Seen> {
    await_true("the copies", || mirror.seen().len() >= count);
    mirror.seen()
}

fn header(seen: &Seen, name: &str) -> Option<String> {
    seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

const BY_SHARE: &str = "\
- match: [{uri: {prefix: /none}}]
  route: [{destination: {host: app.test}}]
  mirror: {host: mirror.test}
  mirrorPercentage: {value: 0}
- match: [{uri: {prefix: /half}}]
  route: [{destination: {host: app.test}}]
  mirror: {host: mirror.test}
  mirrorPercent: 50
- match: [{uri: {prefix: /missing}}]
  route: [{destination: {host: app.test}}]
  mirror: {host: mirror.test, subset: v9}
- route: [{destination: {host: app.test}}]
  rewrite: {uri: /new}
  headers: {request: {set: {x-set: one}}}
  mirror: {host: mirror.test}
";

#[test]
fn a_copy_is_the_request_as_the_upstream_gets_it_and_its_answer_is_dropped() {
    let (app, mirror) = (Upstream::start("app"), mirror());
    let gateway = gateway(BY_SHARE, &app, mirror.address());
    let request = Request::new("POST", "shop.test", "/old?q=1").body("some body");
    let response = gateway.send(&request);
    assert_eq!((response.status, response.upstream()), (200, "app"));
    let seen = await_seen(&mirror, 1).remove(0);
    assert_eq!((seen.line.as_str(), seen.body.as_slice()), ("POST /newold?q=1", b"some body".as_slice()));
    assert_eq!(header(&seen, "host").as_deref(), Some("shop.test"), "no -shadow");
    assert_eq!(header(&seen, "x-set").as_deref(), Some("one"));
    assert_eq!(header(&seen, "x-envoy-internal").as_deref(), Some("true"));
    let forwarded = response.seen("x-forwarded-for").unwrap();
    assert_eq!(header(&seen, "x-forwarded-for"), Some(format!("{forwarded},127.0.0.1")), "and the gateway itself");
    assert_eq!(header(&seen, "x-request-id"), response.seen("x-request-id"));
    assert_eq!(header(&seen, "content-length").as_deref(), Some("9"));
    let metric = |name, cluster: &str| gateway.metric(name, &[cluster]);
    await_true("the copy to be counted", || metric("envoy_cluster_upstream_rq_completed", "mirror.test") == 1.0);
    assert_eq!(metric("envoy_cluster_upstream_rq_total", "mirror.test"), 1.0);
    gateway.await_access("/old");
    gateway.get("h", "/last");
    gateway.await_access("/last");
    let access = std::fs::read_to_string(gateway.folder().join("access.log")).unwrap();
    assert_eq!(access.lines().count(), 2, "copies have no line: {access}");
}

#[test]
fn a_percentage_says_how_many_are_copied() {
    let (app, mirror) = (Upstream::start("app"), mirror());
    let gateway = gateway(BY_SHARE, &app, mirror.address());
    let mut connection = gateway.connect();
    let mut send = |target: &str, count| {
        for _ in 0..count {
            assert_eq!(connection.request(&Request::get("h", target)).unwrap().status, 200);
        }
    };
    send("/none", 50);
    send("/missing", 5);
    send("/all", 1);
    assert!(await_seen(&mirror, 1).iter().all(|seen| seen.line.contains("/newall")));
    send("/half", 200);
    send("/last", 1);
    let done = |seen: &[Seen]| seen.iter().any(|seen| seen.line.contains("/newlast"));
    await_true("the last copy", || done(&mirror.seen()) && mirror.seen().len() > 60);
    let half = mirror.seen().iter().filter(|seen| seen.line.contains("/half")).count();
    assert!((65..=135).contains(&half), "{half}");
}

#[test]
fn several_mirrors_get_a_copy_each() {
    let (app, one, two) = (Upstream::start("app"), mirror(), mirror());
    let rules = "\
- route: [{destination: {host: app.test}}]
  mirrors: [{destination: {host: mirror.test}}, {destination: {host: two.test}, percentage: {value: 100}}]
";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("mirror.yaml", service_entry("mirror.test", &[("v1", one.address())]))
        .file("two.yaml", service_entry("two.test", &[("v1", two.address())]))
        .start();
    let body = vec![b'x'; 300_000];
    let response = gateway.send(&Request::new("POST", "h", "/").order("sink").body(body.clone()));
    assert_eq!(response.text(), "300000");
    for mirror in [&one, &two] {
        assert!(await_seen(mirror, 1)[0].body == body);
    }
}

#[test]
fn a_mirror_that_does_not_answer_or_refuses_costs_the_request_nothing() {
    // Accepts and never reads: its copy is dropped when a mebibyte waits.
    let black_hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let app = Upstream::start("app");
    let gateway = gateway(BY_SHARE, &app, black_hole.local_addr().unwrap());
    let size = 32 << 20;
    let before = gateway.resident_bytes();
    let response = gateway.send(&Request::new("POST", "h", "/big").order("sink").body(vec![b'x'; size]));
    assert_eq!(response.text(), size.to_string());
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    drop(black_hole);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        assert_eq!(connection.request(&Request::get("h", "/refused")).unwrap().status, 200);
    }
}
