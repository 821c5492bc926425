//! `ip-allow` between real sockets.

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

#[test]
fn the_connection_s_address_decides() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("ip-allow", "allow: [10.0.0.0/8]\nbody: stay out"));
    let response = gateway.send(&Request::get("h", "/").header("x-forwarded-for", "10.0.0.1"));
    assert_eq!((response.status, response.text().as_str()), (403, "stay out"));
    assert_eq!(app.requests(), 0);
    gateway.await_access("ip_denied");
    assert_eq!(gateway.metric("ip_allow_denied", &[]), 1.0);
    gateway.replace("plugin.yaml", plugin("ip-allow", "allow: [10.0.0.0/8, 127.0.0.1]"));
    gateway.await_answer("h", "/", |response| response.status == 200);
}

#[test]
fn behind_a_trusted_proxy_the_client_s_address_decides() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("ip-allow", "allow: [198.51.100.0/24]\ntrustedHops: 1"));
    let status = |forwarded: &str| gateway.send(&Request::get("h", "/").header("x-forwarded-for", forwarded)).status;
    assert_eq!(status("198.51.100.7"), 200);
    assert_eq!(status("198.51.100.7, 192.0.2.1"), 403, "what the client itself wrote");
    assert_eq!(gateway.get("h", "/").status, 403, "nobody in front");
}
