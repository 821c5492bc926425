//! `trafficPolicy.tunnel`: connections of TCP through a proxy, which is asked by CONNECT or POST.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::support::config::policy;
use crate::support::secure;
use crate::support::tcp::{Server, Tcp, read_all, read_some, routes, service, to};

/// Everything goes to `app.test`, a proxy, and through it.
fn start(proxy: SocketAddr, traffic: &str) -> Tcp {
    Tcp::start(&format!("{}---\n{}", to(proxy), policy("app.test", traffic)))
}

const CONNECT: &str = "tunnel: {protocol: CONNECT, targetHost: far.test, targetPort: 443}\n";
const POST: &str = "tunnel: {protocol: POST, targetHost: far.test, targetPort: 443}\n";

/// Reads a head.
fn head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    head
}

#[test]
fn the_proxy_is_asked_by_connect_and_bytes_follow_its_answer() {
    let server = Server::start();
    let tcp = start(server.address, CONNECT);
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    let mut proxy = BufReader::new(server.accept());
    assert_eq!(head(&mut proxy), "CONNECT far.test:443 HTTP/1.1\r\nhost: far.test:443\r\n\r\n");
    // Any success will do, and a length says nothing.
    proxy.get_mut().write_all(b"HTTP/1.1 201 Made\r\ncontent-length: 3\r\n\r\nwelcome").unwrap();
    assert_eq!(read_some(&client, 7), "welcome");
    let mut bytes = [0; 5];
    proxy.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    // Ends go through as ends.
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(proxy.read(&mut bytes).unwrap(), 0);
    proxy.get_mut().write_all(b"bye").unwrap();
    drop(proxy);
    assert_eq!(read_all(&client), "bye");
    let line = tcp.gateway.await_access("outbound|9000||app.test");
    assert!(line.contains(r#""- - -" 0 - - - "-" 5 10 "#), "{line}");
}

#[test]
fn a_proxy_that_refuses_costs_the_connection_and_is_told() {
    for traffic in [CONNECT, POST] {
        let server = Server::start();
        let tcp = start(server.address, traffic);
        let mut client = tcp.connect();
        client.write_all(b"hello").unwrap();
        let mut proxy = BufReader::new(server.accept());
        head(&mut proxy);
        proxy.get_mut().write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").unwrap();
        let mut rest = Vec::new();
        // An end or a reset, and nothing of the answer.
        let _ = client.read_to_end(&mut rest);
        assert_eq!(rest, b"");
        let line = tcp.gateway.await_access("outbound|9000||app.test");
        assert!(line.contains(r#""- - -" 0 UF,URX - - "tunnel_response:403" 0 0 "#), "{line}");
        let cluster = r#"envoy_cluster_name="outbound|9000||app.test""#;
        tcp.gateway.await_metric("envoy_cluster_upstream_cx_active", &[cluster], 0.0);
    }
}

#[test]
fn a_proxy_that_is_asked_by_post_gets_and_sends_bodies() {
    let server = Server::start();
    let tcp = start(server.address, POST);
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    let mut proxy = BufReader::new(server.accept());
    assert_eq!(head(&mut proxy), "POST / HTTP/1.1\r\nhost: far.test:443\r\ntransfer-encoding: chunked\r\n\r\n");
    proxy.get_mut().write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nwelcome\r\n").unwrap();
    assert_eq!(read_some(&client, 7), "welcome");
    let mut bytes = [0; 10];
    proxy.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"5\r\nhello\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    proxy.read_exact(&mut bytes[..5]).unwrap();
    assert_eq!(&bytes[..5], b"0\r\n\r\n");
    proxy.get_mut().write_all(b"3\r\nbye\r\n0\r\n\r\n").unwrap();
    assert_eq!(read_all(&client), "bye");
}

#[test]
fn a_body_that_breaks_off_is_no_end() {
    let server = Server::start();
    let tcp = start(server.address, POST);
    let mut client = tcp.connect();
    let mut proxy = BufReader::new(server.accept());
    head(&mut proxy);
    proxy.get_mut().write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nwelcome\r\n").unwrap();
    assert_eq!(read_some(&client, 7), "welcome");
    drop(proxy);
    let mut rest = Vec::new();
    assert!(client.read_to_end(&mut rest).is_err(), "a reset");
    assert!(tcp.gateway.await_access("outbound|9000||app.test").contains(" 0 UR "));
}

#[test]
fn a_proxy_of_http2_is_asked_over_http2() {
    let backend = secure::Options::plain().http2().tunnels().start();
    let upgraded = "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}\n";
    let tcp = start(backend.address(), &format!("{CONNECT}{upgraded}"));
    let mut client = tcp.connect();
    echoes(&mut client, b"over HTTP/2");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client), "");
    assert_eq!(backend.requests(), 1);
    // By POST this backend tells what it has seen.
    let tcp = start(backend.address(), &format!("{POST}{upgraded}"));
    let mut client = tcp.connect();
    client.write_all(b"hello").unwrap();
    let seen = read_all(&client);
    for line in ["POST /\n", "version: HTTP/2.0\n", "authority: far.test:443\n", "scheme: http\n"] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
}

fn echoes(client: &mut TcpStream, piece: &[u8]) {
    client.write_all(piece).unwrap();
    assert_eq!(read_some(client, piece.len()).as_bytes(), piece);
}

#[test]
fn of_several_destinations_the_tunnel_of_the_first_one_s_host_counts_for_all() {
    let servers = [Server::start(), Server::start()];
    let rule = "route: [{destination: {host: app.test}, weight: 0}, {destination: {host: other.test}, weight: 1}]";
    let services = service("app.test", servers[0].address) + &service("other.test", servers[1].address);
    for (host, asked) in [("app.test", "CONNECT far.test:443 HTTP/1.1\r\n"), ("other.test", "hello\r\n")] {
        let tcp = Tcp::start(&format!("{}{services}---\n{}", routes(rule), policy(host, CONNECT)));
        let mut client = tcp.connect();
        client.write_all(b"hello\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(servers[1].accept()).read_line(&mut line).unwrap();
        assert_eq!(line, asked, "with a tunnel of {host}");
    }
}

#[test]
fn a_subset_has_a_tunnel_of_its_own_or_none() {
    let server = Server::start();
    let subset = |tunnel: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\nspec:\n  host: app.test\n  \
             trafficPolicy:\n    {CONNECT}  subsets:\n  - name: one\n    trafficPolicy: {{{tunnel}}}\n"
        )
    };
    let through = "tunnel: {targetHost: '2001:db8::1', targetPort: 99}";
    for (tunnel, asked) in [(through, "CONNECT [2001:db8::1]:99 HTTP/1.1\r\n"), ("tls: {mode: DISABLE}", "hello\r\n")] {
        let routed = to(server.address).replace("host: app.test", "host: app.test, subset: one");
        let tcp = Tcp::start(&(routed + &subset(tunnel)));
        let mut client = tcp.connect();
        client.write_all(b"hello\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(server.accept()).read_line(&mut line).unwrap();
        assert_eq!(line, asked);
    }
}
