//! HTTP/2 from clients: by prior knowledge and by what TLS agrees on, its limits, and how it ends.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::tls::{Authority, Tls};
use crate::support::upstream::Upstream;

type Sender = SendRequest<Full<Bytes>>;

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("in time") })
}

async fn over<S>(stream: S) -> Sender
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn connect(address: SocketAddr) -> Sender {
    over(TcpStream::connect(address).await.unwrap()).await
}

fn get(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://app.test{path}"))
}

fn empty() -> Full<Bytes> {
    Full::default()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn start(upstream: &Upstream) -> Gateway {
    let files = routes("- route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])];
    Options::new().file("app.yaml", files.concat()).start()
}

#[test]
fn headers_of_the_answer_tell_what_the_client_speaks() {
    let upstream = Upstream::start("app");
    let rule =
        "- headers: {response: {set: {x-spoken: '%PROTOCOL%'}}}\n  route: [{destination: {host: app.backend}}]\n";
    let entry = service_entry("app.backend", &[("v1", upstream.address())]);
    let gateway =
        Options::new().file("app.yaml", [ANY_GATEWAY, "---\n", &routes(rule), "---\n", &entry].concat()).start();
    run(async {
        let mut sender = connect(gateway.address()).await;
        let answer = sender.send_request(get("/").body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["x-spoken"], "HTTP/2");
    });
}

#[test]
fn prior_knowledge_is_known_by_its_preface_even_in_pieces() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    run(async {
        let mut sender = connect(gateway.address()).await;
        let request = get("/x?y=1").header("cookie", "a=1").header("cookie", "b=2").body(empty()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        let seen = text(answer).await.to_lowercase();
        assert!(seen.starts_with("get /x?y=1 http/1.1"), "{seen}");
        assert!(seen.contains("host: app.test") && seen.contains("cookie: a=1; b=2"), "{seen}");
        assert!(seen.contains("x-forwarded-proto: http\r\n") || seen.contains("x-forwarded-proto: http\n"), "{seen}");
        let mut slow = TcpStream::connect(gateway.address()).await.unwrap();
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
            slow.write_all(&[*byte]).await.unwrap();
            slow.flush().await.unwrap();
        }
        slow.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut head = [0; 9];
        slow.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3], 4, "settings");
    });
    assert_eq!(gateway.metric("envoy_http_downstream_cx_http2_total", &[]), 2.0);
    assert_eq!(gateway.metric("envoy_http_downstream_rq_http2_total", &[]), 1.0);
    assert!(gateway.await_access("/x?y=1").contains("\"GET /x?y=1 HTTP/2\" 200"));
}

#[test]
fn many_streams_share_a_connection_and_bodies_go_both_ways() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    run(async {
        let sender = connect(gateway.address()).await;
        let body = |n: usize| Bytes::from(vec![b'a' + (n % 26) as u8; 200_000]);
        let calls = (0..40).map(|n| {
            let mut sender = sender.clone();
            async move {
                let request = Request::post("http://app.test/echo").header("x-order", "echo");
                let answer = sender.send_request(request.body(Full::new(body(n))).unwrap()).await.unwrap();
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), body(n));
            }
        });
        futures_join(calls).await;
    });
    assert_eq!(gateway.metric("envoy_http_downstream_cx_http2_total", &[]), 1.0);
    assert_eq!(upstream.requests(), 40);
}

