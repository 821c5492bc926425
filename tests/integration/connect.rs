//! CONNECT where a Gateway asks for it: on to the endpoint, or ending in the gateway.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::DEADLINE;
use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::secure;

const RULE: &str = "- route: [{destination: {host: app.test}}]\n  headers: {response: {set: {x-added: 'yes'}}}\n";

/// Each has connections of its own.
const WORKERS: usize = 2;

/// A gateway that takes CONNECT in this mode, empty for none.
fn start(mode: &str, rules: &str, backend: (SocketAddr, &str), arguments: &[&str]) -> Gateway {
    let options = files(mode, rules, backend);
    arguments.iter().fold(options, |options, argument| options.argument(*argument)).start()
}

fn files(mode: &str, rules: &str, (address, protocol): (SocketAddr, &str)) -> Options {
    let annotations = format!("  annotations: {{portolan.dev/connect: {mode}}}\nspec:\n");
    let gateway = if mode.is_empty() { ANY_GATEWAY.to_owned() } else { ANY_GATEWAY.replace("spec:\n", &annotations) };
    let entry = service_entry("app.test", &[("v1", address)]);
    Options::new()
        .file("gateway.yaml", gateway)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", entry.replace("protocol: HTTP\n", &format!("protocol: {protocol}\n")))
}

fn connect(target: &str, fields: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{fields}\r\n").into_bytes()
}

/// A proxy of HTTP/1: hands on each head that it gets. `no` is refused; anything else becomes an echo, after some time in
/// which nothing may come.
fn proxy() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(socket, &sender));
        }
    });
    (address, heads)
}

fn serve(socket: TcpStream, heads: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
    let refused = head.starts_with("CONNECT no:");
    heads.send(head).unwrap();
    if refused {
        let _ = (&socket).write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
        let mut rest = String::new();
        let _ = reader.read_to_string(&mut rest);
        let _ = heads.send(rest);
        return;
    }
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let early = reader.fill_buf().map(<[u8]>::len);
    socket.set_read_timeout(None).unwrap();
    let answer = if early.is_ok() { "500 Too Early" } else { "200 Connection established\r\nx-via: proxy" };
    let _ = (&socket).write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 7\r\n\r\nhello ").as_bytes());
    let _ = std::io::copy(&mut reader, &mut &socket);
    let _ = socket.shutdown(std::net::Shutdown::Write);
}

/// Sends bytes back.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut &socket, &mut &socket);
                let _ = socket.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    address
}

fn echoes(connection: &mut Connection, piece: &[u8]) {
    connection.send(piece).unwrap();
    assert_eq!(connection.exactly(piece.len()).unwrap(), piece);
}

#[test]
fn a_connect_goes_on_and_its_success_opens_a_tunnel() {
    let (address, heads) = proxy();
    let gateway = start("forward", RULE, (address, "HTTP"), &[]);
    let mut client = gateway.connect();
    // What the client says before the answer waits for it.
    let asked = b"CONNECT shop.test:443 HTTP/1.1\r\nhost: other.test\r\nproxy-authorization: x\r\n\r\nearly";
    client.send(asked).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("x-via"), head.header("x-added")), (200, Some("proxy"), Some("yes")));
    assert_eq!((head.header("content-length"), head.header("connection")), (None, None));
    let sent = heads.recv_timeout(DEADLINE).unwrap().to_lowercase();
    assert!(sent.starts_with("connect shop.test:443 http/1.1\r\n") && sent.contains("\r\nhost: shop.test:443\r\n"));
    assert!(sent.contains("\r\nx-forwarded-proto: http\r\n") && !sent.contains("proxy-authorization"), "{sent}");
    assert_eq!(client.exactly(11).unwrap(), b"hello early");
    echoes(&mut client, &vec![b'x'; 200_000]);
    drop(client);
    let line = gateway.await_access("CONNECT");
    // Both sides have ended; the client was the first to go.
    assert!(line.contains("\"CONNECT - HTTP/1.1\" 200 DC downstream_remote_disconnect "), "{line}");
    assert!(line.contains(" 200005 200011 "), "{line}");
    assert!(line.contains("\"shop.test:443\""), "{line}");
    gateway.await_metric("envoy_cluster_upstream_rq_active", &["outbound|80||app.test"], 0.0);
}

#[test]
fn what_follows_a_connect_that_is_refused_reaches_nobody() {
    let (address, heads) = proxy();
    let gateway = start("forward", RULE, (address, "HTTP"), &[]);
    let mut client = gateway.connect();
    client.send(&[connect("no:1", ""), b"GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n".to_vec()].concat()).unwrap();
    let response = client.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(heads.recv_timeout(DEADLINE).unwrap().starts_with("CONNECT no:1 "));
    drop(gateway);
    assert_eq!(heads.recv_timeout(DEADLINE).unwrap(), "");
}

