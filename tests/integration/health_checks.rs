//! Active health checks: the annotation `portolan.dev/health-check` of DestinationRules and ServiceEntries.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::dns::DnsServer;
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::load::Load;
use crate::support::ports::Port;
use crate::support::secure::{self, self_signed};
use crate::support::tcp::Server;
use crate::support::upstream::{Seen, Upstream};

const CLUSTER: &str = "outbound|80||app.test";
const OF_CLUSTER: &[&str] = &["envoy_cluster_name=\"outbound|80||app.test\""];

/// A backend that answers `/healthz` as the test wants, and anything else with 200 and its name.
struct Backend {
    upstream: Upstream,
    health: Arc<AtomicU16>,
}

impl Backend {
    fn start(name: &'static str) -> Self {
        let health = Arc::new(AtomicU16::new(200));
        let status = health.clone();
        let answer = move |seen: &Seen| {
            let status = if seen.line.contains("/healthz") { status.load(Ordering::SeqCst) } else { 200 };
            format!("HTTP/1.1 {status} Said\r\nx-upstream: {name}\r\ncontent-length: 0\r\n\r\n").into_bytes()
        };
        Self { upstream: Upstream::scripted(name, Box::new(answer)), health }
    }

    fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    fn set(&self, status: u16) {
        self.health.store(status, Ordering::SeqCst);
    }

    /// How often it was checked.
    fn checks(&self) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.line.contains("/healthz")).count()
    }
}

/// A DestinationRule with this check and the rest of its `spec`, in flow style. Unless it says so itself, a check has all the
/// time that a busy machine may need.
fn checked(check: &str, spec: &str) -> String {
    let check = if check.contains("timeout") { check.to_owned() } else { check.replacen('{', "{timeout: 15s, ", 1) };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: app\n  annotations:\n    \
         portolan.dev/health-check: |\n      {check}\nspec: {{host: app.test{spec}}}\n"
    )
}

fn options(endpoints: &[(&str, SocketAddr)], rule: &str) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", endpoints))
        .file("rule.yaml", rule)
}

/// A line of an endpoint in `/clusters`.
fn told(gateway: &Gateway, cluster: &str, address: SocketAddr, key: &str) -> String {
    let prefix = format!("{cluster}::{address}::{key}::");
    let text = gateway.admin("/clusters").text();
    text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
}

fn await_flags(gateway: &Gateway, address: SocketAddr, flags: &str) {
    await_true(&format!("{address} to be {flags}"), || told(gateway, CLUSTER, address, "health_flags") == flags);
}

