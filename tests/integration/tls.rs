//! Servers of HTTPS: which server a client gets by the name that it asks for, what it is shown, and what is refused.

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::Options;
use crate::support::tls::{Authority, Special, Tls, gateway, https, secret, tls_secret, two_hosts, virtual_service};
use crate::support::upstream::Upstream;

const SIMPLE: &str = "mode: SIMPLE, credentialName: ";

#[test]
fn the_server_name_decides_the_certificate_and_the_routes() {
    let (authority, a, b) = (Authority::new("ca"), Upstream::start("a"), Upstream::start("b"));
    let tls = Tls::start(&two_hosts(&authority, &a, &b));
    let client = tls.client(&authority);
    let mut to_a = client.http("a.test").unwrap();
    let answer = to_a.request(&Request::get("a.test", "/")).unwrap();
    assert_eq!((answer.status, answer.upstream()), (200, "a"));
    assert_eq!(answer.seen("x-forwarded-proto").as_deref(), Some("https"));
    let answer = client.http("x.b.test").unwrap().request(&Request::get("x.b.test", "/")).unwrap();
    assert_eq!(answer.upstream(), "b");
    // Each server has its own hosts: another one's is unknown on this connection.
    let answer = to_a.request(&Request::get("x.b.test", "/")).unwrap();
    assert_eq!((answer.status, answer.text()), (404, String::new()));
    // The same connection serves on.
    assert_eq!(to_a.request(&Request::get("a.test", "/")).unwrap().status, 200);
    let line = tls.gateway.await_access("a.test");
    assert!(line.contains(" a.test "), "the server name is in the line: {line}");
    assert!(tls.gateway.metric("envoy_listener_ssl_handshake", &[]) >= 2.0);
}

#[test]
fn an_unknown_name_or_none_gets_an_alert_and_no_certificate() {
    let (authority, a, b) = (Authority::new("ca"), Upstream::start("a"), Upstream::start("b"));
    let tls = Tls::start(&two_hosts(&authority, &a, &b));
    let client = tls.client(&authority);
    for refused in [client.connect("c.test").err(), client.connect_without_name("a.test").err()] {
        let error = refused.expect("a refusal").to_string();
        assert!(error.contains("UnrecognisedName") || error.contains("UnrecognizedName"), "{error}");
    }
    // A wildcard does not cover its bare suffix.
    assert!(client.connect("b.test").is_err());
    assert_eq!(tls.gateway.metric("envoy_listener_no_filter_chain_match", &[]), 3.0);
    assert_eq!(a.requests() + b.requests(), 0);
}

#[test]
fn the_star_takes_clients_without_a_name() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let files = [
        gateway(&[https(1, "*", &format!("{SIMPLE}any"))]),
        virtual_service("*", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        tls_secret("any", &authority.issue(&["a.test"])),
    ];
    let tls = Tls::start(&files.concat());
    let stream = tls.client(&authority).connect_without_name("a.test").unwrap();
    let mut connection = crate::support::client::Connection::over(stream);
    assert_eq!(connection.request(&Request::get("whatever.test", "/")).unwrap().upstream(), "a");
}

#[test]
fn versions_below_1_2_are_refused_and_the_limits_of_a_server_hold() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let servers = [
        https(1, "new.test", &format!("{SIMPLE}c, minProtocolVersion: TLSV1_3")),
        https(
            2,
            "old.test",
            &format!(
                "{SIMPLE}c, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256, AES128-SHA]"
            ),
        ),
        https(3, "ancient.test", &format!("{SIMPLE}c, minProtocolVersion: TLSV1_0")),
        https(4, "none.test", &format!("{SIMPLE}c, maxProtocolVersion: TLSV1_1")),
    ];
    let files = [
        gateway(&servers),
        virtual_service("*", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        tls_secret("c", &authority.issue(&["new.test", "old.test", "ancient.test", "none.test"])),
    ];
    let tls = Tls::start(&files.concat());
    let client = tls.client(&authority);
    let (v12, v13) = (client.version(&rustls::version::TLS12), client.version(&rustls::version::TLS13));
    assert!(v12.connect("new.test").is_err() && v13.connect("new.test").is_ok());
    assert!(v12.connect("ancient.test").is_ok() && v13.connect("ancient.test").is_ok());
    assert!(v12.connect("none.test").is_err() && v13.connect("none.test").is_err());
    assert!(v13.connect("old.test").is_err());
    let stream = v12.connect("old.test").unwrap();
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    let log = tls.gateway.log();
    for told in ["`AES128-SHA` is not offered", "TLSV1_0 is not served", "no version that is served is left"] {
        assert!(log.contains(told), "{told}\n{log}");
    }
}

#[test]
fn what_the_mesh_says_of_tls_counts_where_a_server_says_nothing() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let servers = [
        https(1, "mesh.test", &format!("{SIMPLE}c")),
        https(2, "own.test", &format!("{SIMPLE}c, minProtocolVersion: TLSV1_2")),
    ];
    let mesh = "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {name: mesh}\nspec: {meshConfig: \
                {tlsDefaults: {minProtocolVersion: TLSV1_3, cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256], \
                ecdhCurves: [P-521, P-384]}}}\n";
    let files = [
        gateway(&servers),
        virtual_service("*", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        tls_secret("c", &authority.issue(&["mesh.test", "own.test"])),
        mesh.to_owned(),
    ];
    let tls = Tls::start(&files.concat());
    let client = tls.client(&authority);
    let (v12, v13) = (client.version(&rustls::version::TLS12), client.version(&rustls::version::TLS13));
    assert!(v12.connect("mesh.test").is_err());
    let curve = |stream: &crate::support::tls::Stream| stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(curve(&v13.connect("mesh.test").unwrap()), rustls::NamedGroup::secp384r1);
    let stream = v12.connect("own.test").unwrap();
    assert_eq!(curve(&stream), rustls::NamedGroup::secp384r1);
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    assert!(tls.gateway.log().contains("`P-521` is not offered"), "{}", tls.gateway.log());
}

