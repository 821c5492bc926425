//! `maintenance` between real sockets.

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

#[test]
fn clients_get_the_page_they_accept_and_those_who_may_get_the_service() {
    let app = Upstream::start("app");
    let config = "retryAfter: 5m\nallow: {requests: [{paths: [{exact: /healthz}]}]}";
    let gateway = start(&app, &plugin("maintenance", config));
    let program = gateway.send(&Request::get("h", "/").header("accept", "application/json"));
    assert_eq!((program.status, program.header("retry-after")), (503, Some("300")));
    assert_eq!(program.header("content-type"), Some("application/json"));
    let person = gateway.send(&Request::get("h", "/").header("accept", "text/html,*/*;q=0.8"));
    assert!(person.text().contains("<h1>Down for maintenance</h1>"), "{}", person.text());
    assert_eq!(app.requests(), 0);
    assert_eq!(gateway.get("h", "/healthz").status, 200);
}

#[test]
fn the_switch_holds_for_all_workers() {
    let app = Upstream::start("app");
    let config = "switch: {path: /-/maintenance, token: 0123456789abcdef}";
    let gateway = start(&app, &plugin("maintenance", config));
    let turn = |method: &str, token: &str| {
        let request = Request::new(method, "h", "/-/maintenance").header("authorization", format!("Bearer {token}"));
        gateway.send(&request).status
    };
    // Each connection may meet another worker.
    let statuses = || -> Vec<u16> { (0..16).map(|_| gateway.get("h", "/").status).collect() };
    assert_eq!(statuses(), [200; 16]);
    assert_eq!(turn("PUT", "wrong"), 403);
    assert_eq!(turn("PUT", "0123456789abcdef"), 200);
    assert_eq!(statuses(), [503; 16]);
    assert_eq!(turn("DELETE", "0123456789abcdef"), 200);
    assert_eq!(statuses(), [200; 16]);
}
