//! gRPC callouts against a real HTTP/2 server.

use super::guest::Guest;
use super::{gateway, nobody};
use crate::support::await_some;
use crate::support::config::service_entry;
use crate::support::gateway::Gateway;
use crate::support::grpc::GrpcServer;
use crate::support::upstream::Upstream;

/// The cluster of the server.
const ECHO: &str = "outbound|80||echo.test";

fn start(server: &GrpcServer, guest: &str) -> (Gateway, tempfile::TempDir) {
    let app = Upstream::start("app");
    let (gateway, folder) = gateway(&app, &app, guest);
    gateway.write("echo.yaml", &service_entry("echo.test", &[("v1", server.address())]));
    await_some("the cluster", || gateway.admin("/clusters").text().contains("echo.test").then_some(()));
    (gateway, folder)
}

#[test]
fn a_grpc_call_brings_its_message_and_shares_its_connection() {
    let server = GrpcServer::start();
    let (gateway, _folder) = start(&server, &Guest::grpc_asking(ECHO.as_bytes(), "Say", 2_000));
    for _ in 0..20 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    }
    assert_eq!(server.calls(), 20);
    assert!(server.connections() <= 2, "one for each worker: {}", server.connections());
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_total", &[ECHO]), 20.0);
}

#[test]
fn a_grpc_call_has_authority_deadline_and_metadata() {
    let server = GrpcServer::start();
    let (gateway, _folder) = start(&server, &Guest::grpc_asking(ECHO.as_bytes(), "Seen", 2_000));
    assert_eq!(gateway.get("h", "/").text(), "echo.test 2000m data");
}

#[test]
fn a_grpc_service_message_names_its_target() {
    let server = GrpcServer::start();
    let target = format!("dns:///{}", server.address());
    let field = |number: u8, value: &[u8]| [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat();
    let google = field(2, &field(1, target.as_bytes()));
    let (gateway, _folder) = start(&server, &Guest::grpc_asking(&google, "Say", 2_000));
    assert_eq!(gateway.get("h", "/").text(), "hello");
}

#[test]
fn a_grpc_call_that_fails_tells_status_and_message() {
    let server = GrpcServer::start();
    for (method, status, message) in [
        ("Fail", 407, "not today"),
        ("Slow", 404, "deadline exceeded"),
        ("Big", 408, "message too large"),
        ("Plain", 402, "the answer is no gRPC"),
        ("Unknown", 402, "no grpc-status"),
    ] {
        let (gateway, _folder) = start(&server, &Guest::grpc_asking(ECHO.as_bytes(), method, 2_000));
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text().as_str()), (status, message), "{method}");
    }
    let (gateway, _folder) = start(&server, &Guest::grpc_asking(nobody().to_string().as_bytes(), "Say", 2_000));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (414, "connection failed"));
    let (gateway, _folder) = start(&server, &Guest::grpc_asking(b"nobody", "Say", 2_000));
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (500, "4"), "PARSE_FAILURE");
}

#[test]
fn a_grpc_stream_goes_both_ways_until_both_sides_have_ended() {
    let server = GrpcServer::start();
    let (gateway, _folder) = start(&server, &Guest::grpc_streaming(ECHO));
    for _ in 0..3 {
        let response = gateway.get("h", "/");
        assert_eq!((response.status, response.text().as_str()), (200, "2110"));
    }
}