async fn futures_join(calls: impl Iterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let tasks: Vec<_> = calls.map(tokio::spawn).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn a_host_that_contradicts_the_authority_is_refused() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    run(async {
        let mut sender = connect(gateway.address()).await;
        let status = |answer: Response<Incoming>| answer.status().as_u16();
        let other = get("/").header("host", "other.test").body(empty()).unwrap();
        assert_eq!(status(sender.send_request(other).await.unwrap()), 400);
        let same = get("/").header("host", "APP.test").body(empty()).unwrap();
        assert_eq!(status(sender.send_request(same).await.unwrap()), 200);
        let mut many = get("/");
        for n in 0..101 {
            many = many.header(format!("x-{n}"), "1");
        }
        assert_eq!(status(sender.send_request(many.body(empty()).unwrap()).await.unwrap()), 431);
    });
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn own_answers_to_grpc_have_its_form() {
    let upstream = Upstream::start("app");
    let files = routes("- match: [{uri: {prefix: /app}}]\n  route:\n  - destination:\n      host: app.backend");
    let files = [ANY_GATEWAY, "---\n", &files, "---\n", &service_entry("app.backend", &[("v1", upstream.address())])];
    let gateway = Options::new().file("app.yaml", files.concat()).start();
    run(async {
        let mut sender = connect(gateway.address()).await;
        let call = Request::post("http://app.test/other").header("content-type", "application/grpc");
        let answer = sender.send_request(call.body(empty()).unwrap()).await.unwrap();
        assert_eq!((answer.status(), &answer.headers()["grpc-status"]), (StatusCode::OK, &"12".parse().unwrap()));
        assert!(text(answer).await.is_empty());
    });
}

#[test]
fn a_drain_says_goaway_and_lets_streams_end() {
    let upstream = Upstream::start("app");
    let mut gateway = start(&upstream);
    run(async {
        let mut sender = connect(gateway.address()).await;
        let slow = get("/slow").header("x-order", "delay 1500").body(empty()).unwrap();
        let slow = tokio::spawn(sender.send_request(slow));
        while upstream.in_flight() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.signal("TERM");
        let answer = slow.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("connection"));
        text(answer).await;
        // The connection is closed by GOAWAY: no other request goes out on it.
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(gateway.await_exit().success());
}

#[test]
fn tls_agrees_on_http2_and_on_http1() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = Tls::of_one_host(&authority, &upstream);
    let client = tls.client(&authority);
    for protocol in ["h2", "http/1.1"] {
        let stream = client.alpn(protocol).connect("a.test").unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(protocol.as_bytes()));
    }
    run(async {
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&client.alpn("h2").config(true)));
        let socket = TcpStream::connect(tls.port.address()).await.unwrap();
        let stream = connector.connect("a.test".try_into().unwrap(), socket).await.unwrap();
        let mut sender = over(stream).await;
        let request = Request::get("https://a.test/x").body(empty()).unwrap();
        let seen = text(sender.send_request(request).await.unwrap()).await;
        assert!(seen.contains("x-forwarded-proto: https"), "{seen}");
        // A host of no server: the connection's own routes decide, whatever certificate it would have.
        let request = Request::get("https://b.test/x").body(empty()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
    });
}

#[test]
fn a_client_that_resets_what_it_asks_is_sent_away() {
    let upstream = Upstream::start("app");
    let gateway = start(&upstream);
    run(async {
        let mut socket = TcpStream::connect(gateway.address()).await.unwrap();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        for n in 0..500_u32 {
            let id = (2 * n + 1).to_be_bytes();
            // :method GET, :scheme http, :path /, :authority a
            let block = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
            bytes.extend_from_slice(&[0, 0, block.len() as u8, 1, 5]);
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(&block);
            bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
            bytes.extend_from_slice(&id);
            bytes.extend_from_slice(&8_u32.to_be_bytes());
        }
        let _ = socket.write_all(&bytes).await;
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all).await;
        assert!(!all.is_empty(), "it ends, after some frames");
        // Others are served.
        let mut sender = connect(gateway.address()).await;
        assert_eq!(sender.send_request(get("/").body(empty()).unwrap()).await.unwrap().status(), 200);
    });
    await_true("a protocol error counted", || gateway.metric("envoy_http_downstream_cx_protocol_error", &[]) >= 1.0);
}

#[test]
fn a_head_beyond_60_kib_is_refused_and_its_connection_serves_on() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = Tls::of_one_host(&authority, &upstream);
    run(async {
        let connector = tokio_rustls::TlsConnector::from(tls.client(&authority).alpn("h2").config(true));
        let socket = TcpStream::connect(tls.port.address()).await.unwrap();
        let mut sender = over(connector.connect("a.test".try_into().unwrap(), socket).await.unwrap()).await;
        let with_fields = |fields: usize| {
            let request = Request::get("https://a.test/x");
            let add = |request: http::request::Builder, n| request.header(format!("x-{n}"), "v".repeat(8_000));
            (0..fields).fold(request, add).body(empty()).unwrap()
        };
        assert_eq!(sender.send_request(with_fields(7)).await.unwrap().status(), 200);
        assert_eq!(sender.send_request(with_fields(8)).await.unwrap().status(), 431);
        assert_eq!(sender.send_request(with_fields(0)).await.unwrap().status(), 200);
    });
    assert_eq!(upstream.requests(), 2);
}
