//! TLS where clients or files are unlike the usual: certificates and authorities in files, protocols that nobody speaks,
//! the wrong protocol on a port, sessions with early data.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::client::{Connection, Request};
use crate::support::config::service_entry;
use crate::support::gateway::Options;
use crate::support::tls::{Authority, Client, Pair, Special, Tls, gateway, https, secret, tls_secret, virtual_service};
use crate::support::upstream::Upstream;
use crate::support::{DEADLINE, await_true};

/// Host `a.test` with these settings.
fn files(settings: &str, upstream: &Upstream) -> String {
    let files = [
        gateway(&[https(1, "a.test", settings)]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
    ];
    files.concat()
}

fn simple(authority: &Authority, upstream: &Upstream) -> Tls {
    let secret = tls_secret("a", &authority.issue(&["a.test"]));
    Tls::start(&(files("mode: SIMPLE, credentialName: a", upstream) + &secret))
}

/// Status of a request, none when the connection ends without an answer.
fn status(client: &Client) -> Option<u16> {
    let mut connection = client.http("a.test").ok()?;
    Some(connection.request(&Request::get("a.test", "/")).ok()?.status)
}

fn shown(client: &Client) -> Option<Vec<u8>> {
    let stream = client.connect("a.test").ok()?;
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

fn der(pair: &Pair) -> Option<Vec<u8>> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok().map(|der| der.to_vec())
}

#[test]
fn a_client_that_offers_unknown_protocols_is_served_without_one() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = simple(&authority, &upstream);
    for offered in ["foo", "http/1.0"] {
        let stream = tls.client(&authority).alpn(offered).connect("a.test").unwrap();
        assert_eq!(stream.conn.alpn_protocol(), None);
        assert_eq!(Connection::over(stream).request(&Request::get("a.test", "/")).unwrap().status, 200);
    }
}

#[test]
fn several_certificates_of_files_are_shown_to_whom_they_fit_and_change() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let of_rsa = authority.special(&["a.test"], &Special { rsa: true, ..Special::default() });
    let (first, second) = (authority.issue(&["a.test"]), authority.issue(&["a.test"]));
    let pairs = "[{serverCertificate: rsa.crt, privateKey: rsa.key}, {serverCertificate: ec.crt, privateKey: ec.key}]";
    let options = Options::new()
        .file("tls.yaml", files(&format!("mode: SIMPLE, tlsCertificates: {pairs}"), &upstream))
        .file("rsa.crt", &of_rsa.certificate)
        .file("rsa.key", &of_rsa.key)
        .file("ec.crt", &first.certificate)
        .file("ec.key", &first.key);
    let tls = Tls::start_with(options);
    let client = tls.client(&authority);
    assert_eq!((shown(&client), shown(&client.rsa_only())), (der(&first), der(&of_rsa)));
    assert_eq!(status(&client), Some(200));
    // Between the two writes the halves do not belong together: the last good pair is shown.
    tls.gateway.replace("ec.crt", &second.certificate);
    tls.gateway.await_log("its key does not belong to its certificate");
    assert_eq!(shown(&client), der(&first));
    tls.gateway.replace("ec.key", &second.key);
    await_true("the new pair", || shown(&client) == der(&second));
    assert_eq!(shown(&client.rsa_only()), der(&of_rsa));
}

#[test]
fn authorities_and_revocation_lists_of_files_count_and_change() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let own = authority.issue(&["a.test"]);
    let settings = "mode: MUTUAL, serverCertificate: a.crt, privateKey: a.key, caCertificates: ca.crt, caCrl: ca.crl";
    let options = Options::new()
        .file("tls.yaml", files(settings, &upstream))
        .file("a.crt", &own.certificate)
        .file("a.key", &own.key)
        .file("ca.crt", clients.pem())
        .file("ca.crl", clients.revoke(1));
    let tls = Tls::start_with(options);
    let client = tls.client(&authority);
    let with_serial = |serial| client.with(&clients.special(&["web.test"], &Special { serial, ..Special::default() }));
    let (revoked, good) = (with_serial(77), with_serial(78));
    assert_eq!((status(&revoked), status(&good), status(&client)), (Some(200), Some(200), None));
    tls.gateway.replace("ca.crl", clients.revoke(77));
    await_true("the list to count", || status(&revoked).is_none());
    assert_eq!(status(&good), Some(200));
    let others = Authority::new("others");
    tls.gateway.replace("ca.crl", others.revoke(1));
    tls.gateway.replace("ca.crt", others.pem());
    let known = client.with(&others.issue(&["web.test"]));
    await_true("the other authority to count", || status(&known) == Some(200));
    assert_eq!(status(&good), None);
}

#[test]
fn the_credential_of_the_authority_is_the_one_that_is_named() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let text = [
        files("mode: MUTUAL, credentialName: a, caCertCredentialName: trusted", &upstream),
        tls_secret("a", &authority.issue(&["a.test"])),
        secret("a-cacert", &[("ca.crt", &authority.pem())]),
        secret("trusted", &[("ca.crt", &clients.pem())]),
    ];
    let tls = Tls::start(&text.concat());
    let client = tls.client(&authority);
    assert_eq!(status(&client.with(&clients.issue(&["web.test"]))), Some(200));
    assert_eq!(status(&client.with(&authority.issue(&["web.test"]))), None);
}

