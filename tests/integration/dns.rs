//! Endpoints that DNS names.

use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::Options;
use crate::support::upstream::Upstream;

#[test]
fn a_destination_that_no_resource_names_is_resolved_by_dns() {
    let app = Upstream::start("app");
    let rule = format!("- route: [{{destination: {{host: localhost, port: {{number: {}}}}}}}]\n", app.address().port());
    let gateway = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(&rule)).start();
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
}

#[test]
fn a_service_entry_with_names_resolves_them() {
    let app = Upstream::start("app");
    let entry = service_entry("app.test", &[("v1", app.address())]);
    let entry = entry.replace("resolution: STATIC", "resolution: DNS").replace("127.0.0.1", "localhost");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start();
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "app");
}

#[test]
fn a_name_that_does_not_exist_is_no_healthy_upstream() {
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: no-such-host.invalid, port: {number: 80}}}]\n"))
        .start();
    let response = gateway.get("h", "/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
}
