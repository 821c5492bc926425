//! Connections that begin with a header of the PROXY protocol.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::tcp::{self, Tcp};
use crate::support::tls::{self, Authority, Tls, https, tls_secret, virtual_service};
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_true};

const V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 1000 80\r\n";
/// From 198.51.100.7:1000 to 203.0.113.1:80, with a value behind.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc6\x33\x64\x07\xcb\0\x71\x01\x03\xe8\0\x50\x04\0\x03abc";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn gateway(app: &Upstream, annotations: &str) -> Gateway {
    let gateway = ANY_GATEWAY.replace("  name: any\n", &format!("  name: any\n  annotations: {{{annotations}}}\n"));
    Options::new()
        .file("gateway.yaml", gateway)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

fn open(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Whom the upstream is told of after these bytes; none when the connection is closed instead.
fn client(gateway: &Gateway, pieces: &[&[u8]]) -> Option<String> {
    let mut stream = open(gateway);
    for piece in pieces {
        stream.write_all(piece).ok()?;
    }
    let mut connection = Connection::over(stream);
    let response = connection.request(&Request::get("h", "/")).ok()?;
    assert_eq!(response.status, 200);
    response.seen("x-forwarded-for")
}

#[test]
fn a_header_of_either_version_says_who_the_client_is() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "portolan.dev/proxy-protocol: required");
    for header in [V1, V2] {
        assert_eq!(client(&gateway, &[header]).as_deref(), Some("198.51.100.7"));
        let single: Vec<&[u8]> = header.chunks(1).collect();
        assert_eq!(client(&gateway, &single).as_deref(), Some("198.51.100.7"), "byte by byte");
    }
    let mapped = b"PROXY TCP6 ::ffff:198.51.100.8 ::ffff:203.0.113.1 1000 80\r\n";
    assert_eq!(client(&gateway, &[mapped]).as_deref(), Some("198.51.100.8"));
    gateway.await_access(" 203.0.113.1:80 198.51.100.8:1000 ");
    assert_eq!(client(&gateway, &[b"PROXY UNKNOWN\r\n"]).as_deref(), Some("127.0.0.1"));
    assert_eq!(client(&gateway, &[LOCAL]).as_deref(), Some("127.0.0.1"), "the proxy's own");
    let line = gateway.await_access("198.51.100.7:1000");
    assert!(line.contains("203.0.113.1:80"), "the address that was called: {line}");
    gateway.await_metric("envoy_proxy_proto_found", &["envoy_proxy_protocol_version=\"1\""], 4.0);
    gateway.await_metric("envoy_proxy_proto_found", &["envoy_proxy_protocol_version=\"2\""], 3.0);
}

#[test]
fn a_bad_header_and_a_missing_one_close_the_connection() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "portolan.dev/proxy-protocol: required");
    let wrapped = [&V2[..14], b"\0\x0f", &V2[16..28], b"\x04\xff\xff"].concat();
    for bad in [&b"PROXY TCP4 1.2.3.4\r\n"[..], &[b'P'; 200], b"PROXY TCP4 0.0.0.0 1.2.3.4 1 2\r\n", &wrapped, b""] {
        assert_eq!(client(&gateway, &[bad]), None, "{bad:?}");
    }
    gateway.await_metric("envoy_proxy_proto_error", &[], 3.0);
    gateway.await_metric("envoy_proxy_proto_not_found_disallowed", &[], 2.0);
    gateway.await_metric("envoy_downstream_cx_proxy_proto_error", &[], 5.0);
    assert_eq!(app.requests(), 0);
}

#[test]
fn whoever_sends_no_header_in_time_is_closed() {
    let app = Upstream::start("app");
    let gateway = gateway(&app, "portolan.dev/proxy-protocol: required");
    let mut stream = open(&gateway);
    stream.write_all(&V1[..20]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    gateway.await_metric("envoy_listener_downstream_pre_cx_timeout", &[], 1.0);
}

#[test]
fn an_optional_header_may_be_missing_and_others_than_the_trusted_are_not_believed() {
    let app = Upstream::start("app");
    let optional = gateway(&app, "portolan.dev/proxy-protocol: optional");
    assert_eq!(client(&optional, &[V2]).as_deref(), Some("198.51.100.7"));
    assert_eq!(client(&optional, &[]).as_deref(), Some("127.0.0.1"));
    let far = "portolan.dev/proxy-protocol: optional, portolan.dev/proxy-protocol-trusted: '192.0.2.0/24'";
    let far = gateway(&app, far);
    assert_eq!(client(&far, &[]).as_deref(), Some("127.0.0.1"));
    let mut stream = open(&far);
    stream.write_all(V1).unwrap();
    let refused = Connection::over(stream).request(&Request::get("h", "/")).unwrap();
    assert_eq!(refused.status, 400, "bytes like any others");
    let near = "portolan.dev/proxy-protocol: required, portolan.dev/proxy-protocol-trusted: '192.0.2.1, 127.0.0.0/8'";
    assert_eq!(client(&gateway(&app, near), &[V1]).as_deref(), Some("198.51.100.7"));
}

#[test]
fn the_mesh_asks_for_the_proxy_protocol_on_every_listener() {
    let mesh = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig: {gatewayTopology: {proxyProtocol: {}}}
";
    let app = tcp::Server::named("app");
    let tcp = Tcp::start_with(Options::new().file("tcp.yaml", tcp::to(app)).file("mesh.yaml", mesh));
    let mut stream = tcp.connect();
    stream.write_all(V1).unwrap();
    assert_eq!(tcp::read_some(&stream, 3), "app");
    drop(stream);
    tcp.gateway.await_access("198.51.100.7:1000");
    let mut stream = tcp.connect();
    stream.write_all(b"hello, this is no header").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
}

#[test]
fn a_header_stands_before_tls() {
    let (authority, app) = (Authority::new("ca"), Upstream::start("app"));
    let server = https(1, "a.test", "mode: SIMPLE, credentialName: a");
    let files = [
        tls::gateway(&[server])
            .replace("{name: tls}", "{name: tls, annotations: {portolan.dev/proxy-protocol: required}}"),
        virtual_service("a.test", "app.test"),
        format!("---\n{}", service_entry("app.test", &[("v1", app.address())])),
        tls_secret("a", &authority.issue(&["a.test"])),
    ];
    let tls = Tls::start(&files.concat());
    let mut connection = tls.client(&authority).behind("a.test", V2).unwrap();
    let response = connection.request(&Request::get("a.test", "/")).unwrap();
    assert_eq!(response.seen("x-forwarded-for").as_deref(), Some("198.51.100.7"));
    assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("https"));
}

#[test]
fn a_header_that_is_awaited_does_not_hold_up_the_end() {
    let app = Upstream::start("app");
    let mut gateway = gateway(&app, "portolan.dev/proxy-protocol: required");
    let mut stream = open(&gateway);
    stream.write_all(&V1[..10]).unwrap();
    await_true("the connection to be there", || gateway.metric("envoy_listener_downstream_cx_active", &[]) == 1.0);
    gateway.signal("TERM");
    assert!(gateway.await_exit().success());
}
