//! TLS towards backends: what `trafficPolicy.tls` of a DestinationRule asks for, and what a client gets when it fails.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;

use crate::support::client::{Request, Response};
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::secure::{self, Authority, Backend, Pair, self_signed, write};
use crate::support::tcp::{Tcp, read_all, to};

const HOST: &str = "backend.test";

/// A gateway whose one service is this address, with a `tls` block.
fn gateway(address: SocketAddr, tls: &str) -> Gateway {
    options(address, tls).start()
}

fn options(address: SocketAddr, tls: &str) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", address)]))
        .file("policy.yaml", policy("app.test", &format!("tls: {{{tls}}}\n")))
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str) -> String {
        write(self.folder.path(), name, text).display().to_string()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn tls_backend(pair: &Pair) -> Backend {
    secure::Options::tls(pair, None).start()
}

/// The access log's details of the only request.
fn details(gateway: &Gateway) -> String {
    gateway.await_access("remote_connection_failure")
}

fn assert_refused(gateway: &Gateway, host: &str, reason: &str) {
    let response = gateway.get(host, "/");
    assert_eq!(response.status, 503, "{}", response.text());
    let text = "upstream connect error or disconnect/reset before headers. \
                retried and the latest reset reason: remote connection failure";
    assert_eq!(response.text(), text);
    let line = details(gateway);
    assert!(line.contains(&format!("remote_connection_failure|TLS_error:|{reason}")), "{line}");
    assert!(line.contains(" URX,UF "), "{line}");
}

#[test]
fn simple_checks_the_chain_and_the_host_and_tells_the_server_name() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST]));
    let ca = files.write("ca.pem", &authority.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    let response = gateway.get(HOST, "/a");
    assert_eq!((response.status, response.seen("sni").as_deref()), (200, Some(HOST)));
    assert_eq!(response.seen("alpn").as_deref(), Some("http/1.1"));
    assert_eq!(response.seen("version").as_deref(), Some("HTTP/1.1"));
    assert_eq!(response.seen("client-certificates").as_deref(), Some("0"));
    // Another Host is another server name, and has a connection of its own.
    assert_refused(
        &gateway,
        "other.test",
        "268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_verify_SAN_list,\
         _expected_SANs:_[other.test],_certificate_SANs:_[backend.test]:TLS_error_end",
    );
    assert_eq!(gateway.get(HOST, "/b").status, 200);
    let of_app = ["outbound|80||app.test"];
    assert!(gateway.metric("envoy_cluster_ssl_handshake", &of_app) >= 1.0);
    assert!(gateway.metric("envoy_cluster_ssl_fail_verify_san", &of_app) >= 1.0);
}

#[test]
fn the_server_name_of_the_rule_beats_the_host_and_is_not_compared() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&["elsewhere.test"]));
    let ca = files.write("ca.pem", &authority.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, sni: given.test, caCertificates: {ca}"));
    for host in ["a.test", "b.test"] {
        let response = gateway.get(host, "/");
        assert_eq!((response.status, response.seen("sni").as_deref()), (200, Some("given.test")), "{host}");
        assert_eq!(response.seen("host").as_deref(), Some(host));
    }
}

#[test]
fn a_certificate_of_nobody_trusted_is_refused() {
    let (authority, other, files) = (Authority::new("ca"), Authority::new("other"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST]));
    let ca = files.write("ca.pem", &other.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    assert_refused(
        &gateway,
        HOST,
        "268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:\
         _certificate_verification_error_at_depth_0:_unable_to_get_local_issuer_certificate:TLS_error_end",
    );
    assert_eq!(backend.requests(), 0, "nothing was sent");
    assert!(gateway.metric("envoy_cluster_ssl_fail_verify_error", &["outbound|80||app.test"]) >= 1.0);
}

#[test]
fn without_authorities_those_of_the_system_count_unless_the_mesh_does_not_verify() {
    let pair = self_signed(&[HOST]);
    let backend = tls_backend(&pair);
    let checked = gateway(backend.address(), "mode: SIMPLE");
    assert_eq!(checked.get(HOST, "/").status, 503);
    let mesh = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    \
                verifyCertificateAtClient: false\n";
    let unchecked = options(backend.address(), "mode: SIMPLE").file("mesh.yaml", mesh).start();
    assert_eq!(unchecked.get(HOST, "/").status, 200);
}

#[test]
fn insecure_skip_verify_takes_any_certificate() {
    let backend = tls_backend(&Authority::new("ca").issue_expired(&["elsewhere.test"]));
    let gateway = gateway(backend.address(), "mode: SIMPLE, insecureSkipVerify: true");
    assert_eq!(gateway.get(HOST, "/").status, 200);
}

