//! `--dev-tls`: HTTPS on one's own machine without any certificate.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::client::Request;
use crate::support::config::service_entry;
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::tls::{Client, gateway, https, virtual_service};
use crate::support::upstream::Upstream;

/// Port 80 serves `shop.test`; what `--state-dir` and ports are is told.
fn start(servers: &[String], upstream: &Upstream, state: &Path) -> (Gateway, Port) {
    let files = [
        gateway(servers),
        virtual_service("shop.test", "shop.backend"),
        format!("---\n{}", service_entry("shop.backend", &[("v1", upstream.address())])),
    ];
    let port = Port::free();
    let options = Options::new().file("dev.yaml", files.concat()).argument("--dev-tls");
    let options = options.argument("--state-dir").argument(state.display().to_string());
    (options.argument("--port-map").argument(format!("443={}", port.number())).start(), port)
}

fn upstream_over(client: &Client, name: &str) -> String {
    let request = Request::get("shop.test", "/");
    let answer = client.http(name).and_then(|mut connection| connection.request(&request)).unwrap();
    assert_eq!((answer.status, answer.seen("x-forwarded-proto").as_deref()), (200, Some("https")));
    answer.upstream().to_owned()
}

#[test]
fn plain_hosts_are_served_over_https_by_an_authority_that_is_kept() {
    let (upstream, folder) = (Upstream::start("shop"), tempfile::tempdir().unwrap());
    let state = folder.path().join("state");
    let (first, port) = start(&[], &upstream, &state);
    let ca = std::fs::read_to_string(state.join("dev-ca.crt")).unwrap();
    assert!(!ca.contains("PRIVATE KEY"));
    let mode = std::fs::metadata(state.join("dev-ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::new(port.address(), &ca);
    for name in ["shop.test", "localhost", "127.0.0.1"] {
        assert_eq!(upstream_over(&client, name), "shop");
    }
    assert_eq!(first.get("shop.test", "/").status, 200, "plain HTTP is served on");
    first.await_log("never for clients from outside");
    let log = first.log();
    assert!(log.contains("curl --cacert ") && log.contains(&format!("https://localhost:{}/", port.number())), "{log}");
    // Whoever trusts it once trusts it after a restart.
    drop(first);
    let (_second, port) = start(&[], &upstream, &state);
    assert_eq!(upstream_over(&Client::new(port.address(), &ca), "shop.test"), "shop");
}

#[test]
fn servers_without_their_secret_get_a_certificate_and_a_host_that_comes_gets_one_too() {
    let (upstream, folder) = (Upstream::start("shop"), tempfile::tempdir().unwrap());
    let server = https(1, "shop.test", "mode: SIMPLE, credentialName: nowhere");
    let (gateway, port) = start(&[server], &upstream, folder.path());
    let ca = std::fs::read_to_string(folder.path().join("dev-ca.crt")).unwrap();
    let client = Client::new(port.address(), &ca);
    assert_eq!(upstream_over(&client, "shop.test"), "shop");
    assert!(client.connect("other.test").is_err());
    assert!(!gateway.log().contains("P0231"), "{}", gateway.log());
    let text = std::fs::read_to_string(gateway.config().join("dev.yaml")).unwrap();
    gateway.replace("dev.yaml", text.replace("hosts: ['shop.test'], tls", "hosts: ['shop.test', 'new.test'], tls"));
    crate::support::await_true("the new name", || client.connect("new.test").is_ok());
}
