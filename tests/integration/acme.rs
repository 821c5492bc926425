//! Certificates by ACME, from an authority that looks at the gateway as it serves.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::acme::{AcmeServer, Hosts};
use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::tls::{Client, gateway, https, virtual_service};
use crate::support::upstream::Upstream;

/// HTTPS for `a.test` and `b.test`, whose certificate nobody has.
fn files(upstream: &Upstream) -> String {
    let server = https(1, "a.test', 'b.test", "mode: SIMPLE, credentialName: signed");
    let annotated = "metadata: {name: tls, annotations: {portolan.dev/acme: 'mailto:ops@a.test'}}";
    let files = [
        gateway(&[server]).replace("metadata: {name: tls}", annotated),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
    ];
    files.concat()
}

/// A gateway, and where it serves HTTPS; the authority is told where its hosts are.
fn start(files: String, server: &AcmeServer, state: &Path) -> (Gateway, Port) {
    let port = Port::free();
    let options = Options::new().file("tls.yaml", files).argument("--acme-directory").argument(server.directory());
    let options = options.argument("--state-dir").argument(state.display().to_string());
    let gateway = options.argument("--port-map").argument(format!("443={}", port.number())).spawn();
    server.look_at(Hosts { http: gateway.address(), tls: port.address() });
    gateway.await_ready();
    (gateway, port)
}

fn shown(client: &Client, name: &str) -> Option<Vec<u8>> {
    let stream = client.connect(name).ok()?;
    Some(stream.conn.peer_certificates()?.first()?.to_vec())
}

#[test]
fn a_missing_certificate_is_signed_by_http_01_kept_and_not_asked_for_again() {
    let (server, upstream, folder) = (AcmeServer::start(), Upstream::start("a"), tempfile::tempdir().unwrap());
    let (first, port) = start(files(&upstream), &server, folder.path());
    let client = Client::new(port.address(), &server.ca());
    await_true("the certificate", || shown(&client, "a.test").is_some() && shown(&client, "b.test").is_some());
    let mut connection = client.http("a.test").unwrap();
    assert_eq!(connection.request(&Request::get("a.test", "/")).unwrap().upstream(), "a");
    assert_eq!((server.faults(), server.accounts(), server.signed()), (Vec::new(), 1, 1));
    assert_eq!(server.contacts()[0][0], "mailto:ops@a.test");
    assert!(!first.log().contains("P0231"), "{}", first.log());
    // Nobody but the authority has asked, and unknown tokens are the routes' business.
    assert_eq!(first.get("a.test", "/.well-known/acme-challenge/token-0-0").upstream(), "a");
    for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let before = shown(&client, "a.test");
    drop(first);
    let (_second, port) = start(files(&upstream), &server, folder.path());
    assert_eq!(shown(&Client::new(port.address(), &server.ca()), "a.test"), before);
    assert_eq!((server.accounts(), server.orders()), (1, 1));
}

#[test]
fn without_port_80_the_certificate_is_signed_by_tls_alpn_01() {
    let (server, upstream, folder) = (AcmeServer::start(), Upstream::start("a"), tempfile::tempdir().unwrap());
    let plain = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n";
    let (_gateway, port) = start(files(&upstream).replace(plain, ""), &server, folder.path());
    let client = Client::new(port.address(), &server.ca());
    await_true("the certificate", || shown(&client, "a.test").is_some());
    assert_eq!(server.faults(), [] as [String; 0]);
    // The challenge is over: its protocol is like any other that nobody knows.
    let stream = client.alpn("acme-tls/1").connect("a.test").unwrap();
    assert_eq!(stream.conn.alpn_protocol(), None);
}

#[test]
fn a_certificate_that_has_lived_is_renewed_and_serves_meanwhile() {
    let (server, upstream, folder) = (AcmeServer::start(), Upstream::start("a"), tempfile::tempdir().unwrap());
    server.sign_for(1990, 2027);
    let (first, port) = start(files(&upstream), &server, folder.path());
    let client = Client::new(port.address(), &server.ca());
    await_true("the first certificate", || shown(&client, "a.test").is_some());
    let old = shown(&client, "a.test");
    drop(first);
    server.sign_for(2024, 2090);
    let (_second, port) = start(files(&upstream), &server, folder.path());
    let client = Client::new(port.address(), &server.ca());
    await_true("the next certificate", || {
        let now = shown(&client, "a.test");
        assert!(now.is_some(), "the old one serves until the new one is there");
        now != old
    });
    assert_eq!((server.accounts(), server.signed()), (1, 2));
}

#[test]
fn what_the_authority_refuses_is_told_and_the_rest_is_served() {
    let (server, upstream, folder) = (AcmeServer::start(), Upstream::start("a"), tempfile::tempdir().unwrap());
    let port = Port::free();
    let options = Options::new().file("tls.yaml", files(&upstream)).argument("--acme-directory");
    let options =
        options.argument(server.directory()).argument("--state-dir").argument(folder.path().display().to_string());
    let gateway = options.argument("--port-map").argument(format!("443={}", port.number())).spawn();
    // The authority looks at a place where nobody answers.
    let nowhere = Port::free();
    server.look_at(Hosts { http: nowhere.address(), tls: nowhere.address() });
    gateway.await_log("the authority refuses `a.test`");
    gateway.await_log("tried again in");
    let dump = || gateway.admin("/config_dump").text();
    await_true("the refusal in the dump", || dump().contains("no certificate by ACME: the authority refuses `a.test`"));
    assert_eq!(gateway.get("a.test", "/").upstream(), "a");
    assert!(shown(&Client::new(port.address(), &server.ca()), "a.test").is_none());
}

#[test]
fn a_wildcard_is_left_out_of_the_certificate_and_told() {
    let (server, upstream, folder) = (AcmeServer::start(), Upstream::start("a"), tempfile::tempdir().unwrap());
    let text = files(&upstream).replace("'b.test'", "'*.b.test'");
    let (gateway, port) = start(text, &server, folder.path());
    let client = Client::new(port.address(), &server.ca());
    await_true("the certificate", || shown(&client, "a.test").is_some());
    assert!(shown(&client, "x.b.test").is_none(), "it does not name it");
    let log = gateway.log();
    assert!(log.contains("P0236") && log.contains("`*.b.test` is left out of the certificate"), "{log}");
}
