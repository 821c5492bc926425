//! HTTP/2 towards backends: when it is spoken, how requests share connections, and how streams end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::secure::{self, Authority, Backend, write};

/// A gateway whose one service is this address, with a traffic policy; the port speaks `protocol`.
fn gateway(address: SocketAddr, protocol: &str, traffic: &str) -> Gateway {
    let entry =
        service_entry("app.test", &[("v1", address)]).replace("protocol: HTTP\n", &format!("protocol: {protocol}\n"));
    let mut options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry);
    if !traffic.is_empty() {
        options = options.file("policy.yaml", policy("app.test", traffic));
    }
    options.start()
}

fn http2_backend() -> Backend {
    secure::Options::plain().http2().start()
}

#[test]
fn the_ports_protocol_asks_for_http2() {
    let backend = http2_backend();
    for protocol in ["HTTP2", "GRPC"] {
        let gateway = gateway(backend.address(), protocol, "");
        let response = gateway.get("shop.test", "/a?b");
        assert_eq!(response.status, 200, "{protocol}: {}", response.text());
        assert_eq!(response.seen("version").as_deref(), Some("HTTP/2.0"));
        assert_eq!(response.seen("authority").as_deref(), Some("shop.test"));
        assert_eq!(response.seen("scheme").as_deref(), Some("http"));
        assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!((response.seen("connection"), response.seen("host")), (None, None));
        assert!(gateway.metric("envoy_cluster_upstream_cx_http2_total", &["outbound|80||app.test"]) >= 1.0);
    }
}

#[test]
fn names_and_app_protocols_of_a_services_ports_ask_for_http2() {
    let backend = http2_backend();
    for port in
        ["name: grpc-api", "name: http2", "{name: web, appProtocol: kubernetes.io/h2c", "{name: web, appProtocol: grpc"]
    {
        let port = if let Some(rest) = port.strip_prefix('{') { format!("{{{rest}") } else { format!("{{{port}") };
        let name = port.split("name: ").nth(1).unwrap().split([',', '}']).next().unwrap().to_owned();
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: app}}\nspec:\n  ports:\n  - {port}, port: 80}}\n---\n\
             apiVersion: v1\nkind: Endpoints\nmetadata: {{name: app}}\nsubsets:\n- addresses: [{{ip: 127.0.0.1}}]\n  ports: \
             [{{name: {name}, port: {}}}]\n",
            backend.address().port()
        );
        let gateway = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app}}]\n"))
            .file("app.yaml", text)
            .start();
        assert_eq!(gateway.get("h", "/").seen("version").as_deref(), Some("HTTP/2.0"), "{port}");
    }
}

#[test]
fn a_policy_upgrades_and_do_not_upgrade_leaves_the_port_its_say() {
    let (two, one) = (http2_backend(), secure::Options::plain().start());
    let upgrade = gateway(two.address(), "HTTP", "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}\n");
    assert_eq!(upgrade.get("h", "/").seen("version").as_deref(), Some("HTTP/2.0"));
    let stays = gateway(one.address(), "HTTP", "connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}\n");
    assert_eq!(stays.get("h", "/").seen("version").as_deref(), Some("HTTP/1.1"));
    let by_port = gateway(two.address(), "HTTP2", "connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}\n");
    assert_eq!(by_port.get("h", "/").seen("version").as_deref(), Some("HTTP/2.0"));
    // A client of HTTP/1.1 gets HTTP/1.1.
    let client = gateway(one.address(), "HTTP2", "connectionPool: {http: {useClientProtocol: true}}\n");
    assert_eq!(client.get("h", "/").seen("version").as_deref(), Some("HTTP/1.1"));
}

#[test]
fn under_tls_alpn_names_it() {
    let (authority, folder) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let backend = secure::Options::tls(&authority.issue(&["app.test"]), None).start();
    let ca = write(folder.path(), "ca.pem", &authority.pem);
    let tls = format!("tls: {{mode: SIMPLE, caCertificates: {}}}\n", ca.display());
    let gateway = gateway(backend.address(), "HTTP2", &tls);
    let response = gateway.get("app.test", "/");
    assert_eq!((response.seen("alpn").as_deref(), response.seen("sni").as_deref()), (Some("h2"), Some("app.test")));
    assert_eq!(
        (response.seen("version").as_deref(), response.seen("scheme").as_deref()),
        (Some("HTTP/2.0"), Some("https"))
    );
}