/// Who answers a number of requests.
fn answers(gateway: &Gateway) -> Vec<String> {
    let mut names: Vec<String> = (0..24).map(|_| gateway.get("h", "/").upstream().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn an_endpoint_whose_check_gets_503_is_left_out_at_once_and_comes_back() {
    let (one, two) = (Backend::start("one"), Backend::start("two"));
    let rule = checked("{http: {path: /healthz, host: check.test}, interval: 30ms}", "");
    let gateway = options(&[("v1", one.address()), ("v2", two.address())], &rule).start();
    assert_eq!(gateway.get("h", "/").status, 200, "the first checks are over before anything is served");
    await_flags(&gateway, one.address(), "healthy");
    one.set(503);
    await_flags(&gateway, one.address(), "/failed_active_hc");
    await_true("all requests at the other one", || answers(&gateway) == ["two"]);
    assert_eq!(told(&gateway, CLUSTER, one.address(), "health_check_failure"), "status 503");
    gateway.await_metric("envoy_cluster_membership_healthy", OF_CLUSTER, 1.0);
    gateway.await_metric("envoy_cluster_health_check_healthy", OF_CLUSTER, 1.0);
    assert_eq!(gateway.metric("envoy_cluster_outlier_detection_ejections_active", OF_CLUSTER), 0.0);
    assert!(gateway.metric("envoy_cluster_health_check_failure", OF_CLUSTER) >= 1.0);
    assert_eq!(gateway.metric("envoy_cluster_health_check_network_failure", OF_CLUSTER), 0.0);
    gateway.await_log("endpoint is unhealthy");
    one.set(200);
    await_flags(&gateway, one.address(), "healthy");
    await_true("both to answer", || answers(&gateway) == ["one", "two"]);
    gateway.await_metric("envoy_cluster_membership_healthy", OF_CLUSTER, 2.0);
    let seen = one.upstream.seen();
    let check = seen.iter().find(|seen| seen.line == "GET /healthz").expect("a check");
    let header = |name: &str| check.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!((header("host"), header("user-agent")), (Some("check.test"), Some("Envoy/HC")));
    let (checks, connections) = (one.checks(), one.upstream.connections());
    assert!(checks > 4 && connections < checks, "{checks} checks on {connections} connections: they are kept");
}

#[test]
fn a_tcp_check_follows_whether_somebody_listens() {
    let port = Port::free();
    let rule = checked("{tcp: {}, interval: 30ms, unhealthy_threshold: 2}", ", trafficPolicy: {outlierDetection: {}}");
    let gateway = options(&[("v1", port.address())], &rule).start();
    await_flags(&gateway, port.address(), "/failed_active_hc");
    assert!(told(&gateway, CLUSTER, port.address(), "health_check_failure").contains("Connection refused"));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
    let listener = TcpListener::bind(port.address()).unwrap();
    await_flags(&gateway, port.address(), "healthy");
    drop(listener);
    await_flags(&gateway, port.address(), "/failed_active_hc");
    assert!(gateway.metric("envoy_cluster_health_check_network_failure", OF_CLUSTER) >= 2.0);
}

#[test]
fn an_endpoint_that_never_answers_fails_by_the_timeout() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let good = Backend::start("good");
    let rule = checked("{http: {path: /healthz}, interval: 30ms, timeout: 200ms}", "");
    let gateway = options(&[("v1", address), ("v2", good.address())], &rule).start();
    await_flags(&gateway, address, "/failed_active_hc/active_hc_timeout");
    assert_eq!(told(&gateway, CLUSTER, address, "health_check_failure"), "no answer within 200 ms");
    assert_eq!(answers(&gateway), ["good"]);
}

#[test]
fn a_grpc_check_follows_the_status_of_the_service() {
    let server = GrpcServer::start();
    // HTTP/2 whatever the port says: gRPC knows nothing else.
    let rule = checked("{grpc: {service_name: test.Echo}, interval: 30ms}", "");
    let gateway = options(&[("v1", server.address())], &rule).start();
    await_flags(&gateway, server.address(), "healthy");
    server.set_serving(2);
    await_flags(&gateway, server.address(), "/failed_active_hc");
    assert_eq!(told(&gateway, CLUSTER, server.address(), "health_check_failure"), "NOT_SERVING");
    server.set_serving(1);
    await_flags(&gateway, server.address(), "healthy");
    assert_eq!(server.connections(), 1, "the connection is kept");
    gateway.replace("rule.yaml", checked("{grpc: {service_name: other}, interval: 30ms}", ""));
    await_flags(&gateway, server.address(), "/failed_active_hc");
    assert_eq!(told(&gateway, CLUSTER, server.address(), "health_check_failure"), "grpc-status 5");
}

#[test]
fn with_too_few_healthy_endpoints_all_are_used_unless_outlier_detection_says_otherwise() {
    let (one, two) = (Backend::start("one"), Backend::start("two"));
    one.set(500);
    two.set(500);
    let check = "{http: {path: /healthz}, interval: 30ms}";
    let gateway = options(&[("v1", one.address()), ("v2", two.address())], &checked(check, "")).start();
    await_flags(&gateway, one.address(), "/failed_active_hc");
    await_flags(&gateway, two.address(), "/failed_active_hc");
    await_true("both in panic", || answers(&gateway) == ["one", "two"]);
    let strict = ", trafficPolicy: {outlierDetection: {minHealthPercent: 0}}";
    gateway.replace("rule.yaml", checked(check, strict));
    gateway.await_answer("h", "/", |response| response.status == 503 && response.text() == "no healthy upstream");
    assert!(gateway.await_access(" 503 UH ").contains("no_healthy_upstream"));
}

#[test]
fn a_reload_keeps_what_is_known_and_checks_what_is_new() {
    let (one, two, three) = (Backend::start("one"), Backend::start("two"), Backend::start("three"));
    one.set(503);
    let rule = checked("{http: {path: /healthz}, interval: 1h}", "");
    let endpoints = [("v1", one.address()), ("v2", two.address()), ("v3", three.address())];
    let gateway = options(&endpoints[..2], &rule).start();
    await_flags(&gateway, one.address(), "/failed_active_hc");
    one.set(200);
    // Lines move, and an endpoint comes: neither is a reason to check the others again.
    gateway.replace("rule.yaml", format!("# moved\n\n{rule}"));
    gateway.replace("app.yaml", service_entry("app.test", &endpoints));
    await_flags(&gateway, three.address(), "healthy");
    await_flags(&gateway, one.address(), "/failed_active_hc");
    await_true("the others to answer", || answers(&gateway) == ["three", "two"]);
    assert_eq!((one.checks(), two.checks(), three.checks()), (1, 1, 1));
    // Other settings start from what is known.
    gateway.replace("rule.yaml", checked("{http: {path: /healthz}, interval: 2h, healthy_threshold: 2}", ""));
    await_true("a check by the new settings", || one.checks() == 2);
    await_flags(&gateway, one.address(), "/failed_active_hc");
    // Without the annotation nobody asks, and everybody serves.
    gateway.replace("rule.yaml", "# gone\n");
    await_flags(&gateway, one.address(), "healthy");
    await_true("all to answer", || answers(&gateway).len() == 3);
    let series = "envoy_cluster_health_check_attempt{";
    await_true("its series to end", || !gateway.admin("/stats/prometheus").text().contains(series));
    // What has served without checks serves on until its first one.
    gateway.replace("rule.yaml", rule);
    await_true("checks again", || one.checks() == 3 && two.checks() == 3);
    await_flags(&gateway, one.address(), "healthy");
}

/// Without panic, and by this policy.
fn no_request_is_lost(policy: &str) {
    let (one, two, three) = (Backend::start("one"), Backend::start("two"), Backend::start("three"));
    let spec = format!(
        ", trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 0, minHealthPercent: 0}}, loadBalancer: {policy}}}"
    );
    let rule = |interval: &str| checked(&format!("{{http: {{path: /healthz}}, interval: {interval}}}"), &spec);
    let without = rule("1s").replace("portolan.dev/health-check", "example.com/off");
    let endpoints = [("v1", one.address()), ("v2", two.address()), ("v3", three.address())];
    let gateway = options(&endpoints[..2], &without).start();
    let load = Load::start(gateway.address(), &Request::get("h", "/").header("x-user", "ada"), 4);
    load.await_more(50);
    gateway.replace("rule.yaml", rule("20ms"));
    await_true("checks", || one.checks() > 1 && two.checks() > 1);
    for _ in 0..3 {
        for sick in [&one, &two] {
            sick.set(503);
            await_flags(&gateway, sick.address(), "/failed_active_hc");
            load.await_more(50);
            sick.set(200);
            await_flags(&gateway, sick.address(), "healthy");
        }
    }
    gateway.replace("rule.yaml", rule("30ms"));
    gateway.replace("app.yaml", service_entry("app.test", &endpoints));
    await_flags(&gateway, three.address(), "healthy");
    load.await_more(50);
    gateway.replace("rule.yaml", &without);
    await_true("no checks", || told(&gateway, CLUSTER, one.address(), "health_check_age_ms").is_empty());
    load.await_more(50);
    load.stop().assert_no_failures();
}

#[test]
fn no_request_is_lost_while_checks_come_find_faults_change_and_go() {
    no_request_is_lost("{simple: LEAST_REQUEST}");
}

#[test]
fn no_request_is_lost_by_a_consistent_choice_either() {
    no_request_is_lost("{consistentHash: {httpHeaderName: x-user}}");
}

#[test]
fn a_cluster_that_leaves_the_configuration_is_not_asked_any_more() {
    let silent = Server::start();
    let rule = checked("{http: {path: /healthz}, timeout: 1h}", "");
    let gateway = options(&[("v1", silent.address)], &rule).start();
    let mut check = silent.accept();
    gateway.replace("routes.yaml", routes("- directResponse: {status: 204}\n"));
    let mut head = Vec::new();
    check.read_to_end(&mut head).expect("the end of the connection");
    assert!(head.starts_with(b"GET /healthz HTTP/1.1\r\n"), "{head:?}");
}

#[test]
fn addresses_of_dns_are_checked_as_they_come_and_keep_their_health_while_dns_fails() {
    let app = Backend::start("app");
    let port = app.address().port();
    let dns = DnsServer::start();
    dns.set("backend.test", &["127.0.0.9"], 1);
    let entry = service_entry("app.test", &[("v1", app.address())]).replace("STATIC", "DNS");
    let entry = entry.replace("address: 127.0.0.1", "address: backend.test");
    let rule = checked("{http: {path: /healthz}, interval: 30ms}", "");
    let gateway = options(&[], &rule)
        .file("app.yaml", entry)
        .argument("--dns-server")
        .argument(dns.address().to_string())
        .start();
    let bad = SocketAddr::from(([127, 0, 0, 9], port));
    await_flags(&gateway, bad, "/failed_active_hc");
    dns.set("backend.test", &["127.0.0.1", "127.0.0.9"], 1);
    await_flags(&gateway, app.address(), "healthy");
    dns.fail("backend.test");
    let failing = format!("{CLUSTER}::backend.test:{port}::error::");
    await_true("DNS to fail", || {
        let text = gateway.admin("/clusters").text();
        text.lines().any(|line| line.strip_prefix(&failing).is_some_and(|error| error != "-"))
    });
    await_flags(&gateway, bad, "/failed_active_hc");
    assert_eq!(answers(&gateway), ["app"]);
}

#[test]
fn subsets_share_the_check_of_an_endpoint() {
    let one = Backend::start("one");
    let rule = checked(
        "{http: {path: /healthz}, interval: 1h, no_traffic_interval: 1h}",
        ", subsets: [{name: v1, labels: {version: v1}}]",
    );
    let both = "- match: [{uri: {prefix: /v1}}]\n  route: [{destination: {host: app.test, subset: v1}}]\n- route: [{destination: {host: app.test}}]\n";
    let gateway = options(&[("v1", one.address())], &rule).file("routes.yaml", routes(both)).start();
    for cluster in [CLUSTER, "outbound|80|v1|app.test"] {
        await_true("both to know", || told(&gateway, cluster, one.address(), "health_flags") == "healthy");
        let label = format!("envoy_cluster_name=\"{cluster}\"");
        gateway.await_metric("envoy_cluster_health_check_success", &[&label], 1.0);
    }
    assert_eq!(one.checks(), 1);
}

#[test]
fn a_service_entry_has_checks_of_its_own_and_another_port_may_be_asked() {
    let (app, health) = (Upstream::start("app"), Backend::start("health"));
    health.set(404);
    let check =
        format!("{{http: {{path: /healthz}}, port: {}, interval: 30ms, timeout: 15s}}", health.address().port());
    let entry = service_entry("app.test", &[("v1", app.address())]);
    let entry = entry
        .replace("metadata:\n", &format!("metadata:\n  annotations:\n    portolan.dev/health-check: \"{check}\"\n"));
    let gateway = options(&[], "# none\n").file("app.yaml", entry).start();
    await_flags(&gateway, app.address(), "/failed_active_hc");
    health.set(200);
    await_flags(&gateway, app.address(), "healthy");
}

#[test]
fn checks_go_over_the_clusters_own_tls() {
    let backend = secure::Options::tls(&self_signed(&["backend.test"]), None).start();
    let tls = |sni: &str| {
        let policy = format!(", trafficPolicy: {{tls: {{mode: SIMPLE, sni: {sni}, insecureSkipVerify: true}}}}");
        checked("{http: {path: /healthz}, interval: 30ms}", &policy)
    };
    let gateway = options(&[("v1", backend.address())], &tls("backend.test")).start();
    await_flags(&gateway, backend.address(), "healthy");
    assert!(backend.handshakes() >= 1);
    // A plain check of a port with TLS gets no answer that it could read.
    gateway.replace("rule.yaml", checked("{http: {path: /healthz}, interval: 30ms}", ""));
    await_flags(&gateway, backend.address(), "/failed_active_hc");
}

#[test]
fn a_success_ends_an_ejection() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let spec =
        ", trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 1h, maxEjectionPercent: 100}}";
    let rule = checked("{tcp: {}, interval: 30ms}", spec);
    let gateway = options(&[("v1", one.address()), ("v2", two.address())], &rule).start();
    one.always("status 500");
    gateway.await_answer("h", "/", |response| response.status == 500);
    one.always("");
    await_true("an ejection", || {
        gateway.metric("envoy_cluster_outlier_detection_ejections_enforced_total", OF_CLUSTER) >= 1.0
    });
    await_flags(&gateway, one.address(), "healthy");
    await_true("both to answer", || answers(&gateway) == ["one", "two"]);
}

#[test]
fn explain_names_the_check_and_what_it_says() {
    let (one, two) = (Backend::start("one"), Backend::start("two"));
    one.set(503);
    let rule = checked("{http: {path: /healthz}, interval: 30ms}", "");
    let gateway = options(&[("v1", one.address()), ("v2", two.address())], &rule).start();
    await_flags(&gateway, one.address(), "/failed_active_hc");
    let url = format!("http://h:{}/", gateway.address().port());
    let admin = format!("http://{}", gateway.admin_address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    let output = command.args(["explain", "--admin", &admin, "--url", &url]).env("NO_COLOR", "1").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let failing = format!("{} fails its health check: status 503", one.address());
    assert!(told.contains(&failing), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        told.contains("GET /healthz every 30 ms, within 15 s, unhealthy after 3 failures, healthy after 1"),
        "{told}"
    );
}
