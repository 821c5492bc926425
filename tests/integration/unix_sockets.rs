//! Endpoints that are Unix sockets: of HTTP and TCP, by path and by abstract name, and what is told of them.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, routes};
use crate::support::gateway::{Gateway, Options};
use crate::support::tcp::{Tcp, read_some, routes as tcp_routes};

/// Answers each request of each connection with this body.
fn answer(listener: UnixListener, body: &'static str) {
    answer_with(listener, "200 OK", body);
}

fn answer_with(listener: UnixListener, status: &'static str, body: &'static str) {
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while socket.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        let _ = socket.write_all(answer.as_bytes());
                    }
                }
            });
        }
    });
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
    let line = gateway.await_access(" 503 UF");
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
