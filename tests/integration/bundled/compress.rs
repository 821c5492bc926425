//! `compress` between real sockets.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::plugin;
use crate::support::client::{Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// An upstream that answers each request on a connection of its own with these bytes, part by part: the next one when
/// the client says so.
struct Parts {
    address: std::net::SocketAddr,
    next: std::sync::mpsc::Sender<()>,
}

impl Parts {
    fn start(head: &'static str, parts: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (next, turns) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head_of_request = [0; 4_096];
                if !stream.read(&mut head_of_request).is_ok_and(|length| length > 0) {
                    continue;
                }
                let _ = stream.write_all(head.as_bytes());
                for part in &parts {
                    if turns.recv().is_err() || stream.write_all(part).is_err() {
                        break;
                    }
                }
            }
        });
        Self { address, next }
    }

    fn gateway(&self, config: &str) -> Gateway {
        let options = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
            .file("app.yaml", service_entry("app.test", &[("v1", self.address)]))
            .file("plugin.yaml", plugin("compress", config));
        let gateway = options.start();
        super::await_running(&gateway);
        gateway
    }
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn gunzip(bytes: &[u8]) -> String {
    let mut plain = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut plain).expect("a whole gzip body");
    plain
}

fn gzip_request() -> Request {
    Request::get("h", "/").header("accept-encoding", "gzip")
}

const HTML: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";

#[test]
fn each_part_arrives_when_the_upstream_has_sent_it() {
    let lines: Vec<String> = (0..5).map(|number| format!("line {number}, as the upstream has it\n")).collect();
    let mut parts: Vec<Vec<u8>> = lines.iter().map(|line| chunk(line)).collect();
    parts.push(b"0\r\n\r\n".to_vec());
    let upstream = Parts::start(HTML, parts);
    let gateway = upstream.gateway("minContentLength: 1");
    let mut client = gateway.connect();
    client.send(&gzip_request().to_bytes()).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.header("content-encoding"), head.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
    let mut inflated = flate2::write::GzDecoder::new(Vec::new());
    for count in 1..=lines.len() {
        upstream.next.send(()).unwrap();
        // Chunks of our own may be smaller; no part waits for the next one.
        while inflated.get_ref().len() < lines[..count].concat().len() {
            inflated.write_all(&client.chunk().unwrap().expect("more of the body")).unwrap();
            inflated.flush().unwrap();
        }
    }
    upstream.next.send(()).unwrap();
    while let Some(rest) = client.chunk().unwrap() {
        inflated.write_all(&rest).unwrap();
    }
    assert_eq!(inflated.finish().unwrap(), lines.concat().into_bytes());
}

#[test]
fn trailers_come_behind_a_whole_body() {
    let parts = vec![[chunk("some text"), b"0\r\nx-sum: 7\r\n\r\n".to_vec()].concat()];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let upstream = Parts::start(head, parts);
    upstream.next.send(()).unwrap();
    let gateway = upstream.gateway("minContentLength: 1");
    let mut client = gateway.connect();
    client.send(&gzip_request().to_bytes()).unwrap();
    assert_eq!(client.head().unwrap().header("content-encoding"), Some("gzip"));
    let mut bytes = Vec::new();
    while let Some(part) = client.chunk().unwrap() {
        bytes.extend(part);
    }
    assert_eq!(gunzip(&bytes), "some text");
}

/// A response of 100,000 bytes of HTML.
fn large() -> (Parts, String) {
    let text = "<p>some words, and others, and the same words again</p>\n".repeat(1_800);
    let mut parts: Vec<Vec<u8>> = vec![text.clone().into_bytes()];
    parts[0].splice(0..0, format!("content-length: {}\r\n\r\n", text.len()).into_bytes());
    (Parts::start("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: \"v1\"\r\nconnection: close\r\n", parts), text)
}

fn of_large(upstream: &Parts, gateway: &Gateway, request: &Request) -> Response {
    upstream.next.send(()).unwrap();
    gateway.send(request)
}

#[test]
fn a_large_response_gets_small_for_who_wants_it_and_stays_for_who_does_not() {
    let (upstream, text) = large();
    let gateway = upstream.gateway("maxCpuPerSecond: 1s");
    let response = of_large(&upstream, &gateway, &gzip_request());
    assert_eq!(gunzip(&response.body), text);
    assert!(response.body.len() < text.len() / 20, "{}", response.body.len());
    assert_eq!((response.header("etag"), response.header("content-length")), (Some("W/\"v1\""), None));
    let response = of_large(&upstream, &gateway, &Request::get("h", "/"));
    assert_eq!((response.text(), response.header("content-encoding")), (text, None));
    assert_eq!((response.header("etag"), response.header("vary")), (Some("\"v1\""), Some("Accept-Encoding")));
    let response = of_large(&upstream, &gateway, &Request::get("h", "/").header("accept-encoding", "gzip;q=0.1, br"));
    assert_eq!(response.header("content-encoding"), Some("br"));
    assert!(!response.body.is_empty() && response.body.len() < 5_000);
    assert_eq!(gateway.metric("compress_responses", &["outcome=\"compressed\""]), 2.0);
}

#[test]
fn a_request_reaches_the_upstream_unpacked_and_a_bomb_does_not() {
    let app = Upstream::start("app");
    app.always("sink");
    let gateway = super::start(&app, &plugin("compress", "decompressRequests: {maxBytes: 100000}"));
    let packed = |plain: &[u8]| {
        let mut bytes = Vec::new();
        flate2::read::GzEncoder::new(plain, flate2::Compression::best()).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let post =
        |body: Vec<u8>| gateway.send(&Request::new("POST", "h", "/").header("content-encoding", "gzip").body(body));
    assert_eq!(post(packed(&[7; 90_000])).text(), "90000");
    assert_eq!(post(packed(&[7; 10_000_000])).status, 413);
    assert_eq!(post(b"no gzip at all".to_vec()).status, 400);
    gateway.await_access("decompressed_too_large");
}
