//! Large bodies over HTTP/2 on both sides: they flow at the reader's pace, and little of them is ever kept.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;

use bytes::Bytes;

use crate::support::DEADLINE;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::h2::*;
use crate::support::secure;
use crate::support::upstream::Upstream;

const SIZE: usize = 64 << 20;
const MOST: u64 = 20 << 20;

fn start(address: std::net::SocketAddr, protocol: &str) -> Gateway {
    let entry =
        service_entry("app.test", &[("v1", address)]).replace("protocol: HTTP\n", &format!("protocol: {protocol}\n"));
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start();
    assert_eq!(gateway.get("app.test", "/").status, 200);
    gateway
}

#[test]
fn a_large_answer_comes_at_the_readers_pace_in_little_memory() {
    let backend = secure::Options::plain().http2().start();
    let gateway = start(backend.address(), "HTTP2");
    let before = gateway.resident_bytes();
    let mut client = RawHttp2::connect(gateway.address(), &[]);
    client.send(&frame(HEADERS, WHOLE, 1, &block(&request("GET", &format!("/big/{SIZE}"), &[]))));
    let (mut got, mut most) = (0, 0);
    while got < SIZE {
        let came = |client: &RawHttp2| client.of(DATA, 1).map(|frame| frame.payload.len()).sum::<usize>();
        assert!(client.until(DEADLINE, |client| came(client) > 0), "{got}");
        let length = came(&client);
        // What is not read yet is nowhere but at the upstream: the window is the only one that was given.
        assert!(length <= 65_535);
        if got >> 22 != (got + length) >> 22 {
            most = most.max(gateway.resident_bytes());
        }
        got += length;
        client.frames.clear();
        for stream in [0, 1] {
            client.send(&frame(WINDOW_UPDATE, 0, stream, &u32::try_from(length).unwrap().to_be_bytes()));
        }
    }
    assert_eq!(got, SIZE);
    assert!(most < before + MOST, "{}", most - before);
}

/// hyper takes NO_ERROR for the end of a body: what the upstream got would look whole.
#[test]
fn an_upload_that_its_client_resets_without_an_error_is_cut_at_the_upstream() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let entry = service_entry("app.test", &[("v1", listener.local_addr().unwrap())]);
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start();
    for (code, fields) in [(0, &[][..]), (8, &[][..]), (0, &[("content-length", "9")][..])].repeat(5) {
        let mut client = RawHttp2::connect(gateway.address(), &[]);
        client.send(&frame(HEADERS, END_HEADERS, 1, &block(&request("POST", "/", fields))));
        client.send(&frame(DATA, 0, 1, b"half"));
        let (mut upstream, _) = listener.accept().unwrap();
        upstream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (mut got, mut piece) = (Vec::new(), [0; 4096]);
        while !got.windows(4).any(|bytes| bytes == b"half") {
            let length = upstream.read(&mut piece).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&piece[..length]);
        }
        client.send(&frame(RST_STREAM, 0, 1, &u32::to_be_bytes(code)));
        // The connection ends, and nothing that ends the body comes before.
        let mut rest = Vec::new();
        let end = upstream.read_to_end(&mut rest).map_err(|error| error.kind());
        assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        assert_eq!(String::from_utf8_lossy(&rest).trim(), "", "code {code}");
        assert!(client.is_alive(), "other streams go on");
    }
}

#[test]
fn a_large_request_is_taken_no_faster_than_the_upstream_reads_it() {
    let app = Upstream::start("app");
    let gateway = start(app.address(), "HTTP");
    let before = gateway.resident_bytes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(gateway.address()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://app.test/").header("x-order", "sink").body(()).unwrap();
        let (answer, mut body) = sender.send_request(request, false).unwrap();
        let piece = Bytes::from(vec![b'x'; 16 * 1024]);
        for _ in 0..SIZE / piece.len() {
            body.reserve_capacity(piece.len());
            while body.capacity() < piece.len() {
                std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
            }
            body.send_data(piece.clone(), false).unwrap();
        }
        body.send_data(Bytes::new(), true).unwrap();
        let mut answer = answer.await.unwrap();
        answer.body_mut().data().await.unwrap().unwrap()
    });
    assert_eq!(answer, SIZE.to_string());
    assert!(gateway.resident_bytes() < before + MOST);
}
