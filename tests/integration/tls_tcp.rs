//! TLS that goes through as it is, by the server name, and bytes within TLS that ends at the gateway.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::dns::DnsServer;
use crate::support::gateway::Options;
use crate::support::tcp::{Server, service};
use crate::support::tls::{Authority, Pair, Tls, tls_secret};
use crate::support::{DEADLINE, await_true};

/// A server of TLS that says its name and ends.
fn speaker(pair: &Pair, name: &'static str) -> std::net::SocketAddr {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let server = Server::start();
    let address = server.address;
    std::thread::spawn(move || {
        loop {
            let socket = server.accept();
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            if stream.write_all(name.as_bytes()).is_ok() {
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    address
}

fn gateway(server: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: tls}}
spec:
  servers:
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*']}}
  - {server}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: tls}}
spec:
  hosts: ['*.test']
  gateways: [tls]
  {rules}
"
    )
}

#[test]
fn tls_goes_through_to_the_backend_of_its_server_name() {
    let authority = Authority::new("ca");
    let (a, b) = (authority.issue(&["a.test"]), authority.issue(&["x.b.test"]));
    let rules = "tls:
  - match: [{port: 443, sniHosts: [a.test]}]
    route: [{destination: {host: a.backend, port: {number: 9000}}}]
  - match: [{sniHosts: ['*.b.test']}]
    route: [{destination: {host: b.backend, port: {number: 9000}}}]";
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}";
    let services = service("a.backend", speaker(&a, "a")) + &service("b.backend", speaker(&b, "b"));
    let tls = Tls::start(&(gateway(server, rules) + &services));
    let client = tls.client(&authority);
    for (name, speaker) in [("a.test", "a"), ("x.b.test", "b")] {
        let mut said = String::new();
        client.connect(name).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, speaker);
    }
    let line = tls.gateway.await_access("outbound|9000||a.backend");
    assert!(line.contains(" a.test "), "the server name is in the line: {line}");
    assert!(client.connect("c.test").is_err() && client.connect_without_name("a.test").is_err());
    tls.gateway.await_metric("envoy_listener_no_filter_chain_match", &[], 2.0);
}

#[test]
fn a_match_with_a_server_name_of_an_earlier_one_is_skipped_whole() {
    let authority = Authority::new("ca");
    let backend = speaker(&authority.issue(&["a.test", "b.test"]), "a");
    let rules = "tls:
  - match: [{sniHosts: [a.test]}]
    route: [{destination: {host: a.backend, port: {number: 9000}}}]
  - match: [{sniHosts: [b.test, a.test]}]
    route: [{destination: {host: a.backend, port: {number: 9000}}}]";
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}";
    let tls = Tls::start(&(gateway(server, rules) + &service("a.backend", backend)));
    let client = tls.client(&authority);
    let mut said = String::new();
    client.connect("a.test").unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "a");
    assert!(client.connect("b.test").is_err());
}

#[test]
fn a_connection_of_tls_goes_to_the_host_of_its_server_name_and_to_no_other() {
    let authority = Authority::new("ca");
    let backend = speaker(&authority.issue(&["a.example.test"]), "a");
    let dns = DnsServer::start();
    dns.set("a.example.test", &["127.0.0.1"], 60);
    dns.set("elsewhere.test", &["127.0.0.1"], 60);
    let rules = "tls:
  - match: [{sniHosts: ['*.test']}]
    route: [{destination: {host: '*.example.test'}}]";
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*.test'], tls: {mode: PASSTHROUGH}}";
    let entry = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: all}}\nspec:\n  \
         hosts: ['*.example.test']\n  resolution: DYNAMIC_DNS\n  \
         ports: [{{number: 443, name: tls, protocol: TLS, targetPort: {}}}]\n",
        backend.port()
    );
    let options = Options::new().file("tls.yaml", gateway(server, rules) + &entry);
    let tls = Tls::start_with(options.argument("--dns-server").argument(dns.address().to_string()));
    let client = tls.client(&authority);
    for _ in 0..2 {
        let mut said = String::new();
        client.connect("a.example.test").unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "a");
    }
    let cluster = "outbound|443||*.example.test";
    let line = tls.gateway.await_access(cluster);
    assert!(line.contains(&format!("\"{backend}\" {cluster}")) && line.contains(" a.example.test "), "{line}");
    for name in ["no.example.test", "elsewhere.test"] {
        assert!(client.connect(name).is_err(), "{name}");
        let line = tls.gateway.await_access(&format!(" {name} "));
        assert!(line.contains(" UH ") && line.contains(cluster), "{line}");
    }
    tls.gateway.await_metric("envoy_cluster_upstream_cx_none_healthy", &[cluster], 2.0);
}

