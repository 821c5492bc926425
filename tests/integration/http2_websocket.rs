//! WebSockets over HTTP/2 (RFC 8441) to servers of HTTP/1.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_true};

fn start(upstream: SocketAddr) -> Gateway {
    let files = routes("- route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream)])];
    Options::new().file("app.yaml", files.concat()).start()
}

fn connect(path: &str, protocol: &str) -> Vec<u8> {
    let others = [(":protocol", protocol), ("sec-websocket-version", "13"), ("origin", "http://app.test")];
    frame(HEADERS, END_HEADERS, 1, &block(&request("CONNECT", path, &others)))
}

/// Takes upgrades one by one, and hands each on with its head.
fn server() -> (SocketAddr, mpsc::Receiver<(String, BufReader<TcpStream>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (sender, taken) = mpsc::channel();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut reader = BufReader::new(socket);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
            let answer: &[u8] = match head.split(' ').nth(1) {
                Some("/no") => b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
                Some("/plain") => b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
                _ => {
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n\r\n"
                }
            };
            let _ = reader.get_mut().write_all(answer);
            let _ = sender.send((head.to_lowercase(), reader));
        }
    });
    (address, taken)
}

#[test]
fn a_websocket_over_http2_becomes_an_upgrade_of_http1_and_a_pipe() {
    let (address, taken) = server();
    let gateway = start(address);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    assert!(client.until(DEADLINE, |client| client.of(SETTINGS, 0).next().is_some()));
    let settings = &client.of(SETTINGS, 0).next().unwrap().payload;
    assert!(settings.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "SETTINGS_ENABLE_CONNECT_PROTOCOL");
    client.send(&connect("/chat?room=1", "websocket"));
    let (head, mut socket) = taken.recv_timeout(DEADLINE).unwrap();
    assert!(head.starts_with("get /chat?room=1 http/1.1\r\n"), "{head}");
    for line in ["host: app.test", "upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    assert!(key.len() == 24 && key.ends_with("=="), "{key}");
    assert!(client.until(DEADLINE, |client| client.status_seen(1)));
    assert_eq!((client.status(1), client.has_ended(1)), (Some(200), false));
    // Both ways.
    client.send(&frame(DATA, 0, 1, b"ping"));
    let mut bytes = [0; 4];
    socket.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    socket.get_mut().write_all(b"pong").unwrap();
    assert!(client.until(DEADLINE, |client| client.body(1) == b"pong"));
    // The client's end is passed on; the server may still speak.
    client.send(&frame(DATA, END_STREAM, 1, b"bye"));
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"bye");
    socket.get_mut().write_all(b"farewell").unwrap();
    drop(socket);
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    assert_eq!(client.body(1), b"pongfarewell");
    let line = gateway.await_access("/chat");
    assert!(line.contains("\"GET /chat?room=1 HTTP/2\" 101"), "{line}");
}

#[test]
fn either_side_may_break_off() {
    let (address, taken) = server();
    let gateway = start(address);
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&connect("/", "websocket"));
    let (_, mut socket) = taken.recv_timeout(DEADLINE).unwrap();
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    let mut rest = Vec::new();
    // An end or an error, but an end of it.
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty() && client.is_alive());
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&connect("/", "websocket"));
    let (_, socket) = taken.recv_timeout(DEADLINE).unwrap();
    assert!(client.until(DEADLINE, |client| client.status_seen(1)));
    drop(socket);
    assert!(client.until(DEADLINE, |client| client.has_ended(1)) && client.is_alive());
}

#[test]
fn much_goes_through_and_nobody_reads_ahead() {
    let upstream = Upstream::start("app");
    let gateway = start(upstream.address());
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&connect("/", "websocket"));
    assert!(client.until(DEADLINE, |client| client.status_seen(1)));
    let piece = vec![b'x'; 16_000];
    for round in 1..=20 {
        client.send(&frame(DATA, 0, 1, &piece));
        assert!(client.until(DEADLINE, |client| client.body(1).len() == round * piece.len()));
        for stream in [0, 1] {
            client.send(&frame(WINDOW_UPDATE, 0, stream, &16_000_u32.to_be_bytes()));
        }
    }
    client.send(&frame(DATA, END_STREAM, 1, &[]));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    await_true("the upstream's end of the pipe", || upstream.in_flight() == 0);
}

#[test]
fn an_upgrade_that_is_refused_stays_an_answer() {
    let (address, _taken) = server();
    let gateway = start(address);
    for (path, protocol, statuses) in [
        ("/no", "websocket", &[403][..]),
        // Any success would be taken for the upgrade.
        ("/plain", "websocket", &[502]),
        ("/", "connect-udp", &[403, 405, 501]),
    ] {
        let mut client = RawHttp2::connect(gateway.address(), &[]);
        client.send(&connect(path, protocol));
        assert!(client.until(DEADLINE, |client| client.has_ended(1)), "{path}");
        assert!(client.status(1).is_some_and(|status| statuses.contains(&status)), "{path}: {:?}", client.frames);
    }
    // A plain CONNECT.
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    let fields = [(":method", "CONNECT"), (":authority", "app.test:80")];
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    assert!(client.until(DEADLINE, |client| client.has_ended(1)));
    assert!(client.status(1).is_some_and(|status| (400..500).contains(&status)), "{:?}", client.frames);
}
