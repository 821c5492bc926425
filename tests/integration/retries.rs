//! Istio's retries: what is tried again, where, and what is not.

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn gateway(rule: &str, endpoints: &[(&str, std::net::SocketAddr)]) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rule))
        .file("app.yaml", service_entry("app.test", endpoints))
        .file("policy.yaml", policy("app.test", "loadBalancer: {simple: ROUND_ROBIN}"))
        .start()
}

const PLAIN: &str = "- route: [{destination: {host: app.test}}]\n";

#[test]
fn a_refused_connection_is_retried_on_another_endpoint() {
    let (app, closed) = (Upstream::start("app"), Port::free());
    let gateway = gateway(PLAIN, &[("v1", closed.address()), ("v1", app.address())]);
    let mut connection = gateway.connect();
    for number in 0..20 {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        assert_eq!(response.status, 200, "request {number}");
    }
    // A body is replayed.
    for _ in 0..4 {
        let response = connection.request(&Request::new("POST", "h", "/").order("sink").body("body")).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "4"));
    }
    assert_eq!(app.requests(), 24);
}

#[test]
fn an_answered_503_is_not_retried_by_default() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let gateway = gateway(PLAIN, &[("v1", one.address()), ("v1", two.address())]);
    let response = gateway.send(&Request::get("h", "/").order("status 503"));
    assert_eq!((response.status, one.requests() + two.requests()), (503, 1));
    assert!(response.text().starts_with("GET / HTTP/1.1"), "the upstream's own answer is passed on");
}

#[test]
fn attempts_n_means_n_tries_more_and_zero_means_none() {
    let rules = "\
- match: [{uri: {prefix: /three}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 3, retryOn: 5xx}
- match: [{uri: {prefix: /none}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 0}
";
    let app = Upstream::start("app");
    let gateway = gateway(rules, &[("v1", app.address())]);
    assert_eq!(gateway.send(&Request::get("h", "/three").order("status 500")).status, 500);
    assert_eq!(app.requests(), 4);
    let line = gateway.await_access("/three");
    assert!(line.contains(" 500 URX "), "{line}");
    assert_eq!(gateway.send(&Request::get("h", "/none").order("status 500")).status, 500);
    assert_eq!(app.requests(), 5);
}

#[test]
fn a_status_named_in_retry_on_is_retried_until_it_changes() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 5, retryOn: '503'}
";
    let (bad, good) = (Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 503");
    let gateway = gateway(rules, &[("v1", bad.address()), ("v1", good.address())]);
    for _ in 0..10 {
        assert_eq!(gateway.get("h", "/").upstream(), "good");
    }
    assert_eq!(gateway.send(&Request::get("h", "/").order("status 500")).status, 500, "another status is passed on");
}

#[test]
fn a_try_that_takes_too_long_is_retried_when_asked_for() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 2, perTryTimeout: 0.1s, retryOn: 5xx}
";
    let (slow, fast) = (Upstream::start("slow"), Upstream::start("fast"));
    slow.always("delay 3000");
    let gateway = gateway(rules, &[("v1", slow.address()), ("v1", fast.address())]);
    for _ in 0..4 {
        assert_eq!(gateway.get("h", "/").upstream(), "fast");
    }
}

#[test]
fn the_upstream_learns_which_attempt_it_serves() {
    let (app, closed) = (Upstream::start("app"), Port::free());
    let gateway = gateway(PLAIN, &[("v1", closed.address()), ("v1", app.address())]);
    let mut connection = gateway.connect();
    let attempts: Vec<_> = (0..4)
        .map(|_| connection.request(&Request::get("h", "/")).unwrap().seen("x-envoy-attempt-count").unwrap())
        .collect();
    // Requests whose turn was the good endpoint's got it at once.
    assert!(attempts.iter().all(|attempt| attempt == "1" || attempt == "2"), "{attempts:?}");
    assert!(attempts.contains(&"2".to_owned()), "{attempts:?}");
}

#[test]
fn a_kept_connection_that_the_upstream_closed_costs_no_request() {
    let app = Upstream::start("app");
    let gateway = gateway(PLAIN, &[("v1", app.address())]);
    let mut connection = gateway.connect();
    for _ in 0..20 {
        // `half` closes the connection after its answer: the gateway's client sees a cut body, the next one a 200.
        let _ = gateway.connect().request(&Request::get("h", "/").order("half"));
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
}

/// An upstream that gives these answers in turn, the last one for ever.
fn in_turn(name: &str, answers: &'static [&'static str]) -> Upstream {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let next = move || count.fetch_add(1, std::sync::atomic::Ordering::SeqCst).min(answers.len() - 1);
    Upstream::scripted(name, Box::new(move |_| answers[next()].as_bytes().to_vec()))
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAVAILABLE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n";
const LIMITED: &str = "HTTP/1.1 503 No\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_grpc_status_in_the_head_is_retried_by_default_for_any_request() {
    let get = in_turn("app", &[OK, UNAVAILABLE, OK]);
    let gateway = gateway(PLAIN, &[("v1", get.address())]);
    let mut connection = gateway.connect();
    for _ in 0..2 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().text(), "ok");
    }
    assert_eq!(get.requests(), 3);
    assert!(get.seen().iter().all(|seen| seen.line == "GET /"));
}

#[test]
fn a_grpc_request_is_replayed_with_its_body() {
    let app = in_turn("app", &[UNAVAILABLE, UNAVAILABLE, OK]);
    let gateway = gateway(PLAIN, &[("v1", app.address())]);
    let request = Request::new("POST", "h", "/a.B/C").header("content-type", "application/grpc").body("message");
    assert_eq!(gateway.send(&request).text(), "ok");
    let bodies: Vec<_> = app.seen().iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect();
    assert_eq!(bodies, ["message"; 3]);
}

