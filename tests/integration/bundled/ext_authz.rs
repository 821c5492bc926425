//! `ext-authz` between real sockets, with services over HTTP and gRPC.

use super::{await_running, options, plugin};
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::Gateway;
use crate::support::grpc::GrpcServer;
use crate::support::upstream::{Seen, Upstream};

const HTTP: &str = "\
http:
  cluster: outbound|80||authz.test
  pathPrefix: /check
  headersToUpstreamOnAllow: [x-user]
timeoutMilliseconds: 500
";
const GRPC: &str = "grpc: {cluster: outbound|80||authz.test}\nincludeRequestBodyInCheck: {maxRequestBytes: 100}\n";

/// 200 with `x-user` for a token that is good, silence for a silent one, 401 for the rest.
fn service(seen: &Seen) -> Vec<u8> {
    match seen.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.as_str()) {
        Some("good") => b"HTTP/1.1 200 OK\r\nx-user: ada\r\nx-other: 1\r\ncontent-length: 0\r\n\r\n".to_vec(),
        Some("silent") => Vec::new(),
        _ => b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic\r\ncontent-length: 12\r\n\r\nwho are you?".to_vec(),
    }
}

fn start(app: &Upstream, config: &str, authz: std::net::SocketAddr) -> Gateway {
    let entry = service_entry("authz.test", &[("v1", authz)]);
    let gateway = options(app, &plugin("ext-authz", config)).file("authz.yaml", entry).start();
    await_running(&gateway);
    gateway
}

#[test]
fn a_service_over_http_decides() {
    let (app, authz) = (Upstream::start("app"), Upstream::scripted("authz", Box::new(service)));
    let gateway = start(&app, HTTP, authz.address());
    let with =
        |token: &str| gateway.send(&Request::get("h", "/a?b").header("authorization", token).header("x-user", "root"));
    let good = with("good");
    assert_eq!((good.status, good.seen("x-user").as_deref(), good.seen("x-other")), (200, Some("ada"), None));
    let bad = with("bad");
    assert_eq!((bad.status, bad.text().as_str(), bad.header("www-authenticate")), (401, "who are you?", Some("Basic")));
    assert_eq!(authz.seen()[0].line, "GET /check/a?b");
    assert_eq!(with("silent").status, 403);
    gateway.await_access("ext_authz_denied");
    gateway.await_access("ext_authz_error");
    assert_eq!(app.requests(), 1);
    assert_eq!(gateway.metric("ext_authz_denied", &[]), 1.0);
}

#[test]
fn a_service_that_cannot_be_reached_lets_nobody_in_unless_told_to() {
    let app = Upstream::start("app");
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let gateway = start(&app, &format!("{HTTP}statusOnError: 503\n"), gone);
    assert_eq!((gateway.get("h", "/").status, app.requests()), (503, 0));
    gateway.replace("plugin.yaml", plugin("ext-authz", &format!("{HTTP}failOpen: true\n")));
    gateway.await_answer("h", "/", |response| response.status == 200);
    gateway.replace("plugin.yaml", plugin("ext-authz", "http: {cluster: 'outbound|80||nobody.test'}\n"));
    gateway.await_answer("h", "/", |response| response.status == 403);
}

#[test]
fn a_service_over_grpc_sees_the_body_before_the_upstream_sees_the_head() {
    let app = Upstream::scripted("app", Box::new(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let authz = GrpcServer::start();
    let gateway = start(&app, GRPC, authz.address());
    let post = |body: &str| gateway.send(&Request::new("POST", "h", "/").body(body));
    let refused = post("bad");
    assert_eq!((refused.status, refused.text().as_str(), app.requests()), (401, "who are you?", 0));
    assert_eq!(post("this is good").status, 200);
    let seen = &app.seen()[0];
    assert!(seen.headers.contains(&("x-user".to_owned(), "ada".to_owned())), "{seen:?}");
    assert_eq!(seen.body, b"this is good");
    assert_eq!((post(&"good".repeat(50)).status, app.requests()), (413, 1));
    assert_eq!(gateway.get("h", "/good").status, 200, "a request without a body is asked about at once");
}