#[test]
fn a_certificate_whose_time_is_over_is_refused() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue_expired(&[HOST]));
    let ca = files.write("ca.pem", &authority.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    assert_refused(
        &gateway,
        HOST,
        "268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:\
         _certificate_verification_error_at_depth_0:_certificate_has_expired:TLS_error_end",
    );
}

#[test]
fn a_certificate_that_is_trusted_itself_is_taken() {
    let (pair, files) = (self_signed(&[HOST]), Files::new());
    let backend = tls_backend(&pair);
    let ca = files.write("ca.pem", &pair.certificate);
    let signed_by_itself = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    assert_eq!(signed_by_itself.get(HOST, "/").status, 200);
    let authority = Authority::new("ca");
    let (pair, other) = (authority.issue(&[HOST]), authority.issue(&[HOST]));
    let ca = files.write("pinned.pem", &pair.certificate);
    for (shown, status) in [(&pair, 200), (&other, 503)] {
        let backend = tls_backend(shown);
        let pinned = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
        assert_eq!(pinned.get(HOST, "/").status, status);
    }
}

#[test]
fn a_certificate_of_an_authority_is_taken_where_a_trusted_one_has_signed_it() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let ca = files.write("ca.pem", &authority.pem);
    for (pair, status) in [
        (authority.issue_authority(&[HOST]), 200),
        (authority.issue_authority(&["other.test"]), 503),
        (Authority::new("ca").issue_authority(&[HOST]), 503),
    ] {
        let backend = tls_backend(&pair);
        let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
        assert_eq!(gateway.get(HOST, "/").status, status);
    }
}

#[test]
fn subject_alt_names_are_dns_names_uris_or_addresses_and_one_is_enough() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&["*.svc.test", "spiffe://td/ns/a/sa/b", "127.0.0.9"]));
    let ca = files.write("ca.pem", &authority.pem);
    for (names, status) in [
        ("spiffe://td/ns/a/sa/b", 200),
        ("nobody.test, api.svc.test", 200),
        ("127.0.0.9", 200),
        ("spiffe://td/ns/a/sa", 503),
        ("a.b.svc.test", 503),
        ("127.0.0.8", 503),
    ] {
        let block = format!("mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [{names}]");
        let gateway = gateway(backend.address(), &block);
        let response = gateway.get("any.test", "/");
        assert_eq!(response.status, status, "{names}");
        if status == 503 {
            let line = details(&gateway);
            let told =
                "verify_cert_failed:_SAN_matcher,_certificate_SANs_are_[*.svc.test,_spiffe://td/ns/a/sa/b,_127.0.0.9]";
            assert!(line.contains(told), "{line}");
        }
    }
}

#[test]
fn a_revoked_certificate_is_refused_and_another_of_the_authority_is_not() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let (bad, good) = (authority.issue_numbered(&[HOST], 77), authority.issue_numbered(&[HOST], 78));
    let ca = files.write("ca.pem", &authority.pem);
    let crl = files.write("crl.pem", &authority.revoke(&[77]));
    let block = format!("mode: SIMPLE, caCertificates: {ca}, caCrl: {crl}");
    let (bad, good) = (tls_backend(&bad), tls_backend(&good));
    assert_refused(
        &gateway(bad.address(), &block),
        HOST,
        "268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_X509_verify_cert:\
         _certificate_verification_error_at_depth_0:_certificate_revoked:TLS_error_end",
    );
    assert_eq!(gateway(good.address(), &block).get(HOST, "/").status, 200);
}

#[test]
fn mutual_shows_the_gateways_own_certificate() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let backend = secure::Options::tls(&authority.issue(&[HOST]), Some(&clients.pem)).start();
    let own = clients.issue(&["gateway.test"]);
    let (ca, certificate) = (files.write("ca.pem", &authority.pem), files.write("own.pem", &own.certificate));
    let key = files.write("own.key", &own.key);
    let block = format!("mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}");
    let response = gateway(backend.address(), &block).get(HOST, "/");
    assert_eq!((response.status, response.seen("client-certificates").as_deref()), (200, Some("1")));
    // Without one the backend refuses, with TLS 1.3 only after the handshake.
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    let response = gateway.get(HOST, "/");
    assert_eq!(response.status, 503, "{}", response.text());
    let line = details(&gateway);
    assert!(line.contains("TLSV1_CERTIFICATE_REQUIRED"), "{line}");
}