#[test]
fn words_of_grpc_replace_the_default_ones() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 2, retryOn: 'internal,deadline-exceeded,resource-exhausted'}
";
    let app = in_turn("app", &[UNAVAILABLE, OK]);
    let gateway = gateway(rules, &[("v1", app.address())]);
    let response = gateway.get("h", "/");
    assert_eq!((response.header("grpc-status"), app.requests()), (Some("14"), 1));
}

#[test]
fn a_rate_limited_answer_is_retried_by_its_own_word_only() {
    let rules = "\
- match: [{uri: {prefix: /own}}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 1, retryOn: envoy-ratelimited}
- route: [{destination: {host: app.test}}]
  retries: {attempts: 1, retryOn: 5xx}
";
    let app = in_turn("app", &[LIMITED, LIMITED, OK]);
    let gateway = gateway(rules, &[("v1", app.address())]);
    assert_eq!(gateway.get("h", "/other").status, 503);
    assert_eq!(gateway.get("h", "/own").status, 200);
    assert_eq!(app.requests(), 3);
}

#[test]
fn a_reset_before_anything_was_sent_is_retried_and_one_after_is_not() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 2, retryOn: reset-before-request}
";
    let (app, closed) = (Upstream::start("app"), Port::free());
    let gateway = gateway(rules, &[("v1", closed.address()), ("v1", app.address())]);
    for _ in 0..4 {
        assert_eq!(gateway.get("h", "/").status, 200);
    }
    let before = app.requests();
    // A GET on a kept connection would be sent again for another reason: nobody may have seen it.
    let response = gateway.send(&Request::new("POST", "h", "/cut").order("close").body("x"));
    assert_eq!((response.status, app.requests()), (503, before + 1));
    let line = gateway.await_access("/cut");
    assert!(line.contains(" 503 UC "), "no URX, as nothing would have been tried again: {line}");
}

#[test]
fn a_post_is_replayed_up_to_a_mebibyte_and_a_longer_one_is_not() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 2, retryOn: 5xx}
";
    let (bad, good) = (Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 500");
    good.always("sink");
    let gateway = gateway(rules, &[("v1", bad.address()), ("v1", good.address())]);
    let post = |size| gateway.send(&Request::new("POST", "h", "/").body(vec![b'x'; size]));
    for _ in 0..6 {
        assert_eq!(post(1_000_000).text(), "1000000");
    }
    let long: Vec<_> = (0..6).map(|_| post(3_000_000).status).collect();
    assert!(long.contains(&500) && long.contains(&200), "{long:?}");
}

#[test]
fn previous_endpoints_are_passed_over_unless_told_otherwise() {
    let rules = |more: &str| {
        format!(
            "- route: [{{destination: {{host: app.test}}}}]\n  retries: {{attempts: 2, retryOn: 5xx, backoff: 1ms{more}}}\n"
        )
    };
    let upstreams = [Upstream::start("a"), Upstream::start("b"), Upstream::start("c")];
    upstreams.iter().for_each(|upstream| upstream.always("status 500"));
    let endpoints: Vec<_> = upstreams.iter().map(|upstream| ("v1", upstream.address())).collect();
    let random = |rules: &str| {
        Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes(rules))
            .file("app.yaml", service_entry("app.test", &endpoints))
            .file("policy.yaml", policy("app.test", "loadBalancer: {simple: RANDOM}"))
            .start()
    };
    let counts = |gateway: &Gateway| {
        let before = upstreams.each_ref().map(Upstream::requests);
        assert_eq!(gateway.get("h", "/").status, 500);
        let after = upstreams.each_ref().map(Upstream::requests);
        [0, 1, 2].map(|i| after[i] - before[i])
    };
    let gateway = random(&rules(""));
    let even = (0..20).filter(|_| counts(&gateway) == [1, 1, 1]).count();
    // Six picks of three endpoints miss the last one in one case of eleven.
    assert!(even >= 14, "{even} of 20 went to each endpoint once");
    let careless = random(&rules(", retryIgnorePreviousHosts: false"));
    let even = (0..40).filter(|_| counts(&careless) == [1, 1, 1]).count();
    assert!(even < 24, "{even} of 40 by chance alone");
}

#[test]
fn a_budget_takes_the_place_of_the_limit_on_retries() {
    let rules = "\
- route: [{destination: {host: app.test}}]
  retries: {attempts: 1, retryOn: 5xx, backoff: 1ms, perTryTimeout: 2s}
";
    let app = Upstream::start("app");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("policy.yaml", policy("app.test", "retryBudget: {percent: {value: 10}, minRetryConcurrency: 1}"))
        .start();
    let mut held = gateway.connect();
    held.send(&Request::get("h", "/held").order("delay 5000").to_bytes()).unwrap();
    await_true("the retry of the first one", || app.requests() == 2);
    assert_eq!(gateway.send(&Request::get("h", "/one").order("status 500")).status, 500);
    assert_eq!(app.requests(), 3, "of two requests 10 % are less than the one retry at a time that there is always");
    let line = gateway.await_access("/one");
    assert!(line.contains(" 500 UO "), "{line}");
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_retry_overflow", &["app.test"]), 1.0);
}

#[test]
fn rules_without_retries_take_the_mesh_s_own() {
    let mesh = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: istio
  namespace: istio-system
data:
  mesh: |-
    defaultHttpRetryPolicy: {attempts: 1, retryOn: '503'}
";
    let app = Upstream::start("app");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("mesh.yaml", mesh)
        .file("routes.yaml", routes(PLAIN))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start();
    assert_eq!(gateway.send(&Request::get("h", "/").order("status 503")).status, 503);
    assert_eq!(app.requests(), 2);
}