#[test]
fn requests_share_a_connection_up_to_max_concurrent_streams() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "HTTP2", "");
    let together = |gateway: &Gateway| {
        std::thread::scope(|scope| {
            let asked: Vec<_> = (0..20).map(|_| scope.spawn(|| gateway.get("h", "/slow/200").status)).collect();
            assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 200));
        });
    };
    together(&gateway);
    assert!(backend.connections() <= 2, "one for each of two workers, not {}", backend.connections());
    let backend = http2_backend();
    let limited = self::gateway(backend.address(), "HTTP2", "connectionPool: {http: {maxConcurrentStreams: 2}}\n");
    together(&limited);
    assert!(backend.connections() >= 8, "two streams on each, not {}", backend.connections());
}

#[test]
fn bodies_go_both_ways_and_a_length_stays_one() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "HTTP2", "");
    let body = vec![b'x'; 300_000];
    let response = gateway.send(&Request::new("POST", "h", "/echo").body(body.clone()));
    assert_eq!((response.status, response.body), (200, body));
    let mut connection = gateway.connect();
    connection
        .send(b"POST /echo HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .unwrap();
    assert_eq!(connection.response(false).unwrap().text(), "hello");
    assert_eq!(gateway.get("h", "/big/1000000").body.len(), 1_000_000);
}

#[test]
fn a_client_that_does_not_read_stalls_its_own_stream_only() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "HTTP2", "");
    let stalled: Vec<Connection> = (0..20)
        .map(|_| {
            let mut connection = gateway.connect();
            connection.send(b"GET /big/50000000 HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
            connection.head().unwrap();
            connection
        })
        .collect();
    for _ in 0..4 {
        assert_eq!(gateway.get("h", "/big/1000000").body.len(), 1_000_000);
    }
    assert!(backend.connections() <= 2, "beside them, not on connections of their own");
    drop(stalled);
}

#[test]
fn trailers_of_grpc_reach_a_client_of_http1() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "GRPC", "");
    let mut connection = gateway.connect();
    let head =
        "POST /grpc HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\nte: trailers\r\ncontent-length: 0\r\n\r\n";
    connection.send(head.as_bytes()).unwrap();
    let response = connection.head().unwrap();
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/grpc")));
    let chunk = connection.chunk().unwrap().unwrap();
    assert!(String::from_utf8(chunk).unwrap().contains("te: trailers\n"));
    let rest = connection.exactly(b"0\r\ngrpc-status: 0\r\n\r\n".len()).unwrap();
    assert_eq!(String::from_utf8(rest).unwrap(), "0\r\ngrpc-status: 0\r\n\r\n");
    let only =
        gateway.send(&Request::new("POST", "h", "/grpc-only").header("content-type", "application/grpc").body(""));
    assert_eq!((only.status, only.header("grpc-status")), (200, Some("7")));
}

/// What a raw HTTP/2 server does with its n-th request, from 0.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Answer,
    Reset(h2::Reason),
    /// Answers, and says that no further stream is taken.
    LastAnswer,
    /// An answer that ends with RST_STREAM, and NO_ERROR.
    Cut,
}

/// A server that does as told, and how many requests it saw.
fn raw(deed: impl Fn(usize) -> Deed + Clone + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                let (deed, count) = (deed.clone(), count.clone());
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await.unwrap();
                    while let Some(Ok((_request, mut respond))) = connection.accept().await {
                        let deed = deed(count.fetch_add(1, Ordering::SeqCst));
                        if let Deed::Reset(reason) = deed {
                            respond.send_reset(reason);
                            continue;
                        }
                        let response = http::Response::builder().body(()).unwrap();
                        let mut body = respond.send_response(response, false).unwrap();
                        if deed == Deed::Cut {
                            body.send_data("half".into(), false).unwrap();
                            // What waits when a stream is reset is not sent any more.
                            let sent = Duration::from_millis(50);
                            let _ =
                                tokio::time::timeout(sent, std::future::poll_fn(|cx| connection.poll_closed(cx))).await;
                            body.send_reset(h2::Reason::NO_ERROR);
                            continue;
                        }
                        body.send_data("ok".into(), true).unwrap();
                        if deed == Deed::LastAnswer {
                            connection.graceful_shutdown();
                        }
                    }
                });
            }
        });
    });
    (address, seen)
}

