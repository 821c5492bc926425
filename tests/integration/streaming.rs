//! Bodies flow through in both directions as they come, with bounded memory; upgraded connections become a pipe.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

const MIB: usize = 1024 * 1024;

fn gateway(app: &Upstream) -> Gateway {
    before(app.address())
}

fn before(app: SocketAddr) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app)]))
        .start()
}

#[test]
fn a_response_in_chunks_arrives_whole() {
    let app = Upstream::start("app");
    let response = gateway(&app).send(&Request::get("h", "/").order("chunks 5000"));
    let wanted: String = (0..5000).map(|number| format!("{number:010}")).collect();
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert!(response.text() == wanted, "{} bytes of {}", response.body.len(), wanted.len());
}

#[test]
fn a_request_in_chunks_is_passed_on_chunk_by_chunk() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    let head = "POST / HTTP/1.1\r\nHost: h\r\nx-order: echo\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes()).unwrap();
    connection.send(b"5\r\nfirst\r\n").unwrap();
    // The answer to the first chunk is here before the second is sent: nothing was buffered up.
    assert_eq!(connection.head().unwrap().status, 200);
    assert_eq!(connection.chunk().unwrap().unwrap(), b"first");
    connection.send(b"6\r\nsecond\r\n").unwrap();
    assert_eq!(connection.chunk().unwrap().unwrap(), b"second");
    connection.send(b"0\r\n\r\n").unwrap();
    assert_eq!(connection.chunk().unwrap(), None);
    assert_eq!(connection.request(&Request::get("h", "/after")).unwrap().seen_request_line(), "GET /after HTTP/1.1");
}

#[test]
fn a_download_of_100_mib_to_a_slow_reader_needs_little_memory() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    assert_eq!(gateway.get("h", "/").status, 200);
    let before = gateway.resident_bytes();
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/").order(&format!("bytes {}", 100 * MIB)).to_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().header("content-length"), Some((100 * MIB).to_string().as_str()));
    let mut most = 0;
    for _ in 0..100 {
        assert!(connection.exactly(MIB).unwrap().iter().all(|byte| *byte == b'b'));
        most = most.max(gateway.resident_bytes());
    }
    let grown = most.saturating_sub(before) / MIB as u64;
    assert!(grown < 24, "{grown} MiB more for one download");
}

#[test]
fn an_upload_of_100_mib_needs_little_memory() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    assert_eq!(gateway.get("h", "/").status, 200);
    let before = gateway.resident_bytes();
    let mut connection = gateway.connect();
    let head = format!("POST / HTTP/1.1\r\nHost: h\r\nx-order: sink\r\ncontent-length: {}\r\n\r\n", 100 * MIB);
    connection.send(head.as_bytes()).unwrap();
    let block = vec![b'u'; MIB];
    let mut most = 0;
    for _ in 0..100 {
        connection.send(&block).unwrap();
        most = most.max(gateway.resident_bytes());
    }
    assert_eq!(connection.response(false).unwrap().text(), (100 * MIB).to_string());
    let grown = most.saturating_sub(before) / MIB as u64;
    assert!(grown < 24, "{grown} MiB more for one upload");
}

#[test]
fn a_body_that_the_upstream_cuts_short_looks_cut() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let error = gateway.connect().request(&Request::get("h", "/cut").order("half")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    let line = gateway.await_access("/cut");
    assert!(line.contains(" 200 UPE "), "{line}");
    assert_eq!(gateway.get("h", "/").status, 200);
}

#[test]
fn a_client_that_goes_away_ends_the_upstream_request() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    connection.send(&Request::get("h", "/gone").order(&format!("bytes {}", 1000 * MIB)).to_bytes()).unwrap();
    connection.exactly(MIB).unwrap();
    drop(connection);
    await_true("the upstream to be rid of it", || app.in_flight() == 0);
    let line = gateway.await_access("/gone");
    assert!(line.contains(" DC "), "{line}");
}

#[test]
fn who_ends_a_websocket_is_told_with_what_went_through() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = before(listener.local_addr().unwrap());
    let begin = |path: &str| {
        let mut client = gateway.connect();
        client.send(&socket(path).to_bytes()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(server);
        read_head(&mut reader);
        let mut server = reader.into_inner();
        server.write_all(b"HTTP/1.1 101 Up\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello").unwrap();
        assert_eq!(client.head().unwrap().status, 101);
        assert_eq!(client.exactly(5).unwrap(), b"hello");
        client.send(b"hi").unwrap();
        server.read_exact(&mut [0; 2]).unwrap();
        (client, server)
    };
    let (client, mut server) = begin("/client");
    drop(client);
    // It hears of that, and may still speak.
    server.read_to_end(&mut Vec::new()).unwrap();
    drop(server);
    let line = gateway.await_access("/client");
    assert!(line.contains(" 101 DC downstream_remote_disconnect ") && line.contains(" 2 5 "), "{line}");
    let (mut client, server) = begin("/server");
    drop(server);
    assert!(client.is_closed());
    drop(client);
    let line = gateway.await_access("/server");
    assert!(line.contains(" 101 UC upstream_reset_after_response_started{connection_termination} "), "{line}");
    assert!(line.contains(" 2 5 "), "{line}");
}

fn read_head(mut reader: impl BufRead) {
    while reader.by_ref().lines().next().is_some_and(|line| !line.unwrap().is_empty()) {}
}

fn socket(path: &str) -> Request {
    Request::get("h", path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

#[test]
fn a_websocket_upgrade_becomes_a_pipe() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    connection.send(&socket("/socket").to_bytes()).unwrap();
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
    for size in [1, 10, 1000, 100_000] {
        let block: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        connection.send(&block).unwrap();
        assert_eq!(connection.exactly(size).unwrap(), block);
    }
    drop(connection);
    await_true("the upstream's end of the pipe", || app.in_flight() == 0);
    assert!(gateway.await_access("/socket").contains(" 101 "));
}
