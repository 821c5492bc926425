//! WebSockets to backends of HTTP/2, by extended CONNECT (RFC 8441).

use crate::support::await_true;
use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::secure::{self, Authority, Backend};
use crate::support::{DEADLINE, upstream::Upstream};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What RFC 6455 has for that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const RULE: &str = "- route: [{destination: {host: app.test}}]\n  headers: {response: {set: {x-added: 'yes'}}}\n";

/// Each has connections of its own.
const WORKERS: usize = 2;

/// A gateway whose one service is of HTTP/2, with a traffic policy.
fn start(address: std::net::SocketAddr, traffic: &str, arguments: &[&str]) -> Gateway {
    let entry = service_entry("app.test", &[("v1", address)]).replace("protocol: HTTP\n", "protocol: HTTP2\n");
    let mut options =
        Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(RULE)).file("app.yaml", entry);
    if !traffic.is_empty() {
        options = options.file("policy.yaml", policy("app.test", traffic));
    }
    arguments.iter().fold(options, |options, argument| options.argument(*argument)).start()
}

fn backend() -> Backend {
    secure::Options::plain().http2().tunnels().start()
}

fn websocket(path: &str) -> Vec<u8> {
    let request = Request::get("shop.test", path).header("connection", "Upgrade").header("upgrade", "websocket");
    request.header("sec-websocket-version", "13").header("sec-websocket-key", KEY).to_bytes()
}

/// Sends a piece and reads it back.
fn echo(connection: &mut Connection, piece: &[u8]) {
    connection.send(piece).unwrap();
    assert_eq!(connection.exactly(piece.len()).unwrap(), piece);
}

#[test]
fn a_websocket_of_http1_goes_out_as_extended_connect() {
    let backend = backend();
    let gateway = start(backend.address(), "", &[]);
    let mut connection = gateway.connect();
    // What follows early is the socket's, too.
    connection.send(&[websocket("/ws?room=1"), b"early".to_vec()].concat()).unwrap();
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.header("sec-websocket-accept")), (101, Some(ACCEPT)));
    assert_eq!((head.header("upgrade"), head.header("connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(head.header("x-added"), Some("yes"), "the rule's header operations");
    assert_eq!(head.header("x-target"), Some("http://shop.test/ws?room=1"));
    assert_eq!((head.header("x-protocol"), head.header("x-version")), (Some("websocket"), Some("HTTP/2.0")));
    assert_eq!((head.header("x-key"), head.header("x-upgrade")), (Some(KEY), Some("None")));
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), (None, None));
    assert_eq!(connection.exactly(5).unwrap(), b"early");
    echo(&mut connection, &vec![b'x'; 300_000]);
    // A second one shares the connection, as do plain requests.
    let mut second = gateway.connect();
    second.send(&websocket("/ws")).unwrap();
    assert_eq!(second.head().unwrap().status, 101);
    echo(&mut second, b"second");
    assert_eq!(gateway.get("shop.test", "/plain").status, 200);
    assert!(backend.connections() <= WORKERS);
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_active", &["outbound|80||app.test"]), 2.0);
    drop(connection);
    drop(second);
    gateway.await_metric("envoy_cluster_upstream_rq_active", &["outbound|80||app.test"], 0.0);
    let line = gateway.await_access("/ws?room=1");
    assert!(line.contains("\"GET /ws?room=1 HTTP/1.1\" 101 DC downstream_remote_disconnect "), "{line}");
    assert!(line.contains(" 300005 300005 "), "{line}");
}

#[test]
fn a_websocket_of_http2_goes_out_as_one() {
    let backend = backend();
    let gateway = start(backend.address(), "connectionPool: {http: {useClientProtocol: true}}", &[]);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let others = [(":protocol", "websocket"), ("sec-websocket-version", "13")];
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&request("CONNECT", "/ws", &others))));
    assert!(client.until(DEADLINE, |client| client.status_seen(1)));
    assert_eq!((client.status(1), client.has_ended(1)), (Some(200), false));
    client.send(&frame(DATA, END_STREAM, 1, b"ping"));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    assert_eq!(client.body(1), b"ping");
}

#[test]
fn a_refusal_is_an_answer_and_the_connection_serves_on() {
    let backend = backend();
    let gateway = start(backend.address(), "", &[]);
    let mut connection = gateway.connect();
    connection.send(&websocket("/no")).unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    // Not a tunnel: the next request is one.
    assert_eq!(connection.request(&Request::get("shop.test", "/")).unwrap().status, 200);
    assert!(backend.connections() <= WORKERS);
}

#[test]
fn a_backend_that_does_not_allow_it_gets_http1_where_it_can() {
    let authority = Authority::new("ca");
    let pair = authority.issue(&["app.test"]);
    let tls = secure::Options::tls(&pair, None).start();
    let gateway = start(tls.address(), "tls: {mode: SIMPLE, sni: app.test, insecureSkipVerify: true}", &[]);
    let mut connection = gateway.connect();
    connection.send(&websocket("/ws")).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    echo(&mut connection, b"over HTTP/1.1");
    assert_eq!(gateway.metric("envoy_cluster_upstream_cx_http1_total", &["outbound|80||app.test"]), 1.0);
    // Nothing but HTTP/1, whatever the port says.
    let app = Upstream::start("app");
    let gateway = start(app.address(), "", &[]);
    let mut connection = gateway.connect();
    connection.send(&websocket("/socket")).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    echo(&mut connection, b"abc");
    // Nothing but HTTP/2, which has no way to say it.
    let two = secure::Options::plain().http2().start();
    let gateway = start(two.address(), "", &[]);
    let mut connection = gateway.connect();
    connection.send(&websocket("/ws")).unwrap();
    assert!([502, 503].contains(&connection.response(false).unwrap().status));
}

#[test]
fn an_idle_one_is_closed_and_the_shared_connection_stays() {
    let backend = backend();
    let gateway = start(backend.address(), "", &["--stream-idle-timeout", "1s"]);
    let mut connection = gateway.connect();
    connection.send(&websocket("/idle")).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    echo(&mut connection, b"abc");
    assert!(connection.is_closed());
    let line = gateway.await_access("/idle");
    assert!(line.contains(" 101 SI stream_idle_timeout "), "{line}");
    await_true("the stream's end", || gateway.metric("envoy_cluster_upstream_rq_active", &[]) == 0.0);
    assert_eq!(gateway.get("shop.test", "/").status, 200);
    assert!(backend.connections() <= WORKERS);
}
