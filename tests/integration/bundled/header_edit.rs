//! `header-edit` between real sockets.

use super::{plugin, start};
use crate::support::client::Request;
use crate::support::upstream::Upstream;

const CONFIG: &str = "\
request:
- remove: [x-user]
- match: {paths: [{prefix: /api/}], cookies: {user: {regex: '[a-z]+'}}}
  set: {x-user: '%COOKIE(user)%', x-from: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'}
  rename: {x-old: x-new}
- replace: [{header: ':path', regex: '^/api/v1/', with: /api/v2/}]
response:
- status: [2xx]
  set: {x-answered: '%REQ(:path)% by %UPSTREAM_HOST%'}
- status: [404]
  match: {paths: [{prefix: /none}]}
  set: {x-answered: nobody}
";

#[test]
fn requests_and_responses_are_edited_on_their_way() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("header-edit", CONFIG));
    let request = Request::get("h", "/api/v1/a").header("x-user", "root").header("x-old", "1");
    let response = gateway.send(&request.header("cookie", "user=me"));
    assert_eq!(response.header("x-answered"), Some(format!("/api/v2/a by {}", app.address()).as_str()));
    // The upstream answers with the head that it was sent.
    let seen = response.text().to_lowercase();
    assert!(seen.starts_with("get /api/v2/a http/1.1"), "{seen}");
    for line in ["x-user: me\r\n", "x-from: 127.0.0.1\r\n", "x-new: 1\r\n"] {
        assert!(seen.contains(line), "{line}: {seen}");
    }
    assert!(!seen.contains("x-old"), "{seen}");
    let other = gateway.send(&Request::get("h", "/other").header("X-User", "root")).text().to_lowercase();
    assert!(!other.contains("x-user"), "{other}");
}

#[test]
fn rules_for_responses_see_status_and_the_request_as_it_came() {
    let app = Upstream::start("app");
    let gateway = start(&app, &plugin("header-edit", CONFIG));
    let answered = |target: &str| {
        let response = gateway.send(&Request::get("h", target).order("status 404"));
        response.header("x-answered").map(str::to_owned)
    };
    assert_eq!(answered("/none/here").as_deref(), Some("nobody"));
    assert_eq!(answered("/api/v1/a"), None);
}
