//! The route's timeout and bodies: what it covers, and when it begins.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

fn gateway(rules: &str, app: std::net::SocketAddr) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app)]))
        .start()
}

const SHORT: &str = "\
- route: [{destination: {host: app.test}}]
  timeout: 0.4s
";

#[test]
fn a_client_that_sends_its_body_slowly_does_not_run_into_the_route_s_timeout() {
    let app = Upstream::start("app");
    let gateway = gateway(SHORT, app.address());
    let mut connection = gateway.connect();
    connection.send(b"POST / HTTP/1.1\r\nhost: h\r\nx-order: sink\r\ncontent-length: 10\r\n\r\n").unwrap();
    // Longer than the timeout, all in all.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        connection.send(b"x").unwrap();
    }
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "10"));
    // After the body the upstream has its time and no more.
    connection.send(b"POST / HTTP/1.1\r\nhost: h\r\nx-order: delay 5000\r\ncontent-length: 2\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(600));
    let start = Instant::now();
    connection.send(b"xx").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(350) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn an_upstream_that_never_reads_the_body_does_not_hold_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway(SHORT, listener.local_addr().unwrap());
    let mut client = TcpStream::connect(gateway.address()).unwrap();
    client.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut writer = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let size = 64 << 20;
        let head = format!("POST /stuck HTTP/1.1\r\nhost: h\r\ncontent-length: {size}\r\n\r\n");
        // Ends with an error when the gateway closes.
        let _ = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&vec![b'x'; size]));
    });
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut client, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 504");
    let line = gateway.await_access("/stuck");
    assert!(line.contains(" 504 UT response_timeout "), "{line}");
    drop(client);
    sending.join().unwrap();
}

#[test]
fn the_timeout_covers_all_tries_and_the_pauses_between_them() {
    let rules = "\
- match: [{uri: {prefix: /tries}}]
  route: [{destination: {host: app.test}}]
  timeout: 0.5s
  retries: {attempts: 100, perTryTimeout: 0.2s, retryOn: 5xx}
- match: [{uri: {prefix: /pause}}]
  route: [{destination: {host: app.test}}]
  timeout: 0.3s
  retries: {attempts: 1000, retryOn: 5xx, backoff: 100s}
- match: [{uri: {prefix: /try}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 1, perTryTimeout: 0.1s, retryOn: 5xx}
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, app.address());
    for (target, order) in [("/tries", "delay 3000"), ("/pause", "status 500")] {
        let response = gateway.send(&Request::get("h", target).order(order));
        assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"), "{target}");
        let line = gateway.await_access(target);
        assert!(line.contains(" 504 UT response_timeout "), "{line}");
    }
    let response = gateway.send(&Request::get("h", "/try-").order("delay 3000"));
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    let line = gateway.await_access("/try-");
    assert!(line.contains("upstream_per_try_timeout") && line.contains("URX") && line.contains("UT"), "{line}");
}

#[test]
fn the_upstream_is_told_how_long_it_is_waited_for() {
    let rules = "\
- match: [{uri: {exact: /all}}]
  route: [{destination: {host: app.test}}]
  timeout: 30s
- match: [{uri: {exact: /try}}]
  route: [{destination: {host: app.test}}]
  timeout: 30s
  retries: {attempts: 2, perTryTimeout: 20s, retryOn: 5xx}
- match: [{uri: {exact: /taken-away}}]
  route: [{destination: {host: app.test}}]
  timeout: 30s
  headers: {request: {remove: [x-envoy-expected-rq-timeout-ms]}}
- route: [{destination: {host: app.test}}]
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, app.address());
    let told = |target: &str| {
        let request = Request::get("h", target).header("x-envoy-expected-rq-timeout-ms", "5");
        gateway.send(&request).seen("x-envoy-expected-rq-timeout-ms")
    };
    assert_eq!(told("/all").as_deref(), Some("30000"));
    assert_eq!(told("/try").as_deref(), Some("20000"));
    assert_eq!(told("/taken-away"), None);
    assert_eq!(told("/none"), None);
}

#[test]
fn an_answer_before_the_body_was_read_reaches_the_client() {
    let rules = "- route: [{destination: {host: app.test}}]\n";
    for closes in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 16];
            std::io::Read::read_exact(&mut stream, &mut head).unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").unwrap();
            if closes {
                // Sends its end and keeps the socket: unread bytes would make the close a reset.
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            stream
        });
        let gateway = gateway(rules, address);
        let mut connection = gateway.connect();
        let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", 8 << 20);
        connection.send(head.as_bytes()).unwrap();
        connection.send(&[b'x'; 100_000]).unwrap();
        let response = connection.response(false).unwrap();
        assert_eq!((response.status, response.text().as_str()), (413, "big"), "closes: {closes}");
        drop(upstream.join().unwrap());
    }
}