#[test]
fn uris_of_both_certificates_are_the_principals_of_istio_s_metrics() {
    let (authority, clients, files) = (Authority::new("ca"), Authority::new("clients"), Files::new());
    let names = [HOST, "spiffe://mesh/ns/shop/sa/cart", "spiffe://mesh/ns/other/sa/other"];
    let backend = secure::Options::tls(&authority.issue(&names), Some(&clients.pem)).start();
    let own = clients.issue(&["spiffe://mesh/ns/istio-system/sa/edge"]);
    let (ca, certificate) = (files.write("ca.pem", &authority.pem), files.write("own.pem", &own.certificate));
    let key = files.write("own.key", &own.key);
    let block = format!("mode: MUTUAL, caCertificates: {ca}, clientCertificate: {certificate}, privateKey: {key}");
    let gateway = gateway(backend.address(), &block);
    for _ in 0..2 {
        assert_eq!(gateway.get(HOST, "/").status, 200);
    }
    let labels = [
        r#"destination_principal="spiffe://mesh/ns/shop/sa/cart""#,
        r#"destination_workload_namespace="shop""#,
        r#"source_principal="spiffe://mesh/ns/istio-system/sa/edge""#,
    ];
    gateway.await_metric("istio_requests_total", &labels, 2.0);
}

fn secret(name: &str, entries: &[(&str, &str)]) -> String {
    let mut text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData:\n");
    for (entry, value) in entries {
        text.push_str(&format!("  {entry}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

#[test]
fn credentials_come_from_a_secret_which_may_keep_its_authorities_apart() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let backend = secure::Options::tls(&authority.issue(&[HOST]), Some(&clients.pem)).start();
    let own = clients.issue(&["gateway.test"]);
    let whole = secret("creds", &[("tls.crt", &own.certificate), ("tls.key", &own.key), ("ca.crt", &authority.pem)]);
    let gateway = options(backend.address(), "mode: MUTUAL, credentialName: creds").file("secret.yaml", whole).start();
    assert_eq!(gateway.get(HOST, "/").seen("client-certificates").as_deref(), Some("1"));
    let apart = secret("creds", &[("cert", &own.certificate), ("key", &own.key)]);
    let authorities = secret("creds-cacert", &[("cacert", &authority.pem)]);
    let gateway = options(backend.address(), "mode: MUTUAL, credentialName: creds")
        .file("secret.yaml", format!("{apart}---\n{authorities}"))
        .start();
    assert_eq!(gateway.get(HOST, "/").seen("client-certificates").as_deref(), Some("1"));
}

#[test]
fn a_secret_that_is_missing_stops_its_own_cluster_and_is_taken_when_it_comes() {
    let authority = Authority::new("ca");
    let backend = tls_backend(&authority.issue(&[HOST]));
    let gateway = gateway(backend.address(), "mode: SIMPLE, credentialName: late");
    let response = gateway.get(HOST, "/");
    assert_eq!(response.status, 503);
    assert!(details(&gateway).contains("|TLS_error:_Secret_is_not_supplied_by_SDS}"));
    assert_eq!(backend.handshakes(), 0, "nothing goes out in the clear");
    gateway.await_log("there is no Secret `default/late`");
    gateway.write("secret.yaml", &secret("late", &[("ca.crt", &authority.pem)]));
    gateway.await_answer(HOST, "/", |response| response.status == 200);
    // What was good serves on when it goes bad.
    gateway.write("secret.yaml", &secret("late", &[("ca.crt", "no certificate")]));
    gateway.await_log("holds no certificate in PEM");
    assert_eq!(gateway.get(HOST, "/").status, 200);
}

#[test]
fn files_that_change_are_taken_for_new_connections() {
    let (old, new, files) = (Authority::new("old"), Authority::new("new"), Files::new());
    let backend = tls_backend(&new.issue(&[HOST]));
    let ca = files.write("ca.pem", &old.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    assert_eq!(gateway.get(HOST, "/").status, 503);
    write(files.path(), "ca.pem", &new.pem);
    gateway.await_answer(HOST, "/", |response| response.status == 200);
    write(files.path(), "ca.pem", &old.pem);
    gateway.await_answer(HOST, "/", |response| response.status == 503);
}

#[test]
fn a_backend_without_tls_is_told_from_one_that_refuses() {
    let (files, authority) = (Files::new(), Authority::new("ca"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            // Until the gateway has gone: an end with bytes unread would take back what was written.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let ca = files.write("ca.pem", &authority.pem);
    let gateway = gateway(address, &format!("mode: SIMPLE, caCertificates: {ca}"));
    assert_eq!(gateway.get(HOST, "/").status, 503);
    assert!(details(&gateway).contains("WRONG_VERSION_NUMBER"));
}

#[test]
fn a_handshake_that_never_ends_is_one_of_connect_timeout() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let block = "mode: SIMPLE, insecureSkipVerify: true";
    let rule = policy("app.test", &format!("tls: {{{block}}}\nconnectionPool: {{tcp: {{connectTimeout: 200ms}}}}\n"));
    let gateway = options(silent.local_addr().unwrap(), block).file("policy.yaml", rule).start();
    let response = gateway.get(HOST, "/");
    assert_eq!(response.status, 503);
    assert!(response.text().ends_with("reset reason: connection timeout"), "{}", response.text());
}

#[test]
fn connections_and_sessions_are_used_again() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST]));
    let ca = files.write("ca.pem", &authority.pem);
    let rule = format!("mode: SIMPLE, caCertificates: {ca}");
    let gateway = options(backend.address(), &rule)
        .file(
            "policy.yaml",
            policy(
                "app.test",
                &format!("tls: {{{rule}}}\nconnectionPool: {{http: {{maxRequestsPerConnection: 1}}}}\n"),
            ),
        )
        .start();
    for _ in 0..10 {
        assert_eq!(gateway.get(HOST, "/").status, 200);
    }
    assert!(gateway.metric("envoy_cluster_ssl_session_reused", &["outbound|80||app.test"]) >= 1.0);
}

fn ask(gateway: &Gateway, request: &Request) -> Response {
    gateway.send(request)
}

#[test]
fn subsets_and_ports_have_tls_of_their_own() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST]));
    let plain = crate::support::upstream::Upstream::start("plain");
    let ca = files.write("ca.pem", &authority.pem);
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: app}}\nspec:\n  host: app.test\n  \
         trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {ca}}}}}\n  subsets:\n  - name: tls\n    labels: {{version: \
         tls}}\n  - name: plain\n    labels: {{version: plain}}\n    trafficPolicy: {{tls: {{mode: DISABLE}}}}\n"
    );
    let rules = "- match: [{uri: {prefix: /plain}}]\n  route: [{destination: {host: app.test, subset: plain}}]\n\
                 - route: [{destination: {host: app.test, subset: tls}}]\n";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("tls", backend.address()), ("plain", plain.address())]))
        .file("policy.yaml", rule)
        .start();
    assert_eq!(ask(&gateway, &Request::get(HOST, "/tls")).seen("sni").as_deref(), Some(HOST));
    assert_eq!(ask(&gateway, &Request::get(HOST, "/plain")).upstream(), "plain");
}

