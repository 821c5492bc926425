//! Endpoints that are Unix sockets: of HTTP and TCP, by path and by abstract name, and what is told of them.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

use rustls::{ServerConnection, StreamOwned};

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, policy, routes};
use crate::support::gateway::{Gateway, Options};
use crate::support::secure::{Authority, Pair, server_config, write};
use crate::support::tcp::{Tcp, read_some, routes as tcp_routes};

/// Answers each request of each connection with this body.
fn answer(listener: UnixListener, body: &'static str) {
    answer_with(listener, "200 OK", body);
}

fn answer_with(listener: UnixListener, status: &'static str, body: &'static str) {
    serve(listener, move |socket| answer_on(socket, status, body));
}

/// Answers under TLS with the name that it was asked for.
fn answer_under_tls(listener: UnixListener, pair: &Pair) {
    let config = server_config(pair, None, &[]);
    serve(listener, move |socket| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return;
            }
        }
        let name = stream.conn.server_name().unwrap_or("-").to_owned();
        answer_on(stream, "200 OK", &name);
    });
}

fn serve(listener: UnixListener, each: impl Fn(UnixStream) + Clone + Send + 'static) {
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(socket) = socket else { return };
            let each = each.clone();
            std::thread::spawn(move || each(socket));
        }
    });
}

fn answer_on(mut socket: impl Read + Write, status: &str, body: &str) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while socket.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes());
        }
    }
}

fn entry(address: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: app{more}}}\nspec:\n  hosts: [app.test]\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  endpoints: [{{address: \"{address}\"}}]\n"
    )
}

fn start(entry: String) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start()
}

/// `unix://` and the path of a socket in a folder.
fn in_folder(folder: &Path) -> (String, String) {
    let path = folder.join("app.sock").to_str().unwrap().to_owned();
    (format!("unix://{path}"), path)
}

#[test]
fn requests_reach_a_unix_socket_and_its_path_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (address, path) = in_folder(folder.path());
    let gateway = start(entry(&address, ""));
    let response = gateway.get("h", "/");
    assert_eq!(response.status, 503, "nobody listens yet");
    let line = gateway.await_access(" 503 URX,UF");
    assert!(line.contains(&format!("\"{path}\"")), "{line}");
    answer(UnixListener::bind(&path).unwrap(), "by path");
    for _ in 0..3 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "by path"));
    }
    let line = gateway.await_access(" 200 ");
    assert!(line.contains(&format!("\"{path}\" outbound|80||app.test - ")), "{line}");
    let clusters = gateway.admin("/clusters").text();
    assert!(clusters.contains(&format!("outbound|80||app.test::{path}::")), "{clusters}");
}

#[test]
fn requests_reach_an_abstract_socket() {
    let name = format!("portolan-test-{}", std::process::id());
    answer(UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), "by name");
    let gateway = start(entry(&format!("unix://@{name}"), ""));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (200, "by name"));
    assert!(gateway.await_access(" 200 ").contains(&format!("\"@{name}\"")));
}

#[test]
fn a_unix_socket_is_checked_like_any_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (address, path) = in_folder(folder.path());
    let check = "\"{tcp: {}, interval: 30ms, timeout: 15s}\"";
    let gateway = start(entry(&address, &format!(", annotations: {{portolan.dev/health-check: {check}}}")));
    let flags = || gateway.admin("/clusters").text();
    let line = format!("outbound|80||app.test::{path}::health_flags::");
    await_true("a failed check", || flags().contains(&format!("{line}/failed_active_hc")));
    answer(UnixListener::bind(&path).unwrap(), "well");
    await_true("a good check", || flags().contains(&format!("{line}healthy")));
    assert_eq!(gateway.get("h", "/").text(), "well");
}

#[test]
fn a_unix_socket_that_fails_is_ejected() {
    let folder = tempfile::tempdir().unwrap();
    let (address, path) = in_folder(folder.path());
    answer_with(UnixListener::bind(&path).unwrap(), "500 Internal Server Error", "no");
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: app}\nspec:\n  host: app.test\n  \
                trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 100}}\n";
    let gateway = start(entry(&address, "") + rule);
    assert_eq!(gateway.get("h", "/").status, 500);
    let line = format!("outbound|80||app.test::{path}::health_flags::/failed_outlier_check");
    await_true("an ejected socket", || gateway.admin("/clusters").text().contains(&line));
    assert_eq!(gateway.get("h", "/").status, 503);
}

#[test]
fn requests_reach_a_unix_socket_under_tls_and_a_wrong_certificate_ejects_it() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("ca"));
    let (address, path) = in_folder(folder.path());
    answer_under_tls(UnixListener::bind(&path).unwrap(), &authority.issue(&["app.test", "sub.app.test"]));
    let ca = write(folder.path(), "ca.pem", &authority.pem).display().to_string();
    let outliers = "outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 100}\n";
    let tls =
        |more: &str| policy("app.test", &format!("tls: {{mode: SIMPLE, caCertificates: {ca}{more}}}\n{outliers}"));
    let gateway = start(entry(&address, "") + "---\n" + &tls(""));
    for host in ["app.test", "sub.app.test", "app.test"] {
        let response = gateway.get(host, "/");
        assert_eq!((response.status, response.text().as_str()), (200, host), "{}", gateway.log());
    }
    assert!(gateway.metric("envoy_cluster_ssl_handshake", &["outbound|80||app.test"]) >= 2.0);
    gateway.replace("app.yaml", entry(&address, "") + "---\n" + &tls(", sni: given.test"));
    gateway.await_answer("app.test", "/", |response| response.text() == "given.test");
    // A name that the certificate has not.
    gateway.replace("app.yaml", entry(&address, "") + "---\n" + &tls(", subjectAltNames: [other.test]"));
    gateway.await_answer("app.test", "/", |response| response.status == 503);
    let line = format!("outbound|80||app.test::{path}::health_flags::/failed_outlier_check");
    await_true("an ejected socket", || gateway.admin("/clusters").text().contains(&line));
    assert_eq!(gateway.get("app.test", "/").text(), "no healthy upstream");
    let refused = || gateway.metric("envoy_cluster_ssl_fail_verify_san", &["outbound|80||app.test"]);
    await_true("the names to be counted", || refused() >= 1.0);
}

#[test]
fn connections_of_tcp_reach_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (address, path) = in_folder(folder.path());
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let Ok((mut socket, _)) = listener.accept() else { return };
        let mut bytes = [0; 5];
        socket.read_exact(&mut bytes).unwrap();
        socket.write_all(&bytes).unwrap();
    });
    let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: app}\nspec:\n  hosts: [app.test]\n  \
                ports: [{number: 9000, name: tcp, protocol: TCP}]\n  resolution: STATIC\n  endpoints: [{address: \"ADDRESS\"}]\n";
    let rules = tcp_routes("route: [{destination: {host: app.test}}]");
    let tcp = Tcp::start(&format!("{rules}---\n{}", text.replace("ADDRESS", &address)));
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    assert_eq!(read_some(&client, 5), "hello");
    drop(client);
    assert!(tcp.gateway.await_access("outbound|9000||app.test").contains(&path));
}
