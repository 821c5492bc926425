//! Faults and CORS policies of a route's own.

use std::time::{Duration, Instant};

use crate::support::client::{Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

fn gateway(rules: &str, app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

#[test]
fn an_abort_answers_in_the_upstream_s_place_and_is_not_retried() {
    let rules = "\
- match: [{uri: {prefix: /abort}}]
  route: [{destination: {host: app.test}}]
  fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
  retries: {attempts: 3, retryOn: 5xx}
  headers: {response: {set: {x-route: abort}}}
- match: [{uri: {prefix: /grpc}}]
  route: [{destination: {host: app.test}}]
  fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}
- route: [{destination: {host: app.test}}]
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, &app);
    let response = gateway.get("h", "/abort");
    assert_eq!((response.status, response.text().as_str()), (503, "fault filter abort"));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(response.header("x-route"), Some("abort"), "response headers of the route apply");
    let line = gateway.await_access("/abort");
    assert!(line.contains(" 503 FI fault_filter_abort "), "{line}");
    assert!(line.contains("outbound|80||app.test"), "{line}");
    let plain = gateway.get("h", "/grpc");
    assert_eq!((plain.status, plain.text().as_str()), (200, "fault filter abort"));
    let grpc = gateway.send(&Request::new("POST", "h", "/grpc").header("content-type", "application/grpc"));
    assert_eq!((grpc.status, grpc.header("grpc-status")), (200, Some("14")));
    assert_eq!(app.requests(), 0);
    assert_eq!(gateway.get("h", "/other").status, 200, "other routes are not touched");
}

#[test]
fn a_delay_is_no_part_of_the_timeout() {
    let rules = "\
- match: [{uri: {prefix: /slow}}]
  route: [{destination: {host: app.test}}]
  fault: {delay: {fixedDelay: 600ms, percentage: {value: 100}}}
  timeout: 300ms
- match: [{uri: {prefix: /both}}]
  route: [{destination: {host: app.test}}]
  fault: {delay: {fixedDelay: 50ms, percent: 100}, abort: {httpStatus: 418, percentage: {value: 100}}}
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, &app);
    let start = Instant::now();
    assert_eq!(gateway.get("h", "/slow").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(600), "{:?}", start.elapsed());
    let line = gateway.await_access("/slow");
    assert!(line.contains(" 200 DI via_upstream "), "{line}");
    assert_eq!(gateway.send(&Request::get("h", "/slow").order("delay 3000")).status, 504, "the timeout itself is kept");
    assert_eq!(gateway.get("h", "/both").status, 418);
    let line = gateway.await_access("/both");
    assert!(line.contains(" 418 DI,FI fault_filter_abort ") && line.contains(" outbound|80||app.test "), "{line}");
}

#[test]
fn a_fault_without_a_percentage_happens_to_nobody_and_half_of_them_to_half() {
    let rules = "\
- match: [{uri: {prefix: /none}}]
  route: [{destination: {host: app.test}}]
  fault: {abort: {httpStatus: 500}, delay: {fixedDelay: 10s}}
- route: [{destination: {host: app.test}}]
  fault: {abort: {httpStatus: 500, percentage: {value: 50}}}
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, &app);
    let mut connection = gateway.connect();
    let mut failures = |target: &str| {
        let statuses = (0..200).map(|_| connection.request(&Request::get("h", target)).unwrap().status);
        statuses.filter(|status| *status == 500).count()
    };
    assert_eq!(failures("/none"), 0);
    let half = failures("/half");
    // Beyond this, one run in a million fails.
    assert!((65..=135).contains(&half), "{half}");
}

const CORS: &str = "\
- match: [{uri: {prefix: /ignore}}]
  route: [{destination: {host: app.test}}]
  corsPolicy: {allowOrigin: ['https://old.test'], allowMethods: [GET], unmatchedPreflights: IGNORE}
- match: [{uri: {prefix: /away}}]
  redirect: {uri: /x}
  corsPolicy: {allowOrigins: [{exact: 'https://a.test'}]}
