//! Good conversations with some bits wrong: whatever comes of one, it ends, and nobody else notices.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::support::DEADLINE;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::draw::Draw;
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::tls::{Authority, Tls};
use crate::support::upstream::Upstream;

/// Conversations of each kind.
const ROUNDS: usize = 800;

/// One or two of every kind of frame, as clients send them.
fn frames() -> Vec<u8> {
    let get = block(&request("GET", "/a?b=c", &[("accept", "*/*"), ("x-long", &"v".repeat(200))]));
    let post = block(&request("POST", "/", &[("content-length", "9"), ("te", "trailers")]));
    // By indexes: GET, /, http, then `:authority` that goes into the table, and that out of it.
    let indexed = [&[0x82, 0x84, 0x86, 0x41, 8][..], b"app.test"].concat();
    let again = [0x82, 0x84, 0x86, 0xbe];
    let padded = [&[3][..], b"hello", &[0; 3]].concat();
    let weighted = [&[0, 0, 0, 1, 15][..], &indexed].concat();
    [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]),
        frame(HEADERS, WHOLE, 1, &get),
        frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]),
        frame(HEADERS, 0, 3, &post[..20]),
        frame(CONTINUATION, END_HEADERS, 3, &post[20..]),
        frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 15]),
        frame(DATA, PADDED, 3, &padded),
        frame(WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]),
        frame(DATA, 0, 3, b"rest"),
        frame(HEADERS, WHOLE, 3, &block(&[("x-trailer", "t")])),
        frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, WHOLE | HAS_PRIORITY, 5, &weighted),
        frame(HEADERS, END_HEADERS, 7, &again),
        frame(RST_STREAM, 0, 7, &[0, 0, 0, 8]),
        frame(GOAWAY, 0, 0, &[0; 8]),
    ]
    .concat()
}

/// What HTTP/2 and HPACK stumble over.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\x0f",
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x00\x00\x08\x06\x01\x00\x00\x00\x00",
    b"\x00\x00\x04\x08\x00\x00\x00\x00\x03\x7f\xff\xff\xff",
    b"\x00\x40\x00\x00\x00\x00\x00\x00\x01",
    b"\x3f\xe1\x1f",
    b"\x20",
    b"\xbe",
    b"\x40\x05:path\x01/",
    b"\x00\x00\x00",
    b"\x00\x11transfer-encoding\x07chunked",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// All of it is sent, and no more; what has come when the gateway has ended the connection.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    // Refused in the middle, the rest meets a closed connection.
    let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
    let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match socket.read(&mut piece) {
            Ok(0) => return answer,
            Ok(length) => answer.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("the connection does not end: {error}, after {:?}", bytes.escape_ascii().to_string()),
        }
    }
}

/// Nothing is left of the conversations, nothing panicked.
fn assert_unharmed(gateway: &Gateway, descriptors: usize) {
    assert_eq!(gateway.metric("portolan_panics_total", &[]), 0.0);
    crate::support::await_true("connections are closed", || gateway.open_descriptors() <= descriptors + 8);
}

#[test]
fn mutated_http2_ends_and_harms_nobody() {
    let upstream = Upstream::start("app");
    let files = routes("- route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])];
    let gateway = Options::new().file("app.yaml", files.concat()).start();
    let (good, mut draw) = (frames(), Draw(0x6832));
    let mut client = RawHttp2::silent(gateway.address());
    client.send(&good);
    for stream in [1, 3, 5] {
        client.until(DEADLINE, |client| client.has_ended(stream));
        assert_eq!(client.status(stream), Some(200), "without a mutation: {:?}", client.frames);
    }
    drop(client);
    let descriptors = gateway.open_descriptors();
    for round in 0..ROUNDS {
        answer(gateway.address(), &draw.mutate(&good, PIECES));
        if round % 50 == 0 {
            assert_eq!(gateway.send(&Request::get("app.test", "/")).status, 200);
        }
    }
    assert_unharmed(&gateway, descriptors);
}

#[test]
fn a_mutated_client_hello_ends_in_an_alert_and_harms_nobody() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = Tls::of_one_host(&authority, &upstream);
    let client = tls.client(&authority);
    let mut hello = Vec::new();
    let name = "a.test".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(client.alpn("h2").config(true), name).unwrap();
    connection.write_tls(&mut hello).unwrap();
    let descriptors = tls.gateway.open_descriptors();
    let mut draw = Draw(0x715);
    for round in 0..ROUNDS {
        let answer = answer(tls.port.address(), &draw.mutate(&hello, PIECES));
        // Nothing, an alert, or the server's part of a handshake that the mutation left whole.
        assert!(matches!(answer.first(), None | Some(0x15 | 0x16)), "{answer:?}");
        if round % 50 == 0 {
            assert_eq!(client.http("a.test").unwrap().request(&Request::get("a.test", "/")).unwrap().status, 200);
        }
    }
    assert_unharmed(&tls.gateway, descriptors);
}
