//! Start and end: ready when it serves, drains on SIGTERM, ends at once on the second signal.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::await_true;
use crate::support::client::{Request, send};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn gateway(app: &Upstream, drain: &str) -> Gateway {
    options(app, drain).start()
}

fn options(app: &Upstream, drain: &str) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .argument("--drain-time")
        .argument(drain)
}

#[test]
fn sigterm_lets_requests_finish_and_exits_0() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "10s");
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/slow").order("delay 700").to_bytes()).unwrap();
    await_true("the request in flight", || app.in_flight() == 1);
    gateway.signal("TERM");
    await_true("the end of readiness", || {
        send(gateway.admin_address(), &Request::get("localhost", "/ready"))
            .map_or(true, |response| response.status == 503)
    });
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    let status = gateway.await_exit();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
}

#[test]
fn sigterm_ends_idle_connections_without_cutting_a_request() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "10s");
    let mut idle: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    for connection in &mut idle {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(9), "idle connections hold up the end");
    assert!(idle.iter_mut().all(|connection| connection.is_closed()));
}

#[test]
fn clients_are_taken_in_for_the_minimum_drain_time_and_then_refused_without_a_reset() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "10s");
    let mut slow = gateway.connect();
    slow.send(&Request::get("h", "/slow").order("delay 7000").to_bytes()).unwrap();
    await_true("the request in flight", || app.in_flight() == 1);
    let start = Instant::now();
    gateway.signal("TERM");
    let request = Request::get("h", "/");
    let mut answered = 0;
    let refused = loop {
        match std::net::TcpStream::connect_timeout(&gateway.address(), Duration::from_secs(3)) {
            Ok(stream) => {
                let mut connection = crate::support::client::Connection::over(stream);
                let response = connection.request(&request).expect("whoever is let in is answered");
                assert_eq!(response.status, 200);
                answered += 1;
            }
            Err(_) => break start.elapsed(),
        }
    };
    assert!(answered > 10 && refused > Duration::from_secs(4), "{answered} requests in {refused:?}");
    assert_eq!(slow.response(false).unwrap().status, 200);
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn a_gateway_that_ends_takes_changes_in_but_opens_no_listener() {
    let app = Upstream::start("app");
    let mut gateway = options(&app, "30s").argument("--minimum-drain-time").argument("8s").start();
    gateway.signal("TERM");
    await_true("the end of readiness", || gateway.admin("/ready").status == 503);
    let port = Port::free();
    let more =
        ANY_GATEWAY.replace("name: any", "name: late").replace("number: 80", &format!("number: {}", port.number()));
    gateway.write("late.yaml", &more);
    gateway.replace("routes.yaml", routes("- directResponse: {status: 418}\n"));
    gateway.await_answer("h", "/", |response| response.status == 418);
    assert!(std::net::TcpStream::connect(port.address()).is_err());
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn the_drain_time_bounds_the_end() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "300ms");
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/").order("delay 15000").to_bytes()).unwrap();
    await_true("the request in flight", || app.in_flight() == 1);
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
}

#[test]
fn the_mesh_says_how_long_the_end_may_take_where_no_flag_does() {
    let app = Upstream::start("app");
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  \
                mesh: '{defaultConfig: {terminationDrainDuration: 300ms}}'\n";
    let mut gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("mesh.yaml", mesh)
        .start();
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/").order("delay 30000").to_bytes()).unwrap();
    await_true("the request in flight", || app.in_flight() == 1);
    let start = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    assert!(gateway.log().contains("at most 300ms"), "{}", gateway.log());
}

#[test]
fn the_mesh_says_how_many_workers_start_and_a_later_change_is_told() {
    let mesh = |workers: u32| {
        format!(
            "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: mesh}}\nspec:\n  meshConfig:\n    \
             defaultConfig:\n      concurrency: {workers}\n"
        )
    };
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("mesh.yaml", mesh(3)).without_workers().start();
    assert_eq!(gateway.metric("envoy_server_concurrency", &[]), 3.0);
    gateway.replace("mesh.yaml", mesh(4));
    gateway.await_log("P0352");
    assert_eq!(gateway.metric("envoy_server_concurrency", &[]), 3.0);
}

#[test]
fn a_second_signal_ends_at_once() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "60s");
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/").order("delay 15000").to_bytes()).unwrap();
    await_true("the request in flight", || app.in_flight() == 1);
    gateway.signal("TERM");
    await_true("the drain to begin", || {
        send(gateway.admin_address(), &Request::get("localhost", "/ready"))
            .map_or(true, |response| response.status == 503)
    });
    assert!(gateway.is_running());
    let start = Instant::now();
    gateway.signal("TERM");
    gateway.await_exit();
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

#[test]
fn sigint_ends_it_as_sigterm_does() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "1s");
    gateway.signal("INT");
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_named() {
    let app = Upstream::start("app");
    let first = gateway(&app, "1s");
    let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["run", "--admin-address", &first.admin_address().to_string(), "--config"])
        .arg(first.config())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&first.admin_address().to_string()), "{said}");
}

#[test]
fn it_starts_with_an_empty_folder_and_with_mistakes() {
    let app = Upstream::start("app");
    let gateway = Options::new().file("bad.yaml", "kind: [").start();
    gateway.await_log("bad.yaml:");
    gateway.write("gateway.yaml", ANY_GATEWAY);
    gateway.write("routes.yaml", &routes("- route: [{destination: {host: app.test}}]\n"));
    gateway.write("app.yaml", &service_entry("app.test", &[("v1", app.address())]));
    await_true("the first good configuration", || {
        send(gateway.address(), &Request::get("h", "/")).is_ok_and(|response| response.status == 200)
    });
}