#[test]
fn a_websocket_goes_through_tls() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST]));
    let ca = files.write("ca.pem", &authority.pem);
    let gateway = gateway(backend.address(), &format!("mode: SIMPLE, caCertificates: {ca}"));
    let mut connection = gateway.connect();
    let head = format!("GET /ws HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 101);
    for word in ["one", "two"] {
        connection.send(word.as_bytes()).unwrap();
        assert_eq!(connection.exactly(3).unwrap(), word.as_bytes());
    }
}

#[test]
fn connections_of_tcp_listeners_go_out_under_tls() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = secure::Options::tls(&authority.issue(&["db.test"]), None).echo().start();
    let ca = files.write("ca.pem", &authority.pem);
    for (names, is_good) in [("db.test", true), ("other.test", false)] {
        let rule =
            policy("app.test", &format!("tls: {{mode: SIMPLE, caCertificates: {ca}, subjectAltNames: [{names}]}}\n"));
        let tcp = Tcp::start(&format!("{}---\n{rule}", to(backend.address())));
        let mut client = tcp.connect();
        if is_good {
            client.write_all(b"hello").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(read_all(&client), "hello");
        } else {
            assert_eq!(read_all(&client), "");
            let line = tcp.gateway.await_access("outbound|9000||app.test");
            assert!(line.contains("SAN_matcher"), "{line}");
        }
    }
}

#[test]
fn a_place_that_an_idle_connection_for_another_host_holds_is_given_up() {
    let (authority, files) = (Authority::new("ca"), Files::new());
    let backend = tls_backend(&authority.issue(&[HOST, "second.test"]));
    let ca = files.write("ca.pem", &authority.pem);
    let block = format!("mode: SIMPLE, caCertificates: {ca}");
    let rule = policy("app.test", &format!("tls: {{{block}}}\nconnectionPool: {{tcp: {{maxConnections: 1}}}}\n"));
    let gateway = options(backend.address(), &block).file("policy.yaml", rule).start();
    for host in [HOST, "second.test", HOST, "second.test"] {
        let response = gateway.get(host, "/");
        assert_eq!((response.status, response.seen("sni").as_deref()), (200, Some(host)));
    }
}
