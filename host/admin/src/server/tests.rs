//! Tests of the admin port over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use portolan_model::{CircuitBreakers, Model, Origin, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::{ConfigDump, EndpointView, ObjectView};

struct Admin {
    address: SocketAddr,
    state: AdminState,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

impl Admin {
    async fn start() -> Self {
        Self::start_on("127.0.0.1:0").await
    }

    async fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let state = state();
        let served = tokio::spawn(serve(listener, state.clone(), async move { drop(stopped.await) }));
        Self { address, state, stop, served }
    }

    /// Sends a whole request and reads the whole answer.
    async fn send(&self, request: &str) -> String {
        exchange(self.address, request).await
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, headers: &str) -> String {
        self.send(&format!("POST {path} HTTP/1.1\r\nhost: localhost:15000\r\n{headers}connection: close\r\n\r\n")).await
    }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn state() -> AdminState {
    let (log, subscriber) = LogControl::build("info", io::sink, false).unwrap();
    // The control works as long as its subscriber lives.
    std::mem::forget(subscriber);
    AdminState {
        metrics: Metrics::new(),
        readiness: Readiness::default(),
        config_dump: Arc::new(dump),
        clusters: Arc::new(|| vec![cluster()]),
        listeners: Arc::new(|| vec![listener()]),
        filters: Arc::new(Vec::new),
        explain: Arc::new(|query| match query {
            [(key, url)] if key == "url" => Ok(serde_json::json!({ "request": url })),
            _ => Err("wants `url`".to_owned()),
        }),
        traffic: Arc::new(TrafficView::default),
        log,
    }
}

fn dump() -> serde_json::Value {
    let secret = Secret {
        name: "default/cert".to_owned(),
        files: Vec::new(),
        acme: None,
        entries: vec![("tls.key".to_owned(), b"PRIVATE-KEY".to_vec())],
        origin: Origin::default(),
    };
    let model = Model { secrets: vec![secret], ..Model::default() };
    let object = ObjectView { origin: Origin::default(), state: "kept_old", reason: Some("bad port".to_owned()) };
    let dump =
        ConfigDump { version: "0.1.0", generation: 3, model: &model, objects: vec![object], diagnostics: Vec::new() };
    dump.to_value()
}

fn cluster() -> ClusterView {
    let endpoint = EndpointView {
        address: "10.0.0.1:8080".to_owned(),
        weight: 1,
        locality: "eu/eu-1".to_owned(),
        warmup_percent: 100,
        rq_total: 5,
        rq_success: 3,
        rq_error: 2,
        ejections: 1,
        ejected_for_ms: 29_000,
        ..EndpointView::default()
    };
    ClusterView {
        name: "outbound|80||shop.default.svc.cluster.local".to_owned(),
        lb_policy: "LEAST_REQUEST",
        circuit_breakers: CircuitBreakers { max_connections: 10, ..CircuitBreakers::default() },
        active_requests: 4,
        pending_requests: 0,
        active_retries: 0,
        origin: "shop.yaml:3".to_owned(),
        policy_origin: Some("rule.yaml:9".to_owned()),
        names: Vec::new(),
        endpoints: vec![endpoint],
    }
}

fn listener() -> ListenerView {
    ListenerView {
        name: "0.0.0.0_8080".to_owned(),
        address: "0.0.0.0:8080".parse().unwrap(),
        server_port: 80,
        origins: vec!["gateway.yaml:8".to_owned()],
        error: None,
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn ready_follows_the_state() {
    let admin = Admin::start().await;
    let states = [
        (State::PreInitializing, "503", "PRE_INITIALIZING\n"),
        (State::Initializing, "503", "INITIALIZING\n"),
        (State::Live, "200", "LIVE\n"),
        (State::Draining, "503", "DRAINING\n"),
    ];
    assert_eq!(admin.state.readiness.state(), State::PreInitializing);
    for (state, code, text) in states {
        admin.state.readiness.set(state);
        let answer = admin.get("/ready").await;
        assert_eq!((status(&answer), body(&answer)), (code, text));
    }
}

#[tokio::test]
async fn the_status_port_answers_any_host_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::default();
    readiness.set(State::Live);
    tokio::spawn(serve_status(listener, readiness, std::future::pending()));
    let get = |path| format!("GET {path} HTTP/1.1\r\nhost: 10.1.2.3:15021\r\nconnection: close\r\n\r\n");
    assert_eq!(status(&exchange(address, &get("/healthz/ready")).await), "200");
    for path in ["/", "/ready", "/config_dump", "/stats/prometheus"] {
        assert_eq!(status(&exchange(address, &get(path)).await), "404", "{path}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let admin = Admin::start().await;
    admin.state.readiness.set(State::Live);
    admin.state.metrics.cluster("a").upstream_rq_total.inc();
    let answer = admin.get("/stats/prometheus").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\nenvoy_server_live 1\n") && answer.contains("\nenvoy_server_state 0\n"));
    assert!(answer.contains("\nenvoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 1\n"));
    let redirect = admin.get("/stats").await;
    assert!(redirect.contains("location: /stats/prometheus\r\n"), "{redirect}");
}

#[tokio::test]
async fn clusters_and_listeners_come_as_text_and_json() {
    let admin = Admin::start().await;
    let clusters = admin.get("/clusters").await;
    let name = "outbound|80||shop.default.svc.cluster.local";
    for line in [
        "default_priority::max_connections::10",
        "10.0.0.1:8080::rq_error::2",
        "10.0.0.1:8080::health_flags::/failed_outlier_check",
        "policy_origin::rule.yaml:9",
    ] {
        assert!(body(&clusters).contains(&format!("{name}::{line}\n")), "{line} in {clusters}");
    }
    let clusters = admin.get("/clusters?format=json").await;
    let json: serde_json::Value = serde_json::from_str(body(&clusters)).unwrap();
    assert_eq!(json["clusters"][0]["endpoints"][0]["ejected_for_ms"], 29_000);
    assert!(clusters.contains("content-type: application/json\r\n"));

    assert_eq!(body(&admin.get("/listeners").await), "0.0.0.0_8080::0.0.0.0:8080\n");
    let listeners = admin.get("/listeners?format=json").await;
    let json: serde_json::Value = serde_json::from_str(body(&listeners)).unwrap();
    assert_eq!(json["listeners"][0]["server_port"], 80);
    assert_eq!(status(&admin.get("/clusters?format=yaml").await), "400");
}

#[tokio::test]
async fn the_configuration_shows_no_secret() {
    let admin = Admin::start().await;
    let answer = admin.get("/config_dump").await;
    let json: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(json["model"]["secrets"][0]["name"], "default/cert");
    assert_eq!((&json["generation"], &json["objects"][0]["state"]), (&3.into(), &"kept_old".into()));
    assert!(!answer.contains("PRIVATE") && !answer.contains("tls.key"), "{answer}");
}

#[tokio::test]
async fn levels_change_by_post_only() {
    let admin = Admin::start().await;
    assert_eq!(body(&admin.get("/logging").await), "active loggers:\n  all: info\n");
    let get = admin.get("/logging?level=debug").await;
    assert_eq!(status(&get), "405");
    assert!(get.contains("allow: POST\r\n"), "{get}");
    assert_eq!(admin.state.log.current(), "info");

    let changed = admin.post("/logging?level=warn", "").await;
    assert_eq!(body(&changed), "active loggers:\n  all: warn\n");
    let changed = admin.post("/logging?portolan_proxy=debug", "").await;
    assert_eq!(body(&changed), "active loggers:\n  all: warn\n  portolan_proxy: debug\n");
    assert_eq!(status(&admin.post("/logging?level=loud", "").await), "400");
    assert_eq!(status(&admin.post("/logging", "").await), "400");
    assert_eq!(admin.state.log.current(), "warn,portolan_proxy=debug");
}

#[tokio::test]
async fn pages_elsewhere_change_nothing() {
    let admin = Admin::start().await;
    for headers in ["origin: http://evil.example\r\n", "origin: null\r\n", "sec-fetch-site: cross-site\r\n"] {
        assert_eq!(status(&admin.post("/logging?level=debug", headers).await), "403", "{headers}");
    }
    assert_eq!(admin.state.log.current(), "info");
    assert_eq!(status(&admin.post("/logging?level=debug", "origin: http://localhost:15000\r\n").await), "200");
}

#[tokio::test]
async fn the_loopback_port_answers_loopback_hosts_only() {
    let admin = Admin::start().await;
    let ask = |host: &str| format!("GET /config_dump HTTP/1.1\r\n{host}connection: close\r\n\r\n");
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:15000", "127.9.9.9", "[::1]:15000", "[::ffff:127.0.0.1]"] {
        assert_eq!(status(&admin.send(&ask(&format!("host: {host}\r\n"))).await), "200", "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::]", "127.0.0.1.nip.io"] {
        assert_eq!(status(&admin.send(&ask(&format!("host: {host}\r\n"))).await), "403", "{host}");
    }
    for host in ["", "host:\r\n", "host: a b\r\n", "host: localhost\r\nhost: evil.example\r\n"] {
        assert_eq!(status(&admin.send(&ask(host)).await), "400", "{host:?}");
    }
    let absolute = "GET http://evil.example/config_dump HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&admin.send(absolute).await), "400");
    assert_eq!(status(&admin.send("GET /ready HTTP/1.0\r\n\r\n").await), "503");
}

#[tokio::test]
async fn another_address_answers_any_host() {
    let admin = Admin::start_on("0.0.0.0:0").await;
    let address = SocketAddr::from(([127, 0, 0, 1], admin.address.port()));
    let request = "GET /listeners HTTP/1.1\r\nhost: gateway.example\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&exchange(address, request).await), "200");
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let admin = Admin::start().await;
    for path in ["/", "/ready", "/nope", "/config_dump", "/stats/prometheus", "/clusters?format=x"] {
        let answer = admin.get(path).await;
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
    }
    assert_eq!(status(&admin.get("/nope").await), "404");
    assert_eq!(status(&admin.post("/clusters", "").await), "405");
    assert_eq!(body(&admin.get("/").await), PATHS);
}

#[tokio::test]
async fn a_closure_is_asked_at_each_request() {
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let clusters = move || {
        *counted.lock().unwrap() += 1;
        Vec::new()
    };
    tokio::spawn(serve(listener, AdminState { clusters: Arc::new(clusters), ..state() }, std::future::pending()));
    for _ in 0..2 {
        exchange(address, "GET /clusters HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    }
    assert_eq!(*calls.lock().unwrap(), 2);
}

#[tokio::test]
async fn shutdown_ends_the_listener_and_idle_connections_with_one_more_answer() {
    let admin = Admin::start().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut begin = [0; 12];
    idle.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 503");
    admin.stop.send(()).unwrap();
    while TcpStream::connect(admin.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    idle.write_all(b"GET /nowhere HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 404") && rest.contains("connection: close\r\n"), "{rest}");
    admin.served.await.unwrap().unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_lock_others_out_for_ever() {
    tokio::time::pause();
    let admin = Admin::start().await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(admin.address).await.unwrap());
    }
    let begin = tokio::time::Instant::now();
    // With the clock paused, time moves on as soon as everything waits: the silent ones end by their timeout.
    assert_eq!(status(&admin.get("/ready").await), "503");
    assert!(begin.elapsed() <= connections::HEAD_TIMEOUT * 3, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_question_is_answered_and_a_wrong_one_is_told_so() {
    let admin = Admin::start().await;
    let answer = admin.get("/explain?url=http%3A%2F%2Fshop%2Fa").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""request": "http://shop/a""#), "{answer}");
    let answer = admin.get("/explain").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("wants `url`\n"), "{answer}");
    assert!(admin.get("/traffic").await.contains(r#""requests": []"#));
}
