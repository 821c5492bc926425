//! Certificates of clients: who must show one, whose count, and what the backend is told of them.

use rcgen::DnType;

use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::Options;
use crate::support::tls::{Authority, Pair, Special, Tls, gateway, https, secret, tls_secret, virtual_service};
use crate::support::upstream::Upstream;

const SPIFFE: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// Host `a.test` with these settings; the CA of clients is in `a-cacert`.
fn start(authority: &Authority, clients: &str, settings: &str, upstream: &Upstream) -> Tls {
    let files = [
        gateway(&[https(1, "a.test", &format!("credentialName: a, {settings}"))]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
        tls_secret("a", &authority.issue(&["a.test"])),
        clients.to_owned(),
    ];
    Tls::start(&files.concat())
}

fn forwarded(tls: &Tls, client: &crate::support::tls::Client) -> Option<String> {
    let request = Request::get("a.test", "/").header("x-forwarded-client-cert", "Hash=made-up");
    let answer = client.http("a.test").unwrap().request(&request).unwrap();
    assert_eq!(answer.status, 200, "{}", tls.gateway.log());
    answer.seen("x-forwarded-client-cert")
}

#[test]
fn mutual_takes_whom_the_ca_has_signed_and_tells_the_backend() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let ca = secret("a-cacert", &[("ca.crt", &clients.pem())]);
    let tls = start(&authority, &ca, "mode: MUTUAL", &upstream);
    let client = tls.client(&authority);
    let subject = [(DnType::OrganizationName, "Shop, Inc"), (DnType::CommonName, "web")];
    let special = Special { uris: &[SPIFFE], subject: &subject, ..Special::default() };
    let known = client.with(&clients.special(&["web.test"], &special));
    let told = forwarded(&tls, &known).expect("a header");
    let parts: Vec<_> = told.split(';').collect();
    assert!(parts[0].starts_with("Hash=") && parts[0].len() == 69, "{told}");
    assert!(parts[1].starts_with("Cert=\"-----BEGIN%20CERTIFICATE-----%0A"), "{told}");
    assert_eq!(parts[2], r#"Subject="CN=web,O=Shop\, Inc""#);
    assert_eq!(parts[3..], [&format!("URI={SPIFFE}"), "DNS=web.test"]);
    let error = client.refusal("a.test");
    assert!(error.contains("CertificateRequired"), "{error}");
    let stranger = client.with(&authority.issue(&["web.test"])).refusal("a.test");
    assert!(stranger.contains("UnknownC"), "{stranger}");
    assert_eq!(upstream.requests(), 1);
    tls.gateway.await_metric("envoy_listener_ssl_fail_verify_no_cert", &[], 1.0);
    tls.gateway.await_metric("envoy_listener_ssl_fail_verify_error", &[], 1.0);
}

#[test]
fn optional_mutual_takes_clients_without_a_certificate_and_refuses_a_bad_one() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let ca = secret("a-cacert", &[("cacert", &clients.pem())]);
    let tls = start(&authority, &ca, "mode: OPTIONAL_MUTUAL", &upstream);
    let client = tls.client(&authority);
    assert_eq!(forwarded(&tls, &client), None, "what the client makes up is dropped");
    assert!(forwarded(&tls, &client.with(&clients.issue(&["web.test"]))).is_some());
    client.with(&authority.issue(&["web.test"])).refusal("a.test");
}

#[test]
fn simple_asks_nobody_and_believes_no_header() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = start(&authority, "", "mode: SIMPLE", &upstream);
    let client = tls.client(&authority);
    assert_eq!(forwarded(&tls, &client.with(&authority.issue(&["web.test"]))), None);
}

#[test]
fn names_and_pins_of_clients_are_checked() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let ca = secret("a-cacert", &[("ca.crt", &clients.pem())]);
    let named = start(&authority, &ca, &format!("mode: MUTUAL, subjectAltNames: ['{SPIFFE}', good.test]"), &upstream);
    let client = named.client(&authority);
    let spiffe = Special { uris: &[SPIFFE], ..Special::default() };
    assert!(forwarded(&named, &client.with(&clients.special(&["x.test"], &spiffe))).is_some());
    assert!(forwarded(&named, &client.with(&clients.issue(&["good.test"]))).is_some());
    client.with(&clients.issue(&["bad.test"])).refusal("a.test");

    let (pinned, other) = (clients.issue(&["a"]), clients.issue(&["b"]));
    let digest = digest(&pinned.certificate);
    let tls = start(&authority, &ca, &format!("mode: MUTUAL, verifyCertificateHash: ['{digest}']"), &upstream);
    let client = tls.client(&authority);
    assert!(forwarded(&tls, &client.with(&pinned)).is_some());
    client.with(&other).refusal("a.test");
    tls.gateway.await_metric("envoy_listener_ssl_fail_verify_san", &[], 1.0);
}

fn digest(certificate: &str) -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use sha2::Digest;
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    sha2::Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

