//! UDP listeners: datagrams of a source are a session with one endpoint, counted, told, bounded and kept over reloads.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::{DEADLINE, await_some, await_true};
use crate::takeover::{await_success, take_over, take_over_by};

const PREFIX: &str = r#"envoy_udp_prefix="outbound|9000||app.test""#;

/// Answers each datagram with its name and the datagram.
struct Echo {
    address: SocketAddr,
    sources: Arc<std::sync::Mutex<HashSet<SocketAddr>>>,
    datagrams: Arc<AtomicUsize>,
}

impl Echo {
    fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let (sources, datagrams) = (Arc::<std::sync::Mutex<HashSet<_>>>::default(), Arc::<AtomicUsize>::default());
        let (seen, count) = (sources.clone(), datagrams.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                seen.lock().unwrap().insert(from);
                count.fetch_add(1, Ordering::SeqCst);
                let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
                let _ = socket.send_to(&answer[..answer.len().min(65_507)], from);
            }
        });
        Self { address, sources, datagrams }
    }

    fn sources(&self) -> usize {
        self.sources.lock().unwrap().len()
    }
}

/// A Gateway with a server of UDP on port 9000, and one of TCP beside it; the rule in one line.
fn routes(annotations: &str, rule: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: udp, annotations: {{{annotations}}}}}
spec:
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}
  - {{port: {{number: 9000, name: udp, protocol: UDP}}, hosts: ['*']}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: udp}}
spec:
  hosts: ['*']
  gateways: [udp]
  tcp:
  - {rule}
"
    )
}

fn service(host: &str, endpoints: &[&Echo]) -> String {
    let endpoint =
        |echo: &&Echo| format!("{{address: {}, ports: {{udp: {}}}}}", echo.address.ip(), echo.address.port());
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  ports: [{{number: 9000, name: udp, protocol: UDP}}]
  resolution: STATIC
  endpoints: [{}]
",
        endpoints.join(", ")
    )
}

fn to(endpoints: &[&Echo]) -> String {
    routes("", "route: [{destination: {host: app.test}}]") + &service("app.test", endpoints)
}

struct Udp {
    gateway: Gateway,
    port: Port,
}

impl Udp {
    fn start(files: &str) -> Self {
        Self::start_with(Options::new(), files)
    }

    fn start_with(options: Options, files: &str) -> Self {
        let port = Port::free();
        let map = format!("9000={}", port.number());
        Self { gateway: options.file("udp.yaml", files).argument("--port-map").argument(map).start(), port }
    }

    /// A source of its own.
    fn client(&self) -> UdpSocket {
        client_of(self.port.address())
    }
}

fn client_of(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// A rule by which sessions of the service end.
fn idle_timeout(time: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: app}}
spec:
  host: app.test
  trafficPolicy: {{connectionPool: {{tcp: {{idleTimeout: {time}}}}}}}
"
    )
}

