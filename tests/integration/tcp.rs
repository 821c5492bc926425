//! Listeners of TCP: bytes both ways as they are, ends as ends, weights by connection, and what the log and the metrics
//! say when no upstream can be had.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::gateway::Options;
use crate::support::ports::Port;
use crate::support::tcp::{Server, Tcp, read_all, read_some, routes, service, to};
use crate::support::{await_some, await_true};

#[test]
fn bytes_go_both_ways_and_are_told() {
    let tcp = Tcp::start(&to(Server::echo()));
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    assert_eq!(read_some(&client, 5), "hello");
    client.write_all(b" world").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), " world");
    let line = tcp.gateway.await_access("outbound|9000||app.test");
    assert!(line.contains(r#""- - -" 0 - - - "-" 11 11 "#), "{line}");
    let prefix = r#"envoy_tcp_prefix="outbound|9000||app.test""#;
    tcp.gateway.await_metric("envoy_tcp_downstream_cx_total", &[prefix], 1.0);
    tcp.gateway.await_metric("envoy_tcp_downstream_cx_rx_bytes_total", &[prefix], 11.0);
    tcp.gateway.await_metric("envoy_tcp_downstream_cx_tx_bytes_total", &[prefix], 11.0);
    let cluster = r#"envoy_cluster_name="outbound|9000||app.test""#;
    assert_eq!(tcp.gateway.metric("envoy_cluster_upstream_cx_total", &[cluster]), 1.0);
    await_true("the end of the upstream connection", || {
        tcp.gateway.metric("envoy_cluster_upstream_cx_active", &[cluster]) == 0.0
    });
}

#[test]
fn the_clients_end_is_an_end_for_the_server_which_may_still_answer() {
    let server = Server::start();
    let tcp = Tcp::start(&to(server.address));
    let mut client = tcp.connect();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut upstream = server.accept();
    assert_eq!(read_all(&upstream), "question");
    upstream.write_all(b"answer").unwrap();
    drop(upstream);
    assert_eq!(read_all(&client), "answer");
}

#[test]
fn the_servers_end_is_an_end_for_the_client_which_may_still_send() {
    let server = Server::start();
    let tcp = Tcp::start(&to(server.address));
    let mut client = tcp.connect();
    let mut upstream = server.accept();
    upstream.write_all(b"greeting").unwrap();
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "greeting");
    client.write_all(b"late").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&upstream), "late");
}

#[test]
fn megabytes_pass_through_a_slow_reader_unchanged() {
    let tcp = Tcp::start(&to(Server::echo()));
    let sent: Vec<u8> = (0..8_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let client = tcp.connect();
    let mut writer = client.try_clone().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    (&client).read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
}

#[test]
fn a_server_that_answers_early_is_heard_by_a_client_that_sends_on() {
    let server = Server::start();
    let tcp = Tcp::start(&to(server.address));
    let client = tcp.connect();
    let mut upstream = server.accept();
    upstream.write_all(b"too much").unwrap();
    drop(upstream);
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for _ in 0..64 {
            if writer.write_all(&[0; 16 * 1024]).is_err() {
                return;
            }
        }
    });
    assert_eq!(read_some(&client, 8), "too much");
    writing.join().unwrap();
}