#[test]
fn a_revoked_client_is_refused() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let ca = secret("a-cacert", &[("ca.crt", &clients.pem()), ("ca.crl", &clients.revoke(77))]);
    let tls = start(&authority, &ca, "mode: MUTUAL", &upstream);
    let client = tls.client(&authority);
    let with_serial = |serial| clients.special(&["web.test"], &Special { serial, ..Special::default() });
    assert!(forwarded(&tls, &client.with(&with_serial(78))).is_some());
    let error = client.with(&with_serial(77)).refusal("a.test");
    assert!(error.contains("Revoked"), "{error}");
}

#[test]
fn certificates_of_version_1_are_shown_and_taken() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let ca = secret("a-cacert", &[("ca.crt", &clients.pem())]);
    let tls = start(&authority, &ca, "mode: MUTUAL", &upstream);
    let known = tls.client(&authority).with(&clients.old());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let told = forwarded(&tls, &known.version(version)).expect("a header");
        assert!(told.ends_with(r#";Subject="CN=old";URI="#), "{told}");
        let stranger = known.version(version).with(&authority.old()).refusal("a.test");
        assert!(stranger.contains("UnknownC"), "{stranger}");
        let forged = Pair { key: clients.issue(&["web.test"]).key, ..clients.old() };
        let forged = known.version(version).with(&forged).refusal("a.test");
        assert!(forged.contains("DecryptError"), "{forged}");
    }
    // Lists of revoked certificates say nothing of them.
    let ca = secret("a-cacert", &[("ca.crt", &clients.pem()), ("ca.crl", &clients.revoke(77))]);
    let with_list = start(&authority, &ca, "mode: MUTUAL", &upstream);
    with_list.client(&authority).with(&clients.old()).refusal("a.test");
    // rustls as a client does not take it for a server's: it was shown.
    let files = [
        gateway(&[https(1, "a.test", "mode: SIMPLE, credentialName: a")]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
        tls_secret("a", &authority.old()),
    ];
    let old = Tls::start(&files.concat());
    let error = old.client(&authority).refusal("a.test");
    assert!(error.contains("UnsupportedCertVersion"), "{error}: {}", old.gateway.log());
}

#[test]
fn certificates_of_authorities_and_ones_that_are_trusted_themselves_are_taken() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let (pinned, other) = (clients.issue(&["web.test"]), clients.issue(&["web.test"]));
    for (ca, taken, refused) in [
        (clients.pem(), clients.pair(), Authority::new("clients").pair()),
        (clients.pem(), clients.authority(), Authority::new("clients").authority()),
        (pinned.certificate.clone(), pinned.clone(), other),
    ] {
        let tls = start(&authority, &secret("a-cacert", &[("ca.crt", &ca)]), "mode: MUTUAL", &upstream);
        let client = tls.client(&authority);
        assert!(forwarded(&tls, &client.with(&taken)).is_some());
        let error = client.with(&refused).refusal("a.test");
        assert!(
            error.contains("UnknownC") || error.contains("BadCertificate") || error.contains("DecryptError"),
            "{error}"
        );
    }
}

#[test]
fn mutual_without_a_ca_lets_nobody_in() {
    let (authority, upstream) = (Authority::new("ca"), Upstream::start("a"));
    let tls = start(&authority, "", "mode: MUTUAL", &upstream);
    let client = tls.client(&authority);
    assert!(client.with(&authority.issue(&["web.test"])).connect("a.test").is_err());
    assert!(tls.gateway.log().contains("neither Secret `default/a-cacert` nor `default/a` has a `ca.crt`"));
}

#[test]
fn the_log_names_the_identity_of_a_client() {
    let (authority, clients, upstream) = (Authority::new("ca"), Authority::new("clients"), Upstream::start("a"));
    let format = "%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_SUBJECT% \
                  %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_FINGERPRINT_256%";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let mesh = format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         accessLogFile: {}\n    accessLogFormat: '{format}'\n",
        file.display()
    );
    let text = [
        gateway(&[https(1, "a.test", "credentialName: a, mode: MUTUAL")]),
        virtual_service("a.test", "a.backend"),
        format!("---\n{}", service_entry("a.backend", &[("v1", upstream.address())])),
        tls_secret("a", &authority.issue(&["a.test"])),
        secret("a-cacert", &[("ca.crt", &clients.pem())]),
        mesh,
    ];
    let tls = Tls::start_with(Options::new().without_access_log().file("tls.yaml", text.concat()));
    let subject = [(DnType::CommonName, "web")];
    let special = Special { uris: &[SPIFFE], subject: &subject, ..Special::default() };
    let known = tls.client(&authority).with(&clients.special(&["web.test"], &special));
    assert!(forwarded(&tls, &known.version(&rustls::version::TLS12)).is_some());
    let told = || std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'));
    let line = await_some("a line", told);
    let identity = format!("{SPIFFE} web.test CN=web TLSv1.2 ");
    assert!(line.starts_with(&identity), "{line}");
    assert_eq!(line.trim_end().rsplit(' ').next().map(str::len), Some(64), "{line}");
}
