//! Endpoints that DNS names.

use std::net::UdpSocket;

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::dns::DnsServer;
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

const ANSWER: &str = "- directResponse: {status: 204}\n";

#[test]
fn a_destination_that_no_resource_names_is_resolved_by_dns() {
    let app = Upstream::start("app");
    let rule = format!("- route: [{{destination: {{host: localhost, port: {{number: {}}}}}}}]\n", app.address().port());
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(&rule)).start();
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
}

#[test]
fn a_name_in_the_file_of_hosts_is_resolved_without_dns() {
    let app = Upstream::start("app");
    let silent = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    silent.set_nonblocking(true).unwrap();
    let known = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut names = known.lines().filter_map(|line| line.strip_prefix("127.0.0.1")).flat_map(str::split_whitespace);
    let name = names.rfind(|name| !name.starts_with('#')).unwrap_or("localhost");
    let rule = format!("- route: [{{destination: {{host: {name}, port: {{number: {}}}}}}}]\n", app.address().port());
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(&rule))
        .argument("--dns-server")
        .argument(silent.local_addr().unwrap().to_string())
        .start();
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
    let asked = silent.recv(&mut [0; 512]).map_err(|error| error.kind());
    assert_eq!(asked, Err(std::io::ErrorKind::WouldBlock), "{name}: DNS was asked");
}

#[test]
fn a_destination_that_is_the_gateway_itself_is_503_at_once() {
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(ANSWER)).start();
    assert_eq!(gateway.get("h", "/").status, 204);
    let own = gateway.address().port();
    let rule = format!("- route: [{{destination: {{host: localhost, port: {{number: {own}}}}}}}]\n");
    gateway.write("routes.yaml", &routes(&rule));
    let response = gateway.await_answer("h", "/", |response| response.status != 204);
    assert_eq!((response.status, response.text().as_str()), (503, ""));
    gateway.await_access("503 NC cluster_not_found");
}

#[test]
fn a_service_entry_with_names_resolves_them() {
    let app = Upstream::start("app");
    let entry = service_entry("app.test", &[("v1", app.address())]);
    let entry = entry.replace("resolution: STATIC", "resolution: DNS").replace("127.0.0.1", "localhost");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start();
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
}

#[test]
fn a_host_that_neither_resources_nor_dns_know_is_503_with_an_empty_body_and_nc() {
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: no-such-host.invalid, port: {number: 80}}}]\n"))
        .start();
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, ""));
    let line = gateway.await_access(" 503 ");
    assert!(line.contains("503 NC cluster_not_found - "), "{line}");
    assert!(!line.contains(" outbound|"), "a cluster that is none is not named, as in Envoy: {line}");
}

/// A gateway whose only service is the name `app.test` at this port, resolved by this server.
fn named(dns: &DnsServer, resolution: &str, port: u16) -> Gateway {
    let entry = service_entry("app.test", &[("v1", ([127, 0, 0, 1], port).into())]);
    let entry = entry.replace("resolution: STATIC", &format!("resolution: {resolution}"));
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry.replace("address: 127.0.0.1", "address: backend.test"))
        .argument("--dns-server")
        .argument(dns.address().to_string())
        .start()
}

/// The endpoints of the service as `/clusters` has them.
fn endpoints(gateway: &Gateway, port: u16) -> Vec<String> {
    let text = gateway.admin("/clusters").text();
    let lines = text.lines().filter(|line| line.ends_with("::health_flags::healthy"));
    let address = |line: &str| Some(line.split("::").find(|part| part.ends_with(&format!(":{port}")))?.to_owned());
    lines.filter_map(address).collect()
}

#[test]
fn answers_are_asked_for_again_by_their_ttl_and_stale_ones_stay_while_dns_fails() {
    let app = Upstream::start("app");
    let port = app.address().port();
    let dns = DnsServer::start();
    dns.set("backend.test", &["127.0.0.9", "127.0.0.8"], 1);
    let gateway = named(&dns, "DNS", port);
    await_true("both addresses", || {
        endpoints(&gateway, port) == [format!("127.0.0.8:{port}"), format!("127.0.0.9:{port}")]
    });
    dns.set("backend.test", &["127.0.0.1"], 1);
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
    dns.fail("backend.test");
    let name = format!("outbound|80||app.test::backend.test:{port}");
    await_true("the failure in /clusters", || {
        let text = gateway.admin("/clusters").text();
        let says = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{name}::{key}::")));
        assert_eq!((says("source"), says("addresses")), (Some("dns"), Some("1")), "{text}");
        assert!(says("age_s").is_some_and(|age| age.parse::<u64>().is_ok()), "{text}");
        says("error").is_some_and(|error| error != "-")
    });
    assert_eq!(gateway.get("h", "/").status, 200, "what is known stays");
    dns.set("backend.test", &["127.0.0.7"], 1);
    await_true("DNS to recover", || endpoints(&gateway, port) == [format!("127.0.0.7:{port}")]);
}

#[test]
fn the_mesh_says_when_a_name_that_fails_is_asked_for_again() {
    let dns = DnsServer::start();
    dns.fail("backend.test");
    let gateway = named(&dns, "DNS", 80);
    gateway.write(
        "mesh.yaml",
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh}\n\
         spec: {meshConfig: {dnsRefreshRate: 0.05s}}\n",
    );
    // Without it there are two questions in ten seconds.
    await_true("many failures", || gateway.metric("envoy_cluster_update_failure", &[]) > 8.0);
}

