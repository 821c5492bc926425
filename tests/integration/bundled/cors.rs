//! `cors` between real sockets.

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

const CONFIG: &str = "\
allowOrigins: [{exact: 'https://a.test'}]
allowMethods: [PUT]
allowHeaders: ['*']
exposeHeaders: [x-upstream]
allowCredentials: true
maxAge: 1h
unmatchedPreflights: IGNORE
";

#[test]
fn preflights_are_answered_and_responses_marked() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("cors", CONFIG));
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "h", "/").header("origin", origin);
        gateway.send(
            &request.header("access-control-request-method", "PUT").header("access-control-request-headers", "x-a"),
        )
    };
    let answer = preflight("https://a.test");
    assert_eq!((answer.status, answer.body.len(), app.requests()), (200, 0, 0));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.test"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let other = preflight("https://evil.test");
    assert_eq!((other.status, other.header("access-control-allow-origin"), app.requests()), (200, None, 0));
    let get = |origin: &str| gateway.send(&Request::get("h", "/").header("origin", origin));
    let allowed = get("https://a.test");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.test"));
    assert_eq!(
        (allowed.header("access-control-expose-headers"), allowed.header("vary")),
        (Some("x-upstream"), Some("origin"))
    );
    let stranger = get("https://evil.test");
    assert_eq!((stranger.status, stranger.header("access-control-allow-origin")), (200, None));
}