- match: [{uri: {prefix: /none}}]
  route: [{destination: {host: app.test}}]
- route: [{destination: {host: app.test}}]
  headers: {response: {set: {x-route: yes}}}
  corsPolicy:
    allowOrigins: [{exact: 'https://a.test'}, {prefix: 'https://b.'}, {regex: 'https://[a-z]+\\.c\\.test'}]
    allowMethods: [GET, PUT]
    allowHeaders: [x-one, x-two]
    exposeHeaders: [x-seen]
    maxAge: 24h
    allowCredentials: true
";

fn preflight(gateway: &Gateway, target: &str, origin: &str) -> Response {
    let request = Request::new("OPTIONS", "h", target).header("origin", origin);
    gateway.send(&request.header("access-control-request-method", "PUT"))
}

#[test]
fn preflights_of_allowed_origins_are_answered_and_others_forwarded_or_ignored() {
    let app = Upstream::start("app");
    let gateway = gateway(CORS, &app);
    for origin in ["https://a.test", "https://b.any", "https://shop.c.test"] {
        let response = preflight(&gateway, "/", origin);
        let of = |name: &str| response.header(&format!("access-control-{name}")).map(str::to_owned);
        assert_eq!((response.status, of("allow-origin").as_deref()), (200, Some(origin)));
        assert_eq!(of("allow-methods").as_deref(), Some("GET,PUT"));
        assert_eq!(of("allow-headers").as_deref(), Some("x-one,x-two"));
        assert_eq!(of("max-age").as_deref(), Some("86400"));
        assert_eq!(of("allow-credentials").as_deref(), Some("true"));
        assert_eq!(response.header("x-route"), None, "as in Envoy");
        assert_eq!((response.header("content-length"), response.header("vary")), (Some("0"), None));
    }
    assert_eq!(app.requests(), 0);
    let line = gateway.await_access("OPTIONS");
    assert!(line.contains(" 200 - cors_response "), "{line}");
    assert_eq!(preflight(&gateway, "/", "https://x.test").upstream(), "app", "forwarded by default");
    assert_eq!(preflight(&gateway, "/none", "https://a.test").upstream(), "app");
    let ignored = preflight(&gateway, "/ignore", "https://a.test");
    assert_eq!((ignored.status, ignored.header("access-control-allow-origin")), (200, None));
    assert_eq!(ignored.upstream(), "none");
    let old = preflight(&gateway, "/ignore", "https://old.test");
    assert_eq!(old.header("access-control-allow-origin"), Some("https://old.test"));
}

#[test]
fn answers_to_allowed_origins_are_marked_and_all_pass() {
    let app = Upstream::start("app");
    let gateway = gateway(CORS, &app);
    let mark = |target: &str, origin: &str| {
        let response = gateway.send(&Request::get("h", target).header("origin", origin));
        let of = |name| response.header(name).map(str::to_owned);
        (response.status, of("access-control-allow-origin"), of("access-control-expose-headers"))
    };
    let allowed = (200, Some("https://a.test".to_owned()), Some("x-seen".to_owned()));
    assert_eq!(mark("/", "https://a.test"), allowed);
    assert_eq!(mark("/", "https://a.test.evil.test"), (200, None, None));
    assert_eq!(mark("/none", "https://a.test"), (200, None, None));
    assert_eq!(mark("/away", "https://a.test"), (301, None, None), "Envoy passes redirects by");
}

#[test]
fn a_policy_that_comes_or_goes_with_a_reload_is_in_force_at_once() {
    let app = Upstream::start("app");
    let plain = "- route: [{destination: {host: app.test}}]\n";
    let gateway = gateway(plain, &app);
    assert_eq!(gateway.get("h", "/").status, 200);
    let faulty = format!("{plain}  fault: {{abort: {{httpStatus: 418, percentage: {{value: 100}}}}}}\n");
    gateway.replace("routes.yaml", routes(&faulty));
    gateway.await_answer("h", "/", |response| response.status == 418);
    gateway.replace("routes.yaml", routes(plain));
    gateway.await_answer("h", "/", |response| response.status == 200);
}
