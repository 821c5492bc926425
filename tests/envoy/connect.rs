//! CONNECT of clients, handed on and ended, in real Envoy and here.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::DEADLINE;
use crate::support::client::Connection;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::envoy::{self, Envoy};
use crate::support::gateway::Options;

const RULES: &str = "- match: [{authority: {prefix: shop.test}}]\n  route: [{destination: {host: app.test}}]\n\
                     - match: [{uri: {prefix: /}}]\n  route: [{destination: {host: app.test}}]\n";

/// Heads, and what is sent behind them at once.
const ASKED: [&str; 12] = [
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\n",
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test:443\r\n\r\nearly",
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: other.test\r\n\r\n",
    "CONNECT shop.test:443 HTTP/1.1\r\n\r\n",
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 0\r\n\r\n",
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test\r\ncontent-length: 5\r\n\r\n12345",
    "CONNECT shop.test:443 HTTP/1.1\r\nhost: shop.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "CONNECT shop.test HTTP/1.1\r\nhost: shop.test\r\n\r\n",
    "CONNECT /path HTTP/1.1\r\nhost: shop.test\r\n\r\n",
    "CONNECT http://shop.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n",
    "CONNECT shop.test:443 HTTP/1.0\r\nhost: shop.test\r\n\r\n",
    "CONNECT elsewhere.test:443 HTTP/1.1\r\nhost: shop.test\r\n\r\n",
];

/// A pipe that sends everything back, behind an answer to each head when it is a proxy. Tells the target of each head.
fn backend(is_proxy: bool) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, targets) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(socket.try_clone().unwrap());
                if is_proxy {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
                    let _ = (&socket).write_all(b"HTTP/1.1 200 OK\r\nx-proxy: yes\r\n\r\n");
                    let host = head.lines().find(|line| line.to_ascii_lowercase().starts_with("host:"));
                    let _ = sender.send(format!("{:?} {host:?}", head.lines().next()));
                }
                let _ = std::io::copy(&mut reader, &mut &socket);
                let _ = socket.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (address, targets)
}

/// What came of a request: the answer, what the tunnel carried, what the proxy was told.
fn outcome(gateway: SocketAddr, asked: &str, targets: &mpsc::Receiver<String>, is_proxy: bool) -> String {
    let socket = TcpStream::connect(gateway).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut connection = Connection::over(socket.try_clone().unwrap());
    connection.send(asked.as_bytes()).unwrap();
    let head = connection.head().unwrap();
    let shown = |name: &str| head.header(name).map(str::to_owned);
    let mut text = format!(
        "{} {:?} {:?} {:?}",
        head.status,
        shown("connection"),
        shown("x-proxy"),
        shown("x-envoy-upstream-service-time")
    );
    if head.status != 200 {
        // As much as is said to come, and the end.
        let length = shown("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let body = connection.exactly(length).unwrap();
        return format!("{text} {} closed: {}", String::from_utf8_lossy(&body), connection.is_closed());
    }
    let early = asked.split_once("\r\n\r\n").map_or("", |(_, early)| early);
    connection.send(b"ping").unwrap();
    let echoed = connection.exactly(early.len() + 4).unwrap();
    text.push_str(&String::from_utf8_lossy(&echoed));
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    let _ = (&socket).read_to_end(&mut rest);
    if is_proxy {
        text.push_str(&targets.recv_timeout(DEADLINE).unwrap());
    }
    format!("{text} then {rest:?}")
}

#[test]
fn connect_is_taken_refused_and_piped_as_by_envoy() {
    let Some(binary) = envoy::binary() else { return };
    for mode in ["forward", "terminate"] {
        let is_proxy = mode == "forward";
        let ((of_envoy, told_envoy), (of_portolan, told_portolan)) = (backend(is_proxy), backend(is_proxy));
        let envoy = Envoy::start_as(&binary, |http, admin| configuration(mode, of_envoy, http, admin));
        let annotations = format!("  annotations: {{portolan.dev/connect: {mode}}}\nspec:\n");
        let gateway = Options::new()
            .file("gateway.yaml", ANY_GATEWAY.replace("spec:\n", &annotations))
            .file("routes.yaml", routes(RULES))
            .file("app.yaml", service_entry("app.test", &[("v1", of_portolan)]))
            .start();
        for asked in ASKED {
            let envoys = outcome(envoy.address(), asked, &told_envoy, is_proxy);
            let ours = outcome(gateway.address(), asked, &told_portolan, is_proxy);
            assert_eq!(envoys, ours, "{mode}: Envoy, Portolan: {asked:?}");
        }
    }
}

fn configuration(mode: &str, backend: SocketAddr, http: SocketAddr, admin: SocketAddr) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let upgrade = match mode {
        "terminate" => json!({"upgrade_type": "CONNECT", "connect_config": {}}),
        _ => json!({"upgrade_type": "CONNECT"}),
    };
    let route = json!({"cluster": "app", "timeout": "0s", "upgrade_configs": [upgrade]});
    let of_shop = json!({"name": ":authority", "string_match": {"prefix": "shop.test"}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"connect_matcher": {}, "headers": [of_shop]}, "route": route},
            {"match": {"prefix": "/"}, "route": {"cluster": "app"}},
        ]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{"name": "http", "address": socket(http), "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
            ]}]}],
            "clusters": [{"name": "app", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
                "cluster_name": "app",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(backend)}}]}],
            }}],
        },
    })
}
