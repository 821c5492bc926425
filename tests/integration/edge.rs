//! Limits of what comes in: times, sizes, numbers, memory.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::support::DEADLINE;
use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::{END_HEADERS, HEADERS, RawHttp2, block, frame, request};
use crate::support::upstream::Upstream;

fn options(app: SocketAddr, annotations: &str) -> Options {
    let gateway = ANY_GATEWAY.replace("  name: any\n", &format!("  name: any\n  annotations: {{{annotations}}}\n"));
    Options::new()
        .file("gateway.yaml", gateway)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app)]))
}

fn with(app: &Upstream, arguments: &[&str]) -> Gateway {
    arguments.iter().fold(options(app.address(), ""), |options, argument| options.argument(*argument)).start()
}

fn open(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Everything up to the end, or to the reset that is as good as one.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_head_that_drips_gets_408_and_silence_is_closed() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--request-headers-timeout", "1s"]);
    let mut dripping = open(&gateway);
    dripping.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nx-a: ").unwrap();
    let answer = rest(&dripping);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nrequest header timeout"), "{answer}");
    assert_eq!(rest(&open(&gateway)), "", "who has said nothing is told nothing");
    gateway.await_metric("envoy_http_downstream_rq_header_timeout", &[], 1.0);
    let line = gateway.await_access(" 408 - request_header_timeout ");
    assert!(line.contains("\"- - HTTP/1.1\" 408 ") && line.contains(" 0 22 "), "{line}");
    assert_eq!(app.requests(), 0);
}

#[test]
fn the_second_head_of_a_connection_has_its_time_too() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--request-headers-timeout", "1s"]);
    let mut connection = gateway.connect();
    assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    connection.send(b"GET /second HTTP/1.1\r\n").unwrap();
    let late = connection.response(false).unwrap();
    assert_eq!((late.status, late.text().as_str()), (408, "request header timeout"));
    assert!(connection.is_closed());
    // Also one that has begun before the first was answered.
    let mut connection = gateway.connect();
    connection.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET /second HTTP/1.1\r\n").unwrap();
    assert_eq!(connection.response(false).unwrap().status, 200);
    let late = connection.response(false).unwrap();
    assert_eq!((late.status, late.text().as_str()), (408, "request header timeout"));
}

#[test]
fn a_connection_without_requests_is_closed() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--idle-timeout", "1s"]);
    let mut connection = gateway.connect();
    assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    assert!(connection.is_closed());
    gateway.await_metric("envoy_http_downstream_cx_idle_timeout", &[], 1.0);
}

#[test]
fn an_upstream_that_says_nothing_is_answered_for() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--stream-idle-timeout", "1s"]);
    let response = gateway.send(&Request::get("h", "/silent").order("delay 20000"));
    assert_eq!((response.status, response.text().as_str()), (504, "stream timeout"));
    let line = gateway.await_access("/silent");
    assert!(line.contains(" 504 SI stream_idle_timeout "), "{line}");
    gateway.await_metric("envoy_http_downstream_rq_idle_timeout", &[], 1.0);
}

#[test]
fn a_client_that_owes_its_body_gets_408() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--stream-idle-timeout", "1s"]);
    let mut connection = gateway.connect();
    connection.send(b"POST /owes HTTP/1.1\r\nhost: h\r\nx-order: sink\r\ncontent-length: 10\r\n\r\n12345").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (408, "stream timeout"));
}

/// An upstream that begins an answer and does not go on.
fn stalling() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n");
            held.push(stream);
        }
    });
    address
}

