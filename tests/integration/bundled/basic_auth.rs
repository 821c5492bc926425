//! `basic-auth` between real sockets.

use super::plugin;
use crate::support::client::Request;
use crate::support::gateway::Gateway;
use crate::support::upstream::Upstream;

/// The password of both is `secret`: bcrypt of cost 5, and `$apr1$`.
const CONFIG: &str = "\
realm: shop
forwardUsernameHeader: x-user
exempt: [{exact: /health}]
users: |
  # the team
  alice:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
  bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/
";

/// `NAME:secret` and `alice:wrong` in Base64.
const ALICE: &str = "Basic YWxpY2U6c2VjcmV0";
const BOB: &str = "Basic Ym9iOnNlY3JldA==";
const WRONG: &str = "Basic YWxpY2U6d3Jvbmc=";

fn start(app: &Upstream) -> Gateway {
    super::start(app, &plugin("basic-auth", CONFIG))
}

#[test]
fn a_password_opens_and_the_upstream_hears_the_name_only() {
    let app = Upstream::start("app");
    let gateway = start(&app);
    for (authorization, name) in [(ALICE, "alice"), (BOB, "bob"), (ALICE, "alice")] {
        let request = Request::get("h", "/").header("authorization", authorization).header("x-user", "root");
        let response = gateway.send(&request);
        assert_eq!((response.status, response.seen("x-user").as_deref()), (200, Some(name)));
        assert_eq!(response.seen("authorization"), None);
    }
    assert_eq!(gateway.metric("basic_auth_requests", &["allowed"]), 3.0);
}

#[test]
fn without_it_nothing_reaches_the_upstream() {
    let app = Upstream::start("app");
    let gateway = start(&app);
    let wrong = gateway.send(&Request::get("h", "/").header("authorization", WRONG));
    for response in [gateway.get("h", "/"), wrong] {
        assert_eq!(response.status, 401);
        assert_eq!(response.header("www-authenticate"), Some("Basic realm=\"shop\", charset=\"UTF-8\""));
    }
    assert_eq!(app.requests(), 0);
    gateway.await_access("basic_auth_denied");
    assert_eq!(gateway.get("h", "/health").status, 200);
}

#[test]
fn a_flood_of_wrong_passwords_leaves_those_who_are_known_alone() {
    let app = Upstream::start("app");
    // A password takes 2 ms of 20.
    let config = format!("maxCpuPerSecond: 20ms\n{CONFIG}");
    let gateway = super::start(&app, &plugin("basic-auth", &config));
    let good = Request::get("h", "/").header("authorization", ALICE);
    // Each worker has to know her; connections go to either.
    assert!((0..32).all(|_| gateway.send(&good).status == 200));
    let wrong = Request::get("h", "/").header("authorization", WRONG);
    std::thread::scope(|scope| {
        let flood: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..10).map(|_| gateway.send(&wrong).status).collect::<Vec<_>>())).collect();
        for _ in 0..50 {
            assert_eq!(gateway.send(&good).status, 200, "{}", gateway.log());
        }
        for statuses in flood {
            let statuses = statuses.join().unwrap();
            assert!(statuses.iter().all(|status| [401, 503].contains(status)), "{statuses:?}");
        }
    });
}

#[test]
fn a_wrong_line_is_told_by_its_number() {
    let app = Upstream::start("app");
    let gateway = start(&app);
    gateway.replace("plugin.yaml", plugin("basic-auth", &CONFIG.replace("bob:$apr1$", "bob:")));
    gateway.await_log("`users` line 3: `bob`: the password is no bcrypt");
    assert_eq!(gateway.send(&Request::get("h", "/").header("authorization", BOB)).status, 200, "the last good one");
}
