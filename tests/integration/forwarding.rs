//! What the gateway adds, strips and believes at its edge.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

fn gateway(app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

#[test]
fn the_upstream_learns_of_the_client() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let response = gateway.send(&Request::get("shop.example.com", "/x").header("x-forwarded-for", "10.1.2.3"));
    assert_eq!(response.seen("host").as_deref(), Some("shop.example.com"));
    let forwarded = response.seen("x-forwarded-for").unwrap();
    assert!(forwarded.starts_with("10.1.2.3,"), "the peer is appended: {forwarded}");
    assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("http"));
    let id = response.seen("x-request-id").unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    assert_eq!(response.seen("x-envoy-attempt-count").as_deref(), Some("1"));
}

#[test]
fn the_client_learns_of_the_gateway() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let response = gateway.get("h", "/");
    assert_eq!(response.header("server"), Some("portolan"), "never the upstream's own");
    let time = response.header("x-envoy-upstream-service-time").unwrap();
    assert!(time.parse::<u64>().is_ok(), "{time}");
}

#[test]
fn what_an_outside_client_claims_is_not_believed() {
    let app = Upstream::start("app");
    let claims = [
        ("x-request-id", "mine"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=me"),
        ("x-envoy-max-retries", "99"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
    ];
    let gateway = gateway(&app);
    for (name, value) in claims {
        let response = gateway.send(&Request::get("h", "/").header(name, value).order("delay 20"));
        assert_eq!(response.status, 200, "{name}");
        let seen = response.seen(name);
        assert_ne!(seen.as_deref(), Some(value), "{name} reached the upstream");
    }
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway() {
    let app = Upstream::start("app");
    let request = Request::get("h", "/")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "gzip")
        .header("proxy-connection", "keep-alive");
    let response = gateway(&app).send(&request);
    for name in ["x-private", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(response.seen(name), None, "{name}");
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    for _ in 0..50 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    assert_eq!((app.requests(), app.connections()), (50, 1));
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    let requests = [Request::get("h", "/1").order("delay 50"), Request::get("h", "/2"), Request::get("h", "/3")];
    let bytes: Vec<u8> = requests.iter().flat_map(Request::to_bytes).collect();
    connection.send(&bytes).unwrap();
    for number in 1..=3 {
        let line = connection.response(false).unwrap().seen_request_line();
        assert_eq!(line, format!("GET /{number} HTTP/1.1"));
    }
}

#[test]
fn head_and_empty_answers_keep_the_connection_in_step() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    let head = connection.request(&Request::new("HEAD", "h", "/").order("bytes 0")).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(connection.request(&Request::get("h", "/").order("bytes 0")).unwrap().status, 200);
    assert_eq!(connection.request(&Request::get("h", "/after")).unwrap().seen_request_line(), "GET /after HTTP/1.1");
}

#[test]
fn an_access_log_line_has_envoys_default_form() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let request =
        Request::new("POST", "shop.example.com", "/form").header("user-agent", "test/1").order("sink").body("12345");
    assert_eq!(gateway.send(&request).status, 200);
    let line = gateway.await_access("/form");
    let (time, rest) = line.split_once("] ").unwrap();
    assert!(time.starts_with("[20") && time.ends_with('Z'), "{line}");
    assert!(rest.starts_with("\"POST /form HTTP/1.1\" 200 - via_upstream - \"-\" 5 1 "), "{line}");
    let quoted: Vec<_> = rest.split('"').skip(1).step_by(2).collect();
    let address = app.address().to_string();
    assert_eq!((quoted[3], quoted[5], quoted[6]), ("test/1", "shop.example.com", address.as_str()), "{line}");
    assert!(rest.contains(" outbound|80||app.test "), "{line}");
}
