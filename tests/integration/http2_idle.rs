//! The stream idle timeout over HTTP/2: it is each stream's own, as in Envoy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::upstream::Upstream;

fn start(app: SocketAddr, annotations: &str) -> Gateway {
    let gateway = ANY_GATEWAY.replace("  name: any\n", &format!("  name: any\n  annotations: {{{annotations}}}\n"));
    Options::new()
        .file("gateway.yaml", gateway)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app)]))
        .argument("--stream-idle-timeout")
        .argument("1s")
        .start()
}

/// An upstream that begins an answer, with this much, and does not go on.
fn stalling(begun: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            let begun = begun.clone();
            held.push(std::thread::spawn(move || {
                // Ends when the gateway does.
                let _ = stream.write_all(&begun).and_then(|()| stream.read_exact(&mut [0]));
            }));
        }
    });
    address
}

fn ask(client: &mut RawHttp2, stream: u32, fields: &[(&str, &str)]) {
    client.send(&frame(HEADERS, WHOLE, stream, &block(fields)));
}

/// Asks on stream after stream until `done`, and sees each answered: the connection is busy all the time.
fn until_beside_others(client: &mut RawHttp2, path: &str, done: impl Fn(&RawHttp2) -> bool) {
    for stream in (3..).step_by(2) {
        if client.until(Duration::from_millis(100), &done) {
            return;
        }
        assert!(stream < 200, "in vain");
        ask(client, stream, &request("GET", path, &[]));
        assert!(client.until(DEADLINE, |client| client.has_ended(stream)), "stream {stream}");
    }
}

#[test]
fn a_stream_that_waits_for_its_upstream_for_too_long_is_answered_for_while_others_go_on() {
    let app = Upstream::start("app");
    let gateway = start(app.address(), "");
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    ask(&mut client, 1, &request("GET", "/silent", &[("x-order", "delay 20000")]));
    until_beside_others(&mut client, "/busy", |client| client.has_ended(1));
    assert_eq!((client.status(1), client.body(1).as_slice()), (Some(504), &b"stream timeout"[..]));
    assert!(client.is_alive() && client.of(GOAWAY, 0).next().is_none());
    let line = gateway.await_access("/silent");
    assert!(line.contains(" 504 SI stream_idle_timeout "), "{line}");
    gateway.await_metric("envoy_http_downstream_rq_idle_timeout", &[], 1.0);
}

#[test]
fn a_client_that_owes_its_body_gets_408_on_that_stream_alone() {
    let app = Upstream::start("app");
    let gateway = start(app.address(), "");
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let fields = request("POST", "/owes", &[("x-order", "sink"), ("content-length", "10")]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    client.send(&frame(DATA, 0, 1, b"12345"));
    until_beside_others(&mut client, "/busy", |client| client.has_ended(1));
    assert_eq!((client.status(1), client.body(1).as_slice()), (Some(408), &b"stream timeout"[..]));
    assert!(client.is_alive());
}

#[test]
fn an_answer_that_stops_midway_is_reset_while_others_go_on_unless_the_listener_allows_it() {
    let events = stalling(b"data: 1\n\n".to_vec());
    let gateway = start(events, "");
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    ask(&mut client, 1, &request("GET", "/events", &[]));
    assert!(client.until(DEADLINE, |client| client.reset(1).is_some()));
    assert_eq!((client.status(1), client.body(1).as_slice()), (Some(200), &b"data: 1\n\n"[..]));
    assert!(client.is_alive());
    let line = gateway.await_access("/events");
    assert!(line.contains(" 200 SI stream_idle_timeout "), "{line}");
    let gateway = start(events, "portolan.dev/stream-idle-timeout: 0s");
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    ask(&mut client, 1, &request("GET", "/events", &[]));
    assert!(client.until(DEADLINE, |client| !client.body(1).is_empty()));
    assert!(!client.until(Duration::from_secs(3), |client| client.has_ended(1)) && client.is_alive());
}

#[test]
fn a_client_that_gives_its_answer_no_room_is_reset_on_that_stream_alone() {
    let gateway = start(stalling(vec![b'x'; 1 << 20]), "");
    // SETTINGS_INITIAL_WINDOW_SIZE 1000.
    let mut client = RawHttp2::connect(gateway.address(), &[0, 4, 0, 0, 3, 0xe8]);
    ask(&mut client, 1, &request("GET", "/much", &[]));
    assert!(client.until(DEADLINE, |client| client.reset(1).is_some()));
    assert_eq!(client.body(1).len(), 1000);
    assert!(client.is_alive());
}

#[test]
fn a_websocket_lives_as_long_as_bytes_go_either_way() {
    let app = Upstream::start("app");
    let gateway = start(app.address(), "");
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/socket"),
        (":authority", "app.test"),
        ("sec-websocket-version", "13"),
    ];
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    assert!(client.until(DEADLINE, |client| client.status_seen(1)));
    // Twice as long as it may be idle.
    for count in 1..=10 {
        client.send(&frame(DATA, 0, 1, b"abc"));
        assert!(client.until(DEADLINE, |client| client.body(1).len() == 3 * count), "{count}");
        assert!(!client.until(Duration::from_millis(200), |client| client.has_ended(1)), "{count}");
    }
    until_beside_others(&mut client, "/busy", |client| client.has_ended(1));
    assert!(client.is_alive());
    let line = gateway.await_access("/socket");
    assert!(line.contains(" 101 SI stream_idle_timeout "), "{line}");
}
