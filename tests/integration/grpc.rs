//! gRPC through the gateway: its timeouts, answers of the gateway's own in its form, and gRPC-Web.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::support::client::{Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::upstream::Upstream;

/// A gateway on a port of this protocol whose one service is this address; `rule` adds to its one rule.
fn start(address: SocketAddr, protocol: &str, backend: &str, rule: &str) -> Gateway {
    let entry =
        service_entry("app.test", &[("v1", address)]).replace("protocol: HTTP\n", &format!("protocol: {backend}\n"));
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY.replace("protocol: HTTP\n", &format!("protocol: {protocol}\n")))
        .file("routes.yaml", routes(&format!("- route: [{{destination: {{host: app.test}}}}]\n{rule}")))
        .file("app.yaml", entry)
        .start()
}

fn message(text: &[u8]) -> Vec<u8> {
    [&[0][..], &(text.len() as u32).to_be_bytes(), text].concat()
}

fn call(method: &str, kind: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::new("POST", "shop.test", &format!("/test.Echo/{method}")).header("content-type", kind).body(body)
}

fn grpc(method: &str) -> Request {
    call(method, "application/grpc", message(b"hi"))
}

/// The form of gRPC with this status and message.
fn is_status(response: &Response, status: &str, message: &str) {
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/grpc")), "{response:?}");
    let told = response.header("grpc-message").unwrap_or_default();
    assert_eq!((response.header("grpc-status"), told.contains(message)), (Some(status), true), "{response:?}");
    assert!(response.body.is_empty());
}

fn refused() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn answers_of_our_own_have_the_form_of_grpc_before_and_after_the_request_was_sent() {
    let server = GrpcServer::start();
    let gateway = start(server.address(), "HTTP", "GRPC", "  timeout: 300ms\n");
    is_status(&gateway.send(&grpc("Slow")), "14", "upstream request timeout");
    assert!(gateway.await_access("/test.Echo/Slow").contains("200 UT response_timeout"));
    let app = Upstream::start("app");
    app.always("close");
    let gateway = start(app.address(), "HTTP", "HTTP", "");
    is_status(&gateway.send(&grpc("Say")), "14", "reset reason: connection termination");
    let gateway = start(refused(), "HTTP", "GRPC", "");
    is_status(&gateway.send(&grpc("Say")), "14", "reset reason: remote connection failure");
}

#[test]
fn the_shorter_one_of_the_clients_and_the_routes_timeout_counts() {
    let server = GrpcServer::start();
    let told = |gateway: &Gateway, asked: &str| {
        let response = gateway.send(&grpc("Seen").header("grpc-timeout", asked));
        String::from_utf8_lossy(&response.body[5..]).into_owned()
    };
    let gateway = start(server.address(), "HTTP", "GRPC", "");
    is_status(&gateway.send(&grpc("Slow").header("grpc-timeout", "200m")), "14", "upstream request timeout");
    assert_eq!(told(&gateway, "10S"), "shop.test 10000m -");
    let gateway = start(server.address(), "HTTP", "GRPC", "  timeout: 5s\n");
    assert_eq!(told(&gateway, "10S"), "shop.test 5000m -");
    assert_eq!(told(&gateway, "700m"), "shop.test 700m -");
    is_status(&gateway.send(&grpc("Slow").header("grpc-timeout", "200m")), "14", "upstream request timeout");
    // So it does for a request of which nothing follows the head.
    let app = Upstream::start("app");
    app.always("delay 2000");
    let gateway = start(app.address(), "HTTP", "HTTP", "  timeout: 60s\n");
    let bare = call("Slow", "application/grpc", "").header("grpc-timeout", "200m");
    is_status(&gateway.send(&bare), "14", "upstream request timeout");
    // Of other requests it is a field like any.
    let app = Upstream::start("app");
    let gateway = start(app.address(), "HTTP", "HTTP", "");
    let response = gateway.send(&Request::get("shop.test", "/").header("grpc-timeout", "10S"));
    assert_eq!(response.seen("grpc-timeout").as_deref(), Some("10S"));
}

