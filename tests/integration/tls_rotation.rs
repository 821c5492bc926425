//! Certificates that change while requests are served, and sessions that are resumed.

use rustls::HandshakeKind;

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::Options;
use crate::support::tls::{Authority, Client, Pair, Tls, gateway, https, secret, tls_secret, virtual_service};
use crate::support::upstream::Upstream;

fn files(upstream: &Upstream, settings: &str) -> String {
    let files = [
        gateway(&[https(1, "a.test", &format!("credentialName: a, {settings}"))]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
    ];
    files.concat()
}

fn start(upstream: &Upstream, settings: &str, secrets: &str) -> Tls {
    Tls::start_with(Options::new().file("tls.yaml", files(upstream, settings)).file("secret.yaml", secrets))
}

/// The certificate that a new client is shown.
fn shown(client: &Client) -> Option<Vec<u8>> {
    let stream = client.connect("a.test").ok()?;
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

fn der(pair: &Pair) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap().to_vec()
}

#[test]
fn certificates_change_under_load_without_a_failed_request() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let first = authority.issue(&["a.test"]);
    let tls = start(&upstream, "mode: SIMPLE", &tls_secret("a", &first));
    let client = tls.client(&authority);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let answered = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        use std::sync::atomic::Ordering::Relaxed;
        // One connection for all the time, and new ones all the time.
        let kept = scope.spawn(|| {
            let mut connection = client.http("a.test").unwrap();
            while !stop.load(Relaxed) {
                assert_eq!(connection.request(&Request::get("a.test", "/")).unwrap().status, 200);
                answered.fetch_add(1, Relaxed);
            }
        });
        let fresh = scope.spawn(|| {
            while !stop.load(Relaxed) {
                let mut connection = client.http("a.test").unwrap();
                assert_eq!(connection.request(&Request::get("a.test", "/")).unwrap().status, 200);
                answered.fetch_add(1, Relaxed);
            }
        });
        for _ in 0..10 {
            let next = authority.issue(&["a.test"]);
            tls.gateway.replace("secret.yaml", tls_secret("a", &next));
            await_true("the new certificate", || shown(&client) == Some(der(&next)));
        }
        stop.store(true, Relaxed);
        kept.join().unwrap();
        fresh.join().unwrap();
    });
    assert!(answered.load(std::sync::atomic::Ordering::Relaxed) > 20);
}

#[test]
fn the_last_good_certificate_serves_on_until_a_good_one_comes() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let first = authority.issue(&["a.test"]);
    let tls = start(&upstream, "mode: SIMPLE", &tls_secret("a", &first));
    let client = tls.client(&authority);
    tls.gateway.replace("secret.yaml", secret("a", &[("tls.crt", "nonsense"), ("tls.key", &first.key)]));
    tls.gateway.await_log("the one before serves on");
    assert_eq!(shown(&client), Some(der(&first)));
    // A Secret that is gone is said, and changes nothing either.
    tls.gateway.replace("secret.yaml", tls_secret("other", &first));
    tls.gateway.await_log("there is no Secret `default/a`");
    assert_eq!(shown(&client), Some(der(&first)));
    let next = authority.issue(&["a.test"]);
    tls.gateway.replace("secret.yaml", tls_secret("a", &next));
    await_true("the good certificate", || shown(&client) == Some(der(&next)));
}

/// Whoever was to be kept out would come in.
#[test]
fn a_server_that_asks_more_of_its_clients_does_not_serve_on_as_it_did() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let pair = tls_secret("a", &authority.issue(&["a.test"]));
    let tls = start(&upstream, "mode: SIMPLE", &pair);
    let client = tls.client(&authority);
    assert!(shown(&client).is_some());
    tls.gateway.replace("tls.yaml", files(&upstream, "mode: MUTUAL"));
    await_true("the server without a CA to be down", || client.connect("a.test").is_err());
    tls.gateway.replace("secret.yaml", format!("{pair}{}", secret("a-cacert", &[("ca.crt", &clients.pem())])));
    let known = client.with(&clients.issue(&["web.test"]));
    await_true("the CA", || known.http("a.test").is_ok_and(|mut c| c.request(&Request::get("a.test", "/")).is_ok()));
}

#[test]
fn sessions_are_resumed_on_any_worker() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = start(&upstream, "mode: SIMPLE", &tls_secret("a", &authority.issue(&["a.test"])));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = tls.client(&authority).version(version).keeping();
        let kind = || {
            let mut stream = client.connect("a.test").unwrap();
            let kind = stream.conn.handshake_kind();
            // Tickets of TLS 1.3 come after the handshake.
            use std::io::{Read, Write};
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 16]).unwrap();
            kind
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        for _ in 0..8 {
            assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?}");
        }
    }
    assert_eq!(tls.gateway.metric("envoy_listener_ssl_session_reused", &[]), 16.0);
}

#[test]
fn a_session_from_before_clients_were_asked_for_certificates_does_not_count() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let pair = authority.issue(&["a.test"]);
    let tls = start(
        &upstream,
        "mode: OPTIONAL_MUTUAL",
        &[tls_secret("a", &pair), secret("a-cacert", &[("ca.crt", &authority.pem())])].concat(),
    );
    let client = tls.client(&authority).keeping();
    let mut connection = client.http("a.test").unwrap();
    assert_eq!(connection.request(&Request::get("a.test", "/")).unwrap().status, 200);
    let text = std::fs::read_to_string(tls.gateway.config().join("tls.yaml")).unwrap();
    tls.gateway.replace("tls.yaml", text.replace("OPTIONAL_MUTUAL", "MUTUAL"));
    let fresh = tls.client(&authority);
    await_true("clients to need certificates", || {
        fresh.http("a.test").and_then(|mut c| c.request(&Request::get("a.test", "/"))).is_err()
    });
    assert!(client.http("a.test").and_then(|mut c| c.request(&Request::get("a.test", "/"))).is_err());
}