#[test]
fn a_connect_goes_to_a_cluster_of_http2_as_one_of_its_streams() {
    let backend = secure::Options::plain().http2().tunnels().start();
    let gateway = start("forward", RULE, (backend.address(), "HTTP2"), &[]);
    for piece in [b"first", b"other", b"third"] {
        let mut client = gateway.connect();
        client.send(&connect("shop.test:443", "")).unwrap();
        let head = client.head().unwrap();
        assert_eq!((head.status, head.header("x-target")), (200, Some("shop.test:443")));
        assert_eq!((head.header("x-protocol"), head.header("x-version")), (Some("-"), Some("HTTP/2.0")));
        echoes(&mut client, piece);
    }
    let mut client = gateway.connect();
    client.send(&connect("no:1", "")).unwrap();
    assert_eq!(client.response(false).unwrap().status, 403);
    assert!(backend.connections() <= WORKERS);
}

#[test]
fn clients_of_http2_have_tunnels_too() {
    let (address, _heads) = proxy();
    for (gateway, greeting) in [
        (start("forward", RULE, (address, "HTTP"), &[]), "hello "),
        (start("terminate", RULE, (echo(), "TCP"), &[]), ""),
    ] {
        let mut client = RawHttp2::connect(gateway.address(), &[]);
        let fields = [(":method", "CONNECT"), (":authority", "shop.test:443")];
        client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
        assert!(client.until(DEADLINE, |client| client.status_seen(1)));
        assert_eq!((client.status(1), client.has_ended(1)), (Some(200), false));
        client.send(&frame(DATA, END_STREAM, 1, b"ping"));
        assert!(client.until(DEADLINE, |client| client.has_ended(1)));
        assert_eq!(client.body(1), format!("{greeting}ping").as_bytes());
        let line = gateway.await_access("CONNECT");
        assert!(line.contains("\"CONNECT - HTTP/2\" 200 - via_upstream "), "{line}");
        // Without a port, and another protocol than WebSocket.
        for (stream, fields) in [
            (3, block(&[(":method", "CONNECT"), (":authority", "shop.test")])),
            (5, block(&request("CONNECT", "/", &[(":protocol", "connect-udp")]))),
        ] {
            client.send(&frame(HEADERS, END_HEADERS, stream, &fields));
            assert!(client.until(DEADLINE, |client| client.has_ended(stream)), "{stream}");
            assert!(client.status(stream).is_none_or(|status| (400..500).contains(&status)), "{:?}", client.frames);
        }
    }
}

#[test]
fn a_tunnel_may_end_in_the_gateway() {
    let gateway = start("terminate", RULE, (echo(), "TCP"), &[]);
    let mut client = gateway.connect();
    client.send(&[connect("shop.test:443", ""), b"early".to_vec()].concat()).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("content-length"), head.header("transfer-encoding")), (200, None, None));
    assert_eq!(head.header("x-added"), Some("yes"));
    assert_eq!(client.exactly(5).unwrap(), b"early");
    echoes(&mut client, &vec![b'x'; 200_000]);
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_active", &["outbound|80||app.test"]), 1.0);
    drop(client);
    gateway.await_metric("envoy_cluster_upstream_rq_active", &["outbound|80||app.test"], 0.0);
    gateway.await_metric("envoy_cluster_upstream_cx_active", &["outbound|80||app.test"], 0.0);
    let line = gateway.await_access("CONNECT");
    assert!(line.contains("\"CONNECT - HTTP/1.1\" 200 DC downstream_remote_disconnect "), "{line}");
    assert!(line.contains(" 200005 200005 "), "{line}");
    // Other requests go on as ever.
    assert_eq!(gateway.send(&Request::get("h", "/").header("connection", "close")).status, 502);
}

#[test]
fn an_endpoint_that_is_not_there_is_tried_again_and_then_told() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = start("terminate", RULE, (address, "TCP"), &[]);
    let mut client = gateway.connect();
    client.send(&connect("shop.test:443", "")).unwrap();
    let response = client.response(false).unwrap();
    assert_eq!((response.status, response.header("connection")), (503, Some("close")));
    assert!(client.is_closed());
    let line = gateway.await_access("CONNECT");
    let details = "{remote_connection_failure|delayed_connect_error:_Connection_refused}";
    assert!(line.contains(" 503 URX,UF ") && line.contains(details), "{line}");
    gateway.await_metric("envoy_cluster_upstream_rq_retry", &["outbound|80||app.test"], 2.0);
    gateway.await_metric("envoy_cluster_upstream_rq_completed", &["outbound|80||app.test"], 1.0);
}