#[test]
fn a_hello_in_pieces_is_put_together_and_reaches_the_backend_as_it_came() {
    let backend = Server::start();
    let rules = "tls:
  - match: [{sniHosts: [a.test]}]
    route: [{destination: {host: a.backend, port: {number: 9000}}}]";
    let server = "{port: {number: 443, name: tls, protocol: TLS}, hosts: ['*'], tls: {mode: PASSTHROUGH}}";
    let tls = Tls::start(&(gateway(server, rules) + &service("a.backend", backend.address)));
    let config = tls.client(&Authority::new("ca")).config(true);
    let mut session = rustls::ClientConnection::new(config, "a.test".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut socket = TcpStream::connect(tls.port.address()).unwrap();
    socket.set_nodelay(true).unwrap();
    for piece in hello.chunks(37) {
        socket.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut upstream = backend.accept();
    let mut came = vec![0; hello.len()];
    upstream.read_exact(&mut came).unwrap();
    assert!(came == hello, "the backend gets what the client sent");
    // From here on both ways.
    upstream.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn bytes_within_tls_that_ends_here_go_to_the_first_tcp_rule() {
    let authority = Authority::new("ca");
    let rules = "tcp:\n  - route: [{destination: {host: app.test}}]";
    let server =
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: a}}";
    let files =
        gateway(server, rules) + &service("app.test", Server::echo()) + &tls_secret("a", &authority.issue(&["a.test"]));
    let tls = Tls::start(&files);
    let mut stream = tls.client(&authority).connect("a.test").unwrap();
    assert_eq!(stream.conn.alpn_protocol(), None);
    let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
    stream.write_all(&sent[..100_000]).unwrap();
    let mut came = vec![0; 100_000];
    stream.read_exact(&mut came).unwrap();
    assert!(came == sent[..100_000]);
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    let line = tls.gateway.await_access("outbound|9000||app.test");
    assert!(line.contains("100000 100000"), "{line}");
}

#[test]
fn who_says_nothing_is_turned_away_and_holds_nobody_up() {
    let authority = Authority::new("ca");
    let rules = "tcp:\n  - route: [{destination: {host: app.test}}]";
    let server =
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: a}}";
    let files = gateway(server, rules)
        + &service("app.test", Server::named("app"))
        + &tls_secret("a", &authority.issue(&["a.test"]));
    let tls = Tls::start(&files);
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(tls.port.address()).unwrap()).collect();
    let mut said = String::new();
    tls.client(&authority).connect("a.test").unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "app");
    // What is no TLS at all ends at once.
    let mut plain = TcpStream::connect(tls.port.address()).unwrap();
    plain.set_read_timeout(Some(DEADLINE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    drop(silent);
}

#[test]
fn half_a_hello_is_closed_in_time() {
    let authority = Authority::new("ca");
    let rules = "tcp:\n  - route: [{destination: {host: app.test}}]";
    let server =
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: a}}";
    let files = gateway(server, rules)
        + &service("app.test", Server::named("app"))
        + &tls_secret("a", &authority.issue(&["a.test"]));
    let tls = Tls::start(&files);
    let mut socket = TcpStream::connect(tls.port.address()).unwrap();
    socket.set_read_timeout(Some(2 * DEADLINE)).unwrap();
    socket.write_all(&[22, 3, 1, 0, 200, 1, 0]).unwrap();
    assert!(matches!(socket.read(&mut [0]), Ok(0)), "the gateway ends it");
    let counted = "envoy_listener_downstream_cx_transport_socket_connect_timeout";
    await_true("the timeout to be counted", || tls.gateway.metric(counted, &[]) == 1.0);
    let port = tls.port.number().to_string();
    await_true("the connection to be gone", || {
        tls.gateway.metric("envoy_listener_downstream_cx_active", &[&port]) == 0.0
    });
}