#[test]
fn a_refused_stream_is_tried_again_whatever_the_method() {
    let refused = |n| if n == 0 { Deed::Reset(h2::Reason::REFUSED_STREAM) } else { Deed::Answer };
    let (address, seen) = raw(refused);
    let gateway = gateway(address, "HTTP2", "");
    let response = gateway.send(&Request::new("POST", "h", "/").body("once"));
    assert_eq!((response.status, response.text().as_str(), seen.load(Ordering::SeqCst)), (200, "ok", 2));
    let (address, seen) = raw(|_| Deed::Reset(h2::Reason::REFUSED_STREAM));
    let gateway = self::gateway(address, "HTTP2", "");
    let response = gateway.get("h", "/");
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("reset reason: remote refused stream reset"), "{}", response.text());
    assert_eq!(seen.load(Ordering::SeqCst), 3, "the default is two more tries");
    gateway.await_access("upstream_reset_before_response_started{remote_refused_stream_reset}");
}

#[test]
fn a_stream_that_was_reset_is_not_tried_again_and_costs_no_other() {
    let (address, seen) = raw(|n| if n == 1 { Deed::Reset(h2::Reason::INTERNAL_ERROR) } else { Deed::Answer });
    let gateway = gateway(address, "HTTP2", "");
    let mut connection = gateway.connect();
    assert_eq!(connection.request(&Request::get("h", "/a")).unwrap().status, 200);
    let response = connection.request(&Request::get("h", "/b")).unwrap();
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("reset reason: remote reset"), "{}", response.text());
    assert!(gateway.await_access("remote_reset").contains(" UR "));
    assert_eq!(connection.request(&Request::get("h", "/c")).unwrap().status, 200);
    assert_eq!(seen.load(Ordering::SeqCst), 3);
    assert!(gateway.metric("envoy_cluster_upstream_cx_total", &["outbound|80||app.test"]) < 2.0);
}

#[test]
fn an_answer_that_is_reset_without_an_error_is_cut_all_the_same() {
    let (address, _) = raw(|_| Deed::Cut);
    let gateway = gateway(address, "HTTP2", "");
    let answer = gateway.connect().request(&Request::get("h", "/"));
    assert!(answer.is_err(), "an answer that looks whole: {answer:?}");
    assert!(gateway.await_access("upstream_reset_after_response_started{remote_reset}").contains(" UR "));
}

#[test]
fn a_connection_that_says_goodbye_loses_no_request() {
    let (address, seen) = raw(|_| Deed::LastAnswer);
    let gateway = gateway(address, "HTTP2", "");
    let mut connection = gateway.connect();
    for _ in 0..50 {
        let response = connection.request(&Request::new("POST", "h", "/").body("x")).unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
    }
    assert_eq!(seen.load(Ordering::SeqCst), 50, "and none is sent twice");
}

#[test]
fn a_connection_serves_max_requests_per_connection() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "HTTP2", "connectionPool: {http: {maxRequestsPerConnection: 2}}\n");
    let mut connection = gateway.connect();
    for _ in 0..6 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    assert_eq!(backend.connections(), 3);
}

#[test]
fn http2_max_requests_limits_streams_in_flight() {
    let backend = http2_backend();
    let gateway = gateway(backend.address(), "HTTP2", "connectionPool: {http: {http2MaxRequests: 1}}\n");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("h", "/slow/1000").status);
        crate::support::await_true("the first to arrive", || backend.requests() == 1);
        let second = gateway.get("h", "/");
        assert_eq!((second.status, second.header("x-envoy-overloaded")), (503, Some("true")));
        assert_eq!(first.join().unwrap(), 200);
    });
}

#[test]
fn a_websocket_goes_out_as_http1_from_a_cluster_of_http2() {
    let one = secure::Options::plain().start();
    let gateway = gateway(one.address(), "HTTP2", "");
    let request = Request::get("h", "/").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(gateway.send(&request).seen("version").as_deref(), Some("HTTP/1.1"));
}

#[test]
fn a_backend_that_speaks_http1_only_is_a_protocol_error() {
    let one = secure::Options::plain().start();
    let gateway = gateway(one.address(), "HTTP2", "");
    let response = gateway.get("h", "/");
    assert!([502, 503].contains(&response.status), "{}", response.status);
}