#[test]
fn an_answer_that_stops_midway_is_cut_unless_the_listener_allows_it() {
    let app = stalling();
    let short = ["--stream-idle-timeout", "1s"];
    let gateway = short.iter().fold(options(app, ""), |options, argument| options.argument(*argument)).start();
    let mut stream = open(&gateway);
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let answer = rest(&stream);
    assert!(answer.contains("data: 1") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    let line = gateway.await_access("/events");
    assert!(line.contains(" SI stream_idle_timeout "), "{line}");
    let forever = options(app, "portolan.dev/stream-idle-timeout: 0s");
    let gateway = short.iter().fold(forever, |options, argument| options.argument(*argument)).start();
    let mut stream = open(&gateway);
    stream.write_all(b"GET /events HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(4))).unwrap();
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
}

#[test]
fn a_websocket_that_is_idle_is_closed() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--stream-idle-timeout", "1s"]);
    let mut connection = gateway.connect();
    let request = Request::get("h", "/socket").header("connection", "Upgrade").header("upgrade", "websocket");
    connection.send(&request.to_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    for _ in 0..3 {
        connection.send(b"abc").unwrap();
        assert_eq!(connection.exactly(3).unwrap(), b"abc");
    }
    assert!(connection.is_closed());
    let line = gateway.await_access("/socket");
    assert!(line.contains(" 101 SI stream_idle_timeout "), "{line}");
}

#[test]
fn a_request_that_takes_too_long_to_come_in_gets_408() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--request-timeout", "1s"]);
    let mut stream = open(&gateway);
    stream.write_all(b"POST /drips HTTP/1.1\r\nhost: h\r\nx-order: sink\r\ncontent-length: 1000\r\n\r\n").unwrap();
    let mut dripping = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while dripping.write_all(b"x").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let response = Connection::over(stream).response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (408, "request timeout"));
    gateway.await_access("request_overall_timeout");
    gateway.await_metric("envoy_http_downstream_rq_timeout", &[], 1.0);
    // Nor does it help to send nothing at all.
    let mut stops = gateway.connect();
    stops.send(b"POST /stops HTTP/1.1\r\nhost: h\r\nx-order: sink\r\ncontent-length: 10\r\n\r\n12345").unwrap();
    let response = stops.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (408, "request timeout"));
    let line = gateway.await_access("/stops");
    assert!(line.contains(" 408 - request_overall_timeout "), "{line}");
    gateway.await_metric("envoy_http_downstream_rq_timeout", &[], 2.0);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let fields = request("POST", "/stream", &[("x-order", "sink"), ("content-length", "10")]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    assert_eq!((client.status(1), client.body(1).as_slice()), (Some(408), &b"request timeout"[..]));
}

#[test]
fn a_body_beyond_the_limit_gets_413_whether_it_says_so_or_not() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--max-request-bytes", "1Ki"]);
    let post =
        |bytes: usize| gateway.send(&Request::new("POST", "h", "/").order("sink").body(vec![b'x'; bytes])).status;
    assert_eq!((post(1024), post(1025)), (200, 413));
    let mut connection = gateway.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: h\r\nx-order: sink\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = [&b"400\r\n"[..], &[b'x'; 1024], b"\r\n"].concat();
    let _ = connection.send(&chunk).and_then(|()| connection.send(&chunk));
    assert_eq!(connection.response(false).unwrap().status, 413);
    gateway.await_metric("envoy_http_downstream_rq_too_large", &[], 2.0);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_their_places_come_back() {
    let app = Upstream::start("app");
    for (arguments, annotations, metric) in [
        (&["--max-connections", "2"][..], "", "envoy_listener_downstream_cx_overflow"),
        (&["--max-connections", "9"], "portolan.dev/max-connections: '2'", "envoy_listener_downstream_cx_overflow"),
        (&["--max-connections-per-source", "2"], "", "portolan_listener_downstream_cx_source_overflow"),
    ] {
        let options = options(app.address(), annotations);
        let gateway = arguments.iter().fold(options, |options, argument| options.argument(*argument)).start();
        let mut held = [gateway.connect(), gateway.connect()];
        for connection in &mut held {
            assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200, "{arguments:?}");
        }
        assert!(gateway.connect().request(&Request::get("h", "/")).is_err(), "{arguments:?} {annotations}");
        gateway.await_metric(metric, &[], 1.0);
        drop(held);
        gateway.await_metric("envoy_listener_downstream_cx_active", &[], 0.0);
        assert_eq!(gateway.get("h", "/").status, 200, "{arguments:?}");
    }
}

#[test]
fn connections_are_refused_when_memory_is_short() {
    let app = Upstream::start("app");
    let gateway = with(&app, &["--max-memory", "1Mi"]);
    gateway.await_metric("envoy_overload_envoy_overload_actions_stop_accepting_requests_active", &[], 1.0);
    assert!(gateway.connect().request(&Request::get("h", "/")).is_err());
    gateway.await_metric("envoy_listener_downstream_cx_overload_reject", &[], 1.0);
    gateway.await_log("memory is short");
}
