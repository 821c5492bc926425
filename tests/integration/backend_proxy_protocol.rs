//! PROXY protocol towards backends, over HTTP and TCP listeners.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::Options;
use crate::support::tcp::{Server, Tcp, read_some, to};

/// Answers each request of HTTP/1.1, and keeps what came first on each connection.
fn backend() -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = kept.clone();
            std::thread::spawn(move || serve(stream, &kept));
        }
    });
    (address, seen)
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    let (mut all, mut block, mut is_first) = (Vec::new(), [0; 4096], true);
    while let Ok(count @ 1..) = stream.read(&mut block) {
        all.extend_from_slice(&block[..count]);
        if !all.windows(4).any(|end| end == b"\r\n\r\n") || !all.windows(4).any(|word| word == b"HTTP") {
            continue;
        }
        if std::mem::take(&mut is_first) {
            kept.lock().unwrap().push(std::mem::take(&mut all));
        }
        all.clear();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
}

#[test]
fn each_client_is_told_by_a_line_on_a_connection_of_its_own() {
    let (address, seen) = backend();
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", address)]))
        .file("policy.yaml", policy("app.test", "proxyProtocol: {version: V1}\n"))
        .start();
    let mut one = gateway.connect();
    for _ in 0..3 {
        assert_eq!(one.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    assert_eq!(gateway.get("h", "/").status, 200);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "requests of one client share a connection, those of two do not");
    for first in seen.iter() {
        let text = String::from_utf8_lossy(first);
        let line = text.split("\r\n").next().unwrap();
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[..4], ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1"], "{line}");
        assert_eq!(words[5], gateway.address().port().to_string());
        assert!(text[line.len() + 2..].starts_with("GET / HTTP/1.1\r\n"), "{text}");
    }
}

#[test]
fn version_2_is_binary() {
    let (address, seen) = backend();
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", address)]))
        .file("policy.yaml", policy("app.test", "proxyProtocol: {version: V2}\n"))
        .start();
    assert_eq!(gateway.get("h", "/").status, 200);
    let seen = seen.lock().unwrap();
    assert_eq!(&seen[0][..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(seen[0][12..20], [0x21, 0x11, 0, 12, 127, 0, 0, 1]);
    assert!(seen[0][28..].starts_with(b"GET / HTTP/1.1\r\n"));
}

#[test]
fn connections_of_tcp_listeners_begin_with_it_too() {
    let server = Server::start();
    let rule = policy("app.test", "proxyProtocol: {version: V1}\n");
    let tcp = Tcp::start(&format!("{}---\n{rule}", to(server.address)));
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    let upstream = server.accept();
    let wanted = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello",
        client.local_addr().unwrap().port(),
        tcp.port.address().port()
    );
    assert_eq!(read_some(&upstream, wanted.len()), wanted);
}