#[test]
fn weights_hold_by_connection() {
    let files = routes(
        "route: [{destination: {host: a.test}, weight: 75}, {destination: {host: b.test}, weight: 25}, \
         {destination: {host: c.test}, weight: 0}]",
    ) + &service("a.test", Server::named("a"))
        + &service("b.test", Server::named("b"))
        + &service("c.test", Server::named("c"));
    let tcp = Tcp::start(&files);
    let mut counts = BTreeMap::new();
    for _ in 0..40 {
        *counts.entry(read_all(&tcp.connect())).or_insert(0) += 1;
    }
    assert!((28..=32).contains(&counts["a"]) && counts.len() == 2, "{counts:?}");
    tcp.gateway.await_metric("envoy_tcp_downstream_cx_total", &[r#"envoy_tcp_prefix="tcp.default""#], 40.0);
}

#[test]
fn no_upstream_closes_the_connection_and_the_log_says_why() {
    let refused = Port::free();
    let files = routes("route: [{destination: {host: app.test}}]") + &service("app.test", refused.address());
    let tcp = Tcp::start(&files);
    assert_eq!(read_all(&tcp.connect()), "");
    let line = tcp.gateway.await_access("outbound|9000||app.test");
    assert!(line.contains(r#""- - -" 0 UF,URX - - "delayed_connect_error:_Connection_refused"#), "{line}");
    let cluster = r#"envoy_cluster_name="outbound|9000||app.test""#;
    tcp.gateway.await_metric("envoy_cluster_upstream_cx_connect_fail", &[cluster], 1.0);
    assert_eq!(tcp.gateway.metric("envoy_cluster_upstream_cx_connect_attempts_exceeded", &[cluster]), 1.0);
}

#[test]
fn an_unknown_cluster_is_flagged_nc_and_one_without_endpoints_uh() {
    let entry = service("app.test", Port::free().address());
    let missing = routes("route: [{destination: {host: app.test, subset: none}}]") + &entry;
    let tcp = Tcp::start(&missing);
    assert_eq!(read_all(&tcp.connect()), "");
    let line = tcp.gateway.await_access(r#""- - -""#);
    assert!(line.contains(r#""- - -" 0 NC "#), "{line}");
    let empty = entry.split("  endpoints:").next().unwrap().to_owned();
    let tcp = Tcp::start(&(routes("route: [{destination: {host: app.test}}]") + &empty));
    assert_eq!(read_all(&tcp.connect()), "");
    let line = tcp.gateway.await_access(r#""- - -""#);
    assert!(line.contains(r#""- - -" 0 UH "#), "{line}");
}

#[test]
fn an_endpoint_that_refuses_is_ejected() {
    let rule = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec:
  host: app.test
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100, baseEjectionTime: 5m}}
";
    let files = to(Port::free().address()) + rule;
    let tcp = Tcp::start(&files);
    await_true("no endpoint to be left", || {
        assert_eq!(read_all(&tcp.connect()), "");
        tcp.gateway.metric("envoy_cluster_upstream_cx_none_healthy", &["app.test"]) >= 1.0
    });
    tcp.gateway.await_metric("envoy_cluster_upstream_cx_connect_fail", &["app.test"], 2.0);
    tcp.gateway.await_access(r#""- - -" 0 UH "#);
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let server = Server::start();
    let rule = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: app}
spec:
  host: app.test
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}
";
    let tcp = Tcp::start(&(to(server.address) + rule));
    let first = tcp.connect();
    let upstream = server.accept();
    assert_eq!(read_all(&tcp.connect()), "");
    let line = tcp.gateway.await_access(r#""- - -""#);
    assert!(line.contains(r#""- - -" 0 UO "#), "{line}");
    drop((first, upstream));
    await_true("a place to be free again", || {
        let client = tcp.connect();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        (&client).read(&mut [0]).is_err()
    });
}

#[test]
fn idle_connections_and_old_ones_end() {
    let server = Server::start();
    let rule = |limit: &str| {
        format!(
            "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: app}}
spec:
  host: app.test
  trafficPolicy: {{connectionPool: {{tcp: {{{limit}}}}}}}
"
        )
    };
    let tcp = Tcp::start(&(to(server.address) + &rule("idleTimeout: 1s")));
    let (client, upstream) = (tcp.connect(), server.accept());
    assert_eq!((read_all(&client), read_all(&upstream)), (String::new(), String::new()));
    tcp.gateway.await_metric("envoy_tcp_idle_timeout", &[], 1.0);
    let line = tcp.gateway.await_access(r#""- - -""#);
    assert!(line.contains(r#""- - -" 0 - - tcp_session_idle_timeout "#), "{line}");
    tcp.gateway.replace("tcp.yaml", to(server.address) + &rule("maxConnectionDuration: 1s"));
    await_true("an end for the connection's age", || {
        let (client, upstream) = (tcp.connect(), server.accept());
        assert_eq!((read_all(&client), read_all(&upstream)), (String::new(), String::new()));
        tcp.gateway.metric("envoy_tcp_max_downstream_connection_duration", &[]) > 0.0
    });
    tcp.gateway.await_access(r#""- - -" 0 DT - max_connection_duration_reached "#);
}

#[test]
fn a_reload_under_open_connections_loses_no_byte() {
    let (old, new) = (Server::echo(), Server::named("new"));
    let tcp = Tcp::start(&to(old));
    let mut clients: Vec<_> = (0..8).map(|_| tcp.connect()).collect();
    for client in &mut clients {
        client.write_all(b"before").unwrap();
        assert_eq!(read_some(client, 6), "before");
    }
    tcp.gateway.replace("tcp.yaml", to(new));
    await_true("new connections at the new server", || {
        let client = tcp.connect();
        client.shutdown(Shutdown::Write).unwrap();
        read_all(&client) == "new"
    });
    for client in &mut clients {
        client.write_all(b"after").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(client), "after");
    }
}

#[test]
fn a_removed_listener_takes_nobody_and_keeps_who_is_there() {
    let tcp = Tcp::start(&to(Server::echo()));
    let mut client = tcp.connect();
    client.write_all(b"1").unwrap();
    assert_eq!(read_some(&client, 1), "1");
    tcp.gateway.replace("tcp.yaml", routes("match: [{port: 1}]\n    route: [{destination: {host: app.test}}]"));
    await_true("the port to be closed", || TcpStream::connect(tcp.port.address()).is_err());
    client.write_all(b"2").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "2");
}

#[test]
fn a_drain_takes_nobody_and_waits_for_open_connections() {
    let options = Options::new().file("tcp.yaml", to(Server::echo())).argument("--drain-time").argument("4s");
    let mut tcp = Tcp::start_with(options);
    let mut client = tcp.connect();
    client.write_all(b"1").unwrap();
    assert_eq!(read_some(&client, 1), "1");
    tcp.gateway.signal("TERM");
    await_true("the port to be closed", || TcpStream::connect(tcp.port.address()).is_err());
    assert!(tcp.gateway.is_running());
    client.write_all(b"2").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "2");
    assert_eq!(tcp.gateway.await_exit().code(), Some(0));
}

#[test]
fn the_drain_time_ends_open_connections() {
    let server = Server::start();
    let options = Options::new().file("tcp.yaml", to(server.address)).argument("--drain-time").argument("300ms");
    let mut tcp = Tcp::start_with(options);
    let (client, upstream) = (tcp.connect(), server.accept());
    tcp.gateway.signal("TERM");
    assert_eq!((read_all(&client), read_all(&upstream)), (String::new(), String::new()));
    assert_eq!(tcp.gateway.await_exit().code(), Some(0));
    let line = await_some("the line of the connection", || Some(tcp.gateway.await_access(r#""- - -""#)));
    assert!(line.contains(" drain "), "{line}");
}

#[test]
fn connections_are_counted_under_istio_s_names() {
    let tcp = Tcp::start(&to(Server::echo()));
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    assert_eq!(read_some(&client, 5), "hello");
    let labels = [r#"destination_service="app.test""#, r#"request_protocol="tcp""#, r#"response_flags="-""#];
    tcp.gateway.await_metric("istio_tcp_connections_opened_total", &labels, 1.0);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "");
    tcp.gateway.await_metric("istio_tcp_connections_closed_total", &labels, 1.0);
    tcp.gateway.await_metric("istio_tcp_sent_bytes_total", &labels, 5.0);
    tcp.gateway.await_metric("istio_tcp_received_bytes_total", &labels, 5.0);
}