fn ask(client: &UdpSocket, datagram: &str) -> String {
    client.send(datagram.as_bytes()).unwrap();
    let mut buffer = vec![0; 65_536];
    let length = client.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// None when nothing comes in a moment.
fn try_ask(client: &UdpSocket, datagram: &str) -> Option<String> {
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.send(datagram.as_bytes()).ok()?;
    let mut buffer = [0; 1000];
    let length = client.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn datagrams_of_a_source_go_to_one_endpoint_and_back_and_are_counted() {
    let app = Echo::start("app");
    let udp = Udp::start(&to(&[&app]));
    let client = udp.client();
    assert_eq!(ask(&client, "one"), "app one");
    assert_eq!(ask(&client, ""), "app ");
    // An answer of the size that its sender gave.
    let large = "x".repeat(20_000);
    assert_eq!(ask(&client, &large).len(), 20_004);
    assert_eq!(app.sources(), 1, "a session has one socket");
    assert_eq!(ask(&udp.client(), "other"), "app other");
    assert_eq!(app.sources(), 2);
    let gateway = &udp.gateway;
    gateway.await_metric("envoy_udp_downstream_sess_total", &[PREFIX], 2.0);
    gateway.await_metric("envoy_udp_downstream_sess_active", &[PREFIX], 2.0);
    gateway.await_metric("envoy_udp_downstream_sess_rx_datagrams", &[PREFIX], 4.0);
    gateway.await_metric("envoy_udp_downstream_sess_rx_bytes", &[PREFIX], 20_008.0);
    gateway.await_metric("envoy_udp_downstream_sess_tx_datagrams", &[PREFIX], 4.0);
    gateway.await_metric("envoy_udp_downstream_sess_tx_bytes", &[PREFIX], 20_024.0);
    assert!(gateway.admin("/listeners").text().contains(&format!("udp_0.0.0.0_{}::", udp.port.number())));
}

#[test]
fn sessions_are_spread_over_endpoints_and_by_weight() {
    let (a, b, c) = (Echo::start("a"), Echo::start("b"), Echo::start("c"));
    let rule = "route: [{destination: {host: app.test}, weight: 50}, {destination: {host: c.test}, weight: 50}]";
    let udp = Udp::start(&(routes("", rule) + &service("app.test", &[&a, &b]) + &service("c.test", &[&c])));
    // All open at once: a port that another client has had would be its session.
    let clients: Vec<_> = (0..20).map(|_| udp.client()).collect();
    for client in &clients {
        let first = ask(client, "x");
        assert_eq!(ask(client, "x"), first, "a session stays where it is");
    }
    assert!((9..=11).contains(&c.sources()), "{}", c.sources());
    assert_eq!(a.sources() + b.sources() + c.sources(), 20);
    assert!(a.sources() > 0 && b.sources() > 0);
}

#[test]
fn an_idle_session_ends_with_its_line_and_the_next_datagram_begins_another() {
    let app = Echo::start("app");
    let udp = Udp::start(&(to(&[&app]) + &idle_timeout("1s")));
    let client = udp.client();
    assert_eq!(ask(&client, "hello"), "app hello");
    let line = udp.gateway.await_access("outbound|9000||app.test");
    // Received and sent.
    assert!(line.contains(r#""- - -" 0 - - - "-" 5 9 "#), "{line}");
    assert!(line.contains(&app.address.to_string()), "{line}");
    udp.gateway.await_metric("envoy_udp_idle_timeout", &[PREFIX], 1.0);
    udp.gateway.await_metric("envoy_udp_downstream_sess_active", &[PREFIX], 0.0);
    assert_eq!(ask(&client, "again"), "app again");
    assert_eq!(app.sources(), 2);
}

#[test]
fn a_reload_keeps_sessions_until_their_endpoint_has_gone() {
    let (a, b) = (Echo::start("a"), Echo::start("b"));
    let udp = Udp::start(&to(&[&a]));
    let client = udp.client();
    assert_eq!(ask(&client, "x"), "a x");
    let more = routes("portolan.dev/max-connections: '7000'", "route: [{destination: {host: app.test}}]");
    udp.gateway.replace("udp.yaml", more + &service("app.test", &[&a, &b]));
    await_true("the second endpoint", || ask(&udp.client(), "x") == "b x");
    assert_eq!(ask(&client, "y"), "a y");
    let sources = a.sources();
    udp.gateway.replace("udp.yaml", to(&[&b]));
    await_true("the end of the first endpoint", || ask(&client, "z") == "b z");
    assert_eq!(a.sources(), sources, "until then it was the same session");
    let sessions = b.sources();
    udp.gateway.replace("udp.yaml", to(&[&b]).replace("  endpoints: [{", "  endpoints: [{weight: 7, "));
    await_true("another weight", || udp.gateway.admin("/clusters").text().contains("::weight::7"));
    assert_eq!((ask(&client, "z"), b.sources()), ("b z".to_owned(), sessions), "it has the same endpoint");
}

#[test]
fn a_listener_that_goes_takes_its_sessions_with_it_and_may_come_back() {
    let app = Echo::start("app");
    let udp = Udp::start(&to(&[&app]));
    assert_eq!(ask(&udp.client(), "x"), "app x");
    udp.gateway.replace("udp.yaml", to(&[&app]).replace("protocol: UDP}, hosts", "protocol: TCP}, hosts"));
    await_true("nobody there", || try_ask(&udp.client(), "x").is_none());
    udp.gateway.await_metric("envoy_udp_downstream_sess_active", &[PREFIX], 0.0);
    udp.gateway.replace("udp.yaml", to(&[&app]));
    await_some("the listener again", || try_ask(&udp.client(), "x"));
}

#[test]
fn sessions_have_a_bound_at_which_new_ones_are_dropped() {
    let app = Echo::start("app");
    let files = routes("portolan.dev/max-connections: '2'", "route: [{destination: {host: app.test}}]");
    let udp = Udp::start(&(files + &service("app.test", &[&app])));
    let (one, two, three) = (udp.client(), udp.client(), udp.client());
    assert_eq!((ask(&one, "1"), ask(&two, "2")), ("app 1".to_owned(), "app 2".to_owned()));
    assert_eq!(try_ask(&three, "3"), None);
    udp.gateway.await_metric("portolan_udp_downstream_sess_overflow", &[PREFIX], 1.0);
    assert_eq!(ask(&one, "4"), "app 4");
}

#[test]
fn the_clusters_limit_of_connections_is_one_of_sessions() {
    let app = Echo::start("app");
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec:
  host: app.test
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}
";
    let udp = Udp::start(&(to(&[&app]) + rule));
    let one = udp.client();
    assert_eq!(ask(&one, "1"), "app 1");
    assert_eq!(try_ask(&udp.client(), "2"), None);
    let cluster = r#"envoy_cluster_name="outbound|9000||app.test""#;
    udp.gateway.await_metric("envoy_cluster_upstream_cx_overflow", &[cluster], 1.0);
}

#[test]
fn what_has_no_endpoint_or_no_cluster_is_dropped_and_counted() {
    let app = Echo::start("app");
    let udp = Udp::start(
        &(routes("", "route: [{destination: {host: app.test, subset: none}}]") + &service("app.test", &[&app])),
    );
    assert_eq!(try_ask(&udp.client(), "x"), None);
    let prefix = r#"envoy_udp_prefix="outbound|9000|none|app.test""#;
    udp.gateway.await_metric("envoy_udp_downstream_sess_no_route", &[prefix], 1.0);
    udp.gateway.replace("udp.yaml", to(&[]));
    let cluster = r#"envoy_cluster_name="outbound|9000||app.test""#;
    await_true("no endpoint", || {
        try_ask(&udp.client(), "x");
        udp.gateway.metric("envoy_cluster_upstream_cx_none_healthy", &[cluster]) > 0.0
    });
    assert_eq!(app.datagrams.load(Ordering::SeqCst), 0);
}

#[test]
fn an_endpoint_that_nobody_serves_costs_its_datagrams_only() {
    let app = Echo::start("app");
    let gone = Port::free();
    let closed = Echo { address: gone.address(), sources: Arc::default(), datagrams: Arc::default() };
    let udp = Udp::start(&to(&[&closed]));
    let client = udp.client();
    await_true("a refusal", || {
        try_ask(&client, "x");
        udp.gateway.metric("portolan_udp_upstream_errors", &[PREFIX]) > 0.0
    });
    udp.gateway.replace("udp.yaml", to(&[&app]));
    await_true("an answer", || try_ask(&client, "x").as_deref() == Some("app x"));
}

#[test]
fn filters_of_connections_see_no_datagrams_and_check_says_so() {
    let app = Echo::start("app");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gate.wasm");
    // It would let no byte through.
    let body = "(func (export \"proxy_on_downstream_data\") (param i32 i32 i32) (result i32) (i32.const 1))";
    std::fs::write(&path, crate::support::wasm::from_text(body)).unwrap();
    let filter = format!("---\n{}  type: NETWORK\n", crate::support::config::wasm_plugin("gate", &path, "{}"));
    let udp = Udp::start(&(to(&[&app]) + &filter));
    assert_eq!(ask(&udp.client(), "x"), "app x");
    udp.gateway.await_log("P0350");
}

#[test]
fn a_drain_ends_sessions_with_their_lines() {
    let app = Echo::start("app");
    let mut udp = Udp::start(&to(&[&app]));
    assert_eq!(ask(&udp.client(), "hello"), "app hello");
    udp.gateway.signal("TERM");
    assert_eq!(udp.gateway.await_exit().code(), Some(0));
    assert!(udp.gateway.await_access("outbound|9000||app.test").contains(" 5 9 "));
}

impl Udp {
    /// With a place where the next process asks.
    fn start_to_be_replaced(files: &str) -> Self {
        let socket = tempfile::tempdir().unwrap().keep().join("socket").display().to_string();
        let options =
            Options::new().argument("--minimum-drain-time").argument("100ms").argument("--takeover").argument(socket);
        Self::start_with(options, files)
    }
}

#[test]
fn datagrams_that_are_sent_all_through_takeovers_are_all_answered() {
    let app = Echo::start("app");
    let mut udp = Udp::start_to_be_replaced(&(to(&[&app]) + &idle_timeout("1s")));
    let stop = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Half of them stay one source, half are another with each datagram.
        for number in 0..4 {
            let (udp, stop, answered) = (udp.port.address(), &stop, &answered);
            scope.spawn(move || {
                let mut client = client_of(udp);
                for datagram in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if number % 2 == 0 {
                        client = client_of(udp);
                    }
                    assert_eq!(ask(&client, &datagram.to_string()), format!("app {datagram}"));
                    answered.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let mut old = Vec::new();
        for _ in 0..3 {
            let goal = answered.load(Ordering::Relaxed) + 200;
            await_true("more answers", || answered.load(Ordering::Relaxed) >= goal);
            old.push(take_over(&mut udp.gateway));
        }
        old.into_iter().for_each(await_success);
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_answer_that_comes_after_a_takeover_comes_from_the_old_process() {
    let app = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    app.set_read_timeout(Some(DEADLINE)).unwrap();
    let endpoint = Echo { address: app.local_addr().unwrap(), sources: Arc::default(), datagrams: Arc::default() };
    let mut udp = Udp::start_to_be_replaced(&(to(&[&endpoint]) + &idle_timeout("3s")));
    let client = udp.client();
    let mut buffer = [0; 100];
    client.send(b"first").unwrap();
    let (_, first) = app.recv_from(&mut buffer).unwrap();
    let old = take_over(&mut udp.gateway);
    client.send(b"second").unwrap();
    let (length, second) = app.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..length], first == second),
        (&b"second"[..], false),
        "the new process has a session of its own"
    );
    for (source, answer) in [(first, &b"late"[..]), (second, b"soon"), (first, b"later")] {
        app.send_to(answer, source).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], answer);
    }
    await_success(old);
    assert!(udp.gateway.log().contains("every request was finished"));
}

#[test]
fn a_listener_that_goes_and_comes_back_while_the_old_process_drains_loses_no_datagram_to_it() {
    let app = Echo::start("app");
    let mut udp = Udp::start_to_be_replaced(&to(&[&app]));
    // Sessions that keep all sockets of the old process open.
    let clients: Vec<_> = (0..20).map(|_| udp.client()).collect();
    clients.iter().for_each(|client| assert_eq!(ask(client, "x"), "app x"));
    let mut old = take_over(&mut udp.gateway);
    udp.gateway.await_ready();
    udp.gateway.replace("udp.yaml", to(&[&app]).replace("protocol: UDP}, hosts", "protocol: TCP}, hosts"));
    await_true("nobody there", || try_ask(&udp.client(), "x").is_none());
    udp.gateway.replace("udp.yaml", to(&[&app]));
    await_some("the listener again", || try_ask(&udp.client(), "x"));
    for _ in 0..40 {
        assert_eq!(ask(&udp.client(), "x"), "app x");
    }
    assert!(old.try_wait().unwrap().is_none(), "it waits for answers of its sessions");
    old.kill().unwrap();
    old.wait().unwrap();
}

#[test]
fn a_process_with_more_workers_serves_datagrams_with_all_of_them() {
    let app = Echo::start("app");
    let mut udp = Udp::start_to_be_replaced(&(to(&[&app]) + &idle_timeout("1s")));
    let old = take_over_by(&mut udp.gateway, |gateway| gateway.start_again_with("--workers", "4"));
    for _ in 0..40 {
        assert_eq!(ask(&udp.client(), "x"), "app x");
    }
    await_success(old);
    let old = take_over_by(&mut udp.gateway, |gateway| gateway.start_again_with("--workers", "1"));
    for _ in 0..40 {
        assert_eq!(ask(&udp.client(), "x"), "app x");
    }
    await_success(old);
}