#[test]
fn a_name_that_fails_at_first_is_served_once_dns_knows_it() {
    let app = Upstream::start("app");
    let port = app.address().port();
    let dns = DnsServer::start();
    dns.fail("backend.test");
    let gateway = named(&dns, "DNS", port);
    let name = || {
        let body = gateway.admin("/clusters?format=json").body;
        let all: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        all["clusters"][0]["names"][0].clone()
    };
    await_true("the failure", || !name()["error"].is_null());
    let failed = name();
    assert_eq!((&failed["source"], &failed["addresses"], &failed["age_s"]), (&"dns".into(), &0.into(), &().into()));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
    dns.set("backend.test", &["127.0.0.1"], 60);
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
    let known = name();
    assert!(known["error"].is_null() && known["age_s"].is_u64() && known["addresses"] == 1, "{known}");
}

#[test]
fn dns_round_robin_uses_the_first_address_of_the_newest_answer() {
    let app = Upstream::start("app");
    let port = app.address().port();
    let dns = DnsServer::start();
    dns.set("backend.test", &["127.0.0.9", "127.0.0.1"], 1);
    let gateway = named(&dns, "DNS_ROUND_ROBIN", port);
    await_true("one address", || endpoints(&gateway, port) == [format!("127.0.0.9:{port}")]);
    dns.set("backend.test", &["127.0.0.1", "127.0.0.9"], 1);
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
    assert_eq!(endpoints(&gateway, port), [format!("127.0.0.1:{port}")]);
}

#[test]
fn each_request_goes_to_the_host_that_it_names_at_the_port_of_the_service_entry() {
    let app = Upstream::start("app");
    let dns = DnsServer::start();
    dns.set("a.example.test", &["127.0.0.1"], 60);
    dns.set("b.example.test", &["127.0.0.2"], 60);
    dns.set("elsewhere.test", &["127.0.0.1"], 60);
    let gateway = dynamic(&dns, app.address().port());
    for host in ["a.example.test", "A.example.test:9"] {
        let response = gateway.get(host, "/");
        assert_eq!((response.status, response.upstream()), (200, "app"), "{host}: {}", gateway.log());
    }
    let line = gateway.await_access(" 200 ");
    let cluster = "outbound|80||*.example.test";
    assert!(line.contains(&format!("\"{}\" {cluster}", app.address())), "{line}");
    // Nobody listens at that address: another host is another endpoint.
    let text = gateway.get("b.example.test", "/").text();
    assert!(text.ends_with("reset reason: remote connection failure"), "{text}");
    for host in ["no.example.test", "elsewhere.test", "example.test", "127.0.0.1"] {
        let response = gateway.get(host, "/");
        assert_eq!((response.status, response.text().as_str()), (503, "DNS resolution failure"), "{host}");
    }
    let line = gateway.await_access("\"elsewhere.test\"");
    assert!(line.contains(" 503 DF dns_resolution_failure - ") && line.contains(cluster), "{line}");
}

#[test]
fn a_host_that_dns_learns_of_later_is_found_then() {
    let app = Upstream::start("app");
    let dns = DnsServer::start();
    let gateway = dynamic(&dns, app.address().port());
    assert_eq!(gateway.get("late.example.test", "/").status, 503);
    dns.set("late.example.test", &["127.0.0.1"], 60);
    gateway.await_answer("late.example.test", "/", |response| response.status == 200);
}

#[test]
fn a_copy_goes_to_the_host_that_its_request_names() {
    let app = Upstream::start("app");
    let mirror = Upstream::scripted("mirror", Box::new(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    let dns = DnsServer::start();
    dns.set("a.example.test", &["127.0.0.1"], 60);
    let rules = "- route: [{destination: {host: app.test}}]\n  mirror: {host: '*.example.test'}\n";
    let gateway = all_hosts(&dns, mirror.address().port(), rules)
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start();
    // Nothing has asked for this name before: the copy waits for DNS by itself.
    assert_eq!(gateway.get("a.example.test", "/copied").upstream(), "app");
    await_true("the copy", || mirror.seen().len() == 1);
    assert_eq!(mirror.seen()[0].line, "GET /copied");
    for host in ["no.example.test", "127.0.0.1", "elsewhere.test"] {
        assert_eq!(gateway.get(host, "/lost").status, 200, "{host}");
    }
    let cluster = "outbound|80||*.example.test";
    gateway.await_metric("envoy_cluster_upstream_cx_none_healthy", &[cluster], 3.0);
    assert_eq!(mirror.seen().len(), 1, "no host but the ServiceEntry's");
}

/// A gateway that sends each request to its own host, of `*.example.test`, at this port.
fn dynamic(dns: &DnsServer, port: u16) -> Gateway {
    all_hosts(dns, port, "- route: [{destination: {host: '*.example.test'}}]\n").start()
}

fn all_hosts(dns: &DnsServer, port: u16, rules: &str) -> Options {
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: all}}\nspec:\n  \
         hosts: ['*.example.test']\n  resolution: DYNAMIC_DNS\n  \
         ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}]\n"
    );
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("all.yaml", entry)
        .argument("--dns-server")
        .argument(dns.address().to_string())
}