#[test]
fn the_wrong_protocol_on_a_port_ends_the_connection() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = simple(&authority, &upstream);
    let answer = |address, bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        assert!(read.is_ok() || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let plain = answer(tls.port.address(), b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(!plain.contains("HTTP/"), "{plain}");
    let mut hello = Vec::new();
    let mut session = ClientConnection::new(tls.client(&authority).config(true), "a.test".try_into().unwrap()).unwrap();
    session.write_tls(&mut hello).unwrap();
    let of_http = answer(tls.gateway.address(), &hello);
    assert!(of_http.is_empty() || of_http.starts_with("HTTP/1.1 400 "), "{of_http}");
    tls.gateway.await_metric("envoy_listener_ssl_connection_error", &[], 1.0);
    assert_eq!((upstream.requests(), status(&tls.client(&authority))), (0, Some(200)));
}

#[test]
fn sessions_are_resumed_without_early_data() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = simple(&authority, &upstream);
    let mut config = rustls::ClientConfig::clone(&tls.client(&authority).config(true));
    config.enable_early_data = true;
    let config = Arc::new(config);
    let connect = || {
        let session = ClientConnection::new(config.clone(), "a.test".try_into().unwrap()).unwrap();
        rustls::StreamOwned::new(session, TcpStream::connect(tls.port.address()).unwrap())
    };
    for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let mut stream = connect();
        assert!(stream.conn.early_data().is_none(), "no ticket lets early data in");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        assert_eq!(stream.conn.handshake_kind(), Some(kind));
    }
}

#[test]
fn a_secret_that_cannot_be_used_is_told_everywhere_and_a_good_one_clears_it() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let ends = |year| authority.special(&["a.test"], &Special { ends: Some((year, 1, 1)), ..Special::default() });
    let (first, second) = (ends(2040), ends(2041));
    let options = Options::new()
        .file("tls.yaml", files("mode: SIMPLE, credentialName: a", &upstream))
        .file("secret.yaml", tls_secret("a", &first));
    let tls = Tls::start_with(options);
    let client = tls.client(&authority);
    let end = || tls.gateway.metric("portolan_certificate_expiration_unix_time_seconds", &["default/a"]);
    assert_eq!(end(), 2_208_988_800.0);
    tls.gateway.replace("secret.yaml", secret("a", &[("tls.crt", &second.certificate), ("tls.key", &first.key)]));
    let told = "its key does not belong to its certificate";
    tls.gateway.await_log(told);
    assert!(tls.gateway.admin("/config_dump").text().contains(told));
    tls.gateway.await_metric("portolan_config_last_reload_successful", &[], 0.0);
    assert!(tls.gateway.metric("portolan_config_reload_total", &["kept_old"]) >= 1.0);
    assert_eq!((shown(&client), end()), (der(&first), 2_208_988_800.0));
    tls.gateway.replace("secret.yaml", tls_secret("a", &second));
    await_true("the good pair", || shown(&client) == der(&second));
    tls.gateway.await_metric("portolan_config_last_reload_successful", &[], 1.0);
    assert_eq!(end(), 2_240_611_200.0);
    assert!(!tls.gateway.admin("/config_dump").text().contains(told));
}

/// An OCSP response for a serial number of one byte, which ends in this year. Nobody checks its signature here.
fn ocsp(serial: u8, year: u16) -> Vec<u8> {
    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], &content].concat()
    }
    let time = |year: u16| der(0x18, &[format!("{year}0101000000Z").as_bytes()]);
    let id = der(0x30, &[&der(0x30, &[]), &der(4, &[b"n"]), &der(4, &[b"k"]), &der(2, &[&[serial]])]);
    let answer = der(0x30, &[&id, &der(0x80, &[]), &time(2024), &der(0xa0, &[&time(year)])]);
    let data = der(0x30, &[&der(0xa2, &[]), &time(2024), &der(0x30, &[&answer])]);
    let basic = der(0x30, &[&data, &der(0x30, &[]), &der(3, &[&[0]])]);
    let oid = der(6, &[&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]]);
    let bytes = der(0x30, &[&oid, &der(4, &[&basic])]);
    der(0x30, &[&der(10, &[&[0]]), &der(0xa0, &[&bytes])])
}

#[test]
fn an_ocsp_response_is_stapled_while_it_counts() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let own = authority.special(&["a.test"], &Special { serial: 77, ..Special::default() });
    let with = |staple: &[u8]| {
        let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        let staple = encode(staple);
        let data = format!("data: {{tls.ocsp-staple: {staple}}}\nstringData:");
        tls_secret("a", &own).replace("stringData:", &data)
    };
    let good = ocsp(77, 2090);
    let options = Options::new()
        .file("tls.yaml", files("mode: SIMPLE, credentialName: a", &upstream))
        .file("secret.yaml", with(&good));
    let tls = Tls::start_with(options);
    let client = tls.client(&authority);
    assert_eq!(client.staple("a.test").unwrap(), good);
    // One that has run out says nothing, and one for another certificate is told.
    tls.gateway.replace("secret.yaml", with(&ocsp(77, 2025)));
    await_true("the old response to be left out", || client.staple("a.test").unwrap().is_empty());
    assert_eq!(status(&client), Some(200));
    tls.gateway.replace("secret.yaml", with(&ocsp(78, 2090)));
    tls.gateway.await_log("its OCSP response is for another certificate");
    assert_eq!((client.staple("a.test").unwrap(), status(&client)), (Vec::new(), Some(200)));
    tls.gateway.replace("secret.yaml", with(&good));
    await_true("the good response", || client.staple("a.test").unwrap() == good);
}