#[test]
fn a_client_is_shown_the_certificate_that_it_can_verify() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let rsa = Special { rsa: true, ..Special::default() };
    let files = [
        gateway(&[https(1, "a.test", "mode: SIMPLE, credentialNames: [of-rsa, of-ecdsa]")]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        tls_secret("of-rsa", &authority.special(&["a.test"], &rsa)),
        tls_secret("of-ecdsa", &authority.issue(&["a.test"])),
    ];
    let tls = Tls::start(&files.concat());
    let client = tls.client(&authority);
    let suite = |client: &crate::support::tls::Client| {
        let stream = client.connect("a.test").unwrap();
        format!("{:?}", stream.conn.negotiated_cipher_suite().unwrap().suite())
    };
    assert!(suite(&client.version(&rustls::version::TLS12)).contains("ECDSA"));
    assert!(suite(&client.rsa_only()).contains("ECDHE_RSA"));
}

#[test]
fn a_server_without_a_good_credential_is_down_alone() {
    let (authority, a, b) = (Authority::new("ca"), Upstream::start("a"), Upstream::start("b"));
    let good = two_hosts(&authority, &a, &b);
    let wrong = authority.issue(&["other.test"]);
    let mismatch = secret("bad", &[("tls.crt", &authority.issue(&["bad.test"]).certificate), ("tls.key", &wrong.key)]);
    let more = [
        https(3, "missing.test", &format!("{SIMPLE}nowhere")),
        https(4, "bad.test", &format!("{SIMPLE}bad")),
        https(5, "a.test", &format!("{SIMPLE}a")),
    ];
    let servers = more.iter().map(|server| format!("  - {server}\n")).collect::<String>();
    let files = good.replacen("---\n", &format!("{servers}---\n"), 1) + &mismatch;
    let tls = Tls::start(&files);
    let client = tls.client(&authority);
    assert!(client.connect("missing.test").is_err() && client.connect("bad.test").is_err());
    assert_eq!(client.http("a.test").unwrap().request(&Request::get("a.test", "/")).unwrap().status, 200);
    let log = tls.gateway.log();
    for told in [
        "P0231",
        "there is no Secret `default/nowhere`",
        "its key does not belong to its certificate",
        "another TLS server of",
    ] {
        assert!(log.contains(told), "{told}\n{log}");
    }
    assert!(!log.contains("PRIVATE KEY"));
    // Nor does the dump of the configuration show any.
    assert!(!tls.gateway.admin("/config_dump").text().contains("PRIVATE KEY"));
}

#[test]
fn files_of_the_configuration_folder_are_certificates_too() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let files = [
        gateway(&[https(1, "a.test", "mode: SIMPLE, serverCertificate: certs/a.crt, privateKey: certs/a.key")]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
    ];
    let tls = Tls::start(&files.concat());
    let client = tls.client(&authority);
    assert!(client.connect("a.test").is_err(), "there are no files yet");
    assert!(tls.gateway.log().contains("cannot read `certs/a.crt`"));
    let pair = authority.issue(&["a.test"]);
    std::fs::create_dir(tls.gateway.config().join("certs")).unwrap();
    tls.gateway.write("certs/a.key", &pair.key);
    tls.gateway.write("certs/a.crt", &pair.certificate);
    await_true("the files to be taken", || client.connect("a.test").is_ok());
    let answer = client.http("a.test").unwrap().request(&Request::get("a.test", "/")).unwrap();
    assert_eq!(answer.status, 200);
}

#[test]
fn a_certificate_that_ends_soon_is_told_and_shown() {
    let (authority, a) = (Authority::new("ca"), Upstream::start("a"));
    let ended = Special { ends: Some((2020, 1, 1)), ..Special::default() };
    let files = [
        gateway(&[https(1, "a.test", &format!("{SIMPLE}old"))]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", a.address())])),
        tls_secret("old", &authority.special(&["a.test"], &ended)),
    ];
    let tls = Tls::start_with(Options::new().file("tls.yaml", files.concat()));
    tls.gateway.await_log("P0235");
    assert!(tls.gateway.log().contains("its certificate has ended"));
    let end = tls.gateway.metric("portolan_certificate_expiration_unix_time_seconds", &["default/old"]);
    assert_eq!(end, 1_577_836_800.0);
}

#[test]
fn explain_takes_the_routes_of_the_server_name() {
    let (authority, a, b) = (Authority::new("ca"), Upstream::start("a"), Upstream::start("b"));
    let tls = Tls::start(&two_hosts(&authority, &a, &b));
    let explain = |url: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        let command = command.args(["explain", "--config"]).arg(tls.gateway.config()).args(["--url", url]).args(more);
        let output = command.output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let of_b = explain("https://x.b.test/cart", &[]);
    assert!(of_b.contains("b.backend") && !of_b.contains("a.backend"), "{of_b}");
    let unknown = explain("https://c.test/", &[]);
    assert!(unknown.contains("has `c.test`: the handshake fails"), "{unknown}");
    // As with curl: the URL's name is the server's, whatever Host says.
    let other = explain("https://a.test/cart", &["-H", "host: x.b.test"]);
    assert!(other.contains("404 with an empty body; no host fits"), "{other}");
}