#[test]
fn grpc_web_is_turned_into_grpc_and_its_trailers_into_a_last_frame() {
    let server = GrpcServer::start();
    let gateway = start(server.address(), "GRPC-WEB", "GRPC", "");
    let trailers = b"\x80\0\0\0\x0fgrpc-status:0\r\n";
    let response = gateway.send(&call("Say", "application/grpc-web+proto", message(b"hello")));
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/grpc-web+proto")));
    assert_eq!(response.body, [&message(b"hello")[..], trailers].concat());
    // The text form, each way.
    let text = BASE64_STANDARD.encode(message(b"hello"));
    let request = call("Say", "application/grpc-web-text", text.clone()).header("accept", "application/grpc-web-text");
    let response = gateway.send(&request);
    assert_eq!(response.header("content-type"), Some("application/grpc-web-text+proto"));
    assert_eq!(response.text(), text.clone() + &BASE64_STANDARD.encode(trailers));
    let response = gateway.send(&call("Say", "application/grpc-web-text", text));
    assert_eq!(response.body, [&message(b"hello")[..], trailers].concat());
    // Trailers alone stay in the head.
    let response = gateway.send(&call("Fail", "application/grpc-web", message(b"")));
    assert_eq!((response.header("grpc-status"), response.header("grpc-message")), (Some("7"), Some("not%20today")));
    assert_eq!((response.header("content-type"), response.body.len()), (Some("application/grpc-web+proto"), 0));
}

#[test]
fn what_is_no_grpc_reaches_clients_of_grpc_web_as_a_message() {
    let app = Upstream::start("app");
    let gateway = start(app.address(), "GRPC-WEB", "HTTP", "");
    let request = call("Say", "application/grpc-web", message(b"x")).order("status 503");
    let response = gateway.send(&request);
    assert_eq!((response.status, response.header("grpc-status")), (503, Some("14")), "{response:?}");
    assert!(response.header("grpc-message").unwrap().starts_with("POST /test.Echo/Say HTTP/1.1%0D%0A"));
    assert_eq!((response.header("content-type"), response.body.len()), (Some("application/grpc-web+proto"), 0));
    // Of our own as well.
    let response = gateway.send(&call("Say", "application/grpc-web-text", "!!!!"));
    assert_eq!((response.status, response.header("grpc-status")), (400, Some("13")), "{response:?}");
    assert_eq!(response.header("grpc-message"), Some("Bad gRPC-web request, invalid base64 data."));
    gateway.await_access("grpc_base_64_decode_failed");
    let gateway = start(refused(), "GRPC-WEB", "GRPC", "");
    let response = gateway.send(&call("Say", "application/grpc-web", message(b"x")));
    assert_eq!((response.status, response.header("grpc-status")), (503, Some("14")), "{response:?}");
}

#[test]
fn only_ports_of_grpc_web_and_gateways_that_ask_for_it_turn_it() {
    let app = Upstream::start("app");
    let request = call("Say", "application/grpc-web+proto", message(b"x"));
    let gateway = start(app.address(), "HTTP", "HTTP", "");
    let response = gateway.send(&request);
    assert_eq!(response.seen("content-type").as_deref(), Some("application/grpc-web+proto"));
    let asking = ANY_GATEWAY.replace("  name: any\n", "  name: any\n  annotations: {portolan.dev/grpc-web: 'true'}\n");
    gateway.replace("gateway.yaml", asking);
    let turned = |response: &Response| response.header("content-type") == Some("application/grpc-web+proto");
    let start = std::time::Instant::now();
    while !turned(&gateway.send(&request)) {
        assert!(start.elapsed() < crate::support::DEADLINE);
    }
    let response = gateway.send(&request.header("x-order", "echo"));
    assert!(turned(&response), "{response:?}");
}