#[test]
fn rules_with_a_path_are_for_no_connect() {
    // Of Istio's, rules behind a catch-all are none: those with a path come last.
    let rules = "- match: [{authority: {prefix: get.test}, method: {exact: GET}}]\n  route: [{destination: {host: app.test}}]\n\
                 - match: [{authority: {prefix: shop.test}, method: {exact: CONNECT}}]\n  route: [{destination: {host: app.test}}]\n\
                 - match: [{uri: {regex: /?.*}}, {uri: {prefix: /}}]\n  route: [{destination: {host: app.test}}]\n";
    let gateway = start("terminate", rules, (echo(), "TCP"), &[]);
    for (target, status) in [("shop.test:443", 200), ("get.test:443", 404), ("other.test:1", 404)] {
        let mut client = gateway.connect();
        client.send(&connect(target, "")).unwrap();
        assert_eq!(client.head().unwrap().status, status, "{target}");
    }
}

#[test]
fn what_is_no_connect_is_refused_as_by_envoy() {
    let gateway = start("forward", RULE, (echo(), "HTTP"), &[]);
    for (head, status, details) in [
        (connect("shop.test", ""), 400, "http1.invalid_url"),
        (connect("/path", ""), 400, "http1.invalid_url"),
        (connect("http://shop.test:80/", ""), 400, "http1.invalid_url"),
        (connect("u@shop.test:80", ""), 400, "http1.invalid_url"),
        (connect("shop.test:443", "content-length: 5\r\n"), 400, "http1.body_disallowed"),
        (connect("shop.test:443", "transfer-encoding: chunked\r\n"), 501, "http1.invalid_transfer_encoding"),
    ] {
        let mut client = gateway.connect();
        client.send(&head).unwrap();
        let response = client.response(false).unwrap();
        let shown = String::from_utf8_lossy(&head).into_owned();
        assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{shown}");
        assert!(client.is_closed(), "{shown}");
        assert!(gateway.await_access(details).contains(" DPE "), "{shown}");
    }
}

#[test]
fn without_the_annotation_it_is_405() {
    let gateway = start("", RULE, (echo(), "TCP"), &[]);
    let mut client = gateway.connect();
    client.send(&connect("shop.test:443", "")).unwrap();
    assert_eq!(client.response(false).unwrap().status, 405);
    assert!(client.is_closed());
}

#[test]
fn a_tunnel_that_is_idle_is_closed() {
    let gateway = start("terminate", RULE, (echo(), "TCP"), &["--stream-idle-timeout", "1s"]);
    let mut client = gateway.connect();
    client.send(&connect("shop.test:443", "")).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    echoes(&mut client, b"abc");
    assert!(client.is_closed());
    let line = gateway.await_access("CONNECT");
    assert!(line.contains(" 200 SI stream_idle_timeout "), "{line}");
}

#[test]
fn policies_decide_about_its_head() {
    let policy = |name: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: istio-system}}\n\
             spec: {spec}\n"
        )
    };
    let deny =
        policy("deny", "{action: DENY, rules: [{to: [{operation: {methods: [CONNECT], hosts: ['deny.test*']}}]}]}");
    let paths = policy("paths", "{action: ALLOW, rules: [{to: [{operation: {paths: ['/*']}}]}]}");
    for (policies, target, status) in [
        (&deny, "shop.test:443", 200),
        (&deny, "deny.test:443", 403),
        // It has none.
        (&paths, "shop.test:443", 403),
    ] {
        let gateway = files("terminate", RULE, (echo(), "TCP")).file("policies.yaml", policies.as_str()).start();
        gateway.await_filters();
        let mut client = gateway.connect();
        client.send(&connect(target, "")).unwrap();
        let head = client.head().unwrap();
        assert_eq!(head.status, status, "{target}");
        assert_eq!(head.header("connection"), (status == 403).then_some("close"));
    }
}

#[test]
fn explain_knows_the_rule_that_a_connect_takes() {
    let gateway = start("terminate", RULE, (echo(), "TCP"), &[]);
    let explain = |method: &str| {
        let config = gateway.config();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(["explain", "--url", "http://shop.test/", "-X", method, "--config"]).arg(config);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let told = explain("CONNECT");
    assert!(told.contains("CONNECT shop.test:80\n") && told.contains("sent to app.test"), "{told}");
    assert!(explain("TRACE").contains("405 method_not_allowed"));
}
