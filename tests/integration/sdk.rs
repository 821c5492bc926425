//! What the SDK offers, in a real filter in the real binary: `tests/sdk-guest` and `tests/sdk-guest-redis`.

use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry, wasm_plugin};
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::redis::Redis;
use crate::support::upstream::Upstream;
use crate::support::wasm;

/// Hosts around the gateway.
struct Around {
    app: Upstream,
    auth: Upstream,
    echo: GrpcServer,
}

fn start() -> (Gateway, Around) {
    let around = Around { app: Upstream::start("app"), auth: Upstream::start("auth"), echo: GrpcServer::start() };
    let config = "{auth: 'outbound|80||auth.test', echo: 'outbound|80||echo.test', ticks: true}";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", around.app.address())]))
        .file("auth.yaml", service_entry("auth.test", &[("v1", around.auth.address())]))
        .file("echo.yaml", service_entry("echo.test", &[("v1", around.echo.address())]))
        .file("plugin.yaml", wasm_plugin("guest", &wasm::built("tests/sdk-guest"), config))
        .start();
    gateway.await_filters();
    (gateway, around)
}

#[test]
fn a_request_goes_on_after_two_calls_one_after_the_other() {
    let (gateway, around) = start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let response = gateway.get("h", "/two");
                    assert_eq!((response.status, response.upstream()), (200, "app"));
                    assert_eq!(response.seen("x-words").as_deref(), Some("auth 418 /two"));
                }
            });
        }
    });
    assert_eq!(around.app.requests(), 40);
}

#[test]
fn a_request_goes_on_after_both_of_two_calls_at_once() {
    let (gateway, around) = start();
    for _ in 0..10 {
        assert_eq!(gateway.get("h", "/both").seen("x-path").as_deref(), Some("/both++"));
    }
    assert_eq!(around.app.requests(), 10);
}

#[test]
fn what_becomes_of_a_call_that_fails_is_for_the_filter_to_say() {
    let (gateway, around) = start();
    for (order, status, body) in
        [("status 403", 403, "answered"), ("close", 503, "unavailable"), ("delay 5000", 504, "timed_out")]
    {
        around.auth.always(order);
        let response = gateway.get("h", "/fail");
        assert_eq!((response.status, response.text().as_str()), (status, body), "{order}");
    }
    assert_eq!(gateway.get("h", "/nobody").status, 500, "an error of the call itself fails the request");
    gateway.await_log("proxy_http_call: bad argument");
    assert_eq!(around.app.requests(), 0);
}

#[test]
fn a_client_that_goes_away_while_its_request_waits_harms_no_other() {
    let (gateway, around) = start();
    around.auth.always("delay 300");
    for _ in 0..8 {
        let mut connection = gateway.connect();
        connection.send(&Request::get("h", "/fail").to_bytes()).unwrap();
    }
    let response = gateway.get("h", "/plain");
    assert_eq!((response.status, response.upstream()), (200, "app"));
    await_some("all answers", || (around.auth.in_flight() == 0).then_some(()));
    assert_eq!(gateway.get("h", "/plain").status, 200);
    assert_eq!(around.app.requests(), 2);
}

#[test]
fn a_grpc_call_brings_its_message() {
    let (gateway, around) = start();
    assert_eq!(gateway.get("h", "/grpc").seen("x-echo").as_deref(), Some("0 hello"));
    assert_eq!(around.echo.calls(), 1);
}

#[test]
fn a_response_waits_for_a_call_too() {
    let (gateway, _around) = start();
    let response = gateway.get("h", "/response");
    assert_eq!(response.header("x-late"), Some("auth"));
    assert_eq!(response.header("set-cookie"), Some("seen=1; Path=/; Secure; HttpOnly; SameSite=Lax"));
}

#[test]
fn whole_bodies_are_waited_for_up_to_the_limit() {
    let (gateway, _around) = start();
    let post = |body: &str| gateway.send(&Request::new("POST", "h", "/whole").body(body));
    let response = post("quiet");
    assert_eq!((response.status, response.text().as_str()), (200, "QUIET"));
    let response = post(&"x".repeat(1_001));
    assert_eq!((response.status, response.text().as_str()), (413, "the filter's limit"));
    // Labels are labels on the page.
    assert_eq!(gateway.metric("guest_refused_total", &["reason=\"too large\""]), 1.0);
    assert_eq!(gateway.metric("guest_body_bytes_count", &["side=\"request\""]), 1.0);
    assert_eq!(gateway.metric("guest_body_bytes_sum", &["side=\"request\""]), 5.0);
}

#[test]
fn a_body_that_ends_with_trailers_is_whole_as_well() {
    let (gateway, _around) = start();
    let mut connection = gateway.connect();
    let head = "POST /whole HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n";
    let body = "3\r\nwho\r\n3\r\nle!\r\n0\r\nx-end: 1\r\n\r\n";
    connection.send([head, body].concat().as_bytes()).unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "WHOLE!"));
}

#[test]
fn parts_of_a_body_that_come_while_a_call_waits_are_seen_afterwards() {
    let (gateway, around) = start();
    around.auth.always("delay 200");
    let mut connection = gateway.connect();
    let head = "POST /ask HTTP/1.1\r\nhost: h\r\nx-order: echo\r\ntransfer-encoding: chunked\r\n\r\n";
    connection.send([head, "3\r\nask\r\n"].concat().as_bytes()).unwrap();
    await_some("the call", || (around.auth.requests() > 0 && around.auth.in_flight() > 0).then_some(()));
    connection.send(b"4\r\nmore\r\n0\r\n\r\n").unwrap();
    let response = connection.response(false).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "authaskmore!"));
}

#[test]
fn responses_are_changed_part_by_part() {
    let (gateway, _around) = start();
    let request = Request::new("POST", "h", "/upper").header("x-order", "echo").body("quiet");
    assert_eq!(gateway.send(&request).text(), "QUIET");
}

#[test]
fn a_request_is_read_by_name_and_type() {
    let (gateway, _around) = start();
    let request = Request::get("h:80", "/typed/a%20b?q=1&p&q=x+y%2B")
        .header("cookie", "a=1; b=2")
        .header("x-list", "a, b")
        .header("x-list", "c")
        .header("x-number", 17)
        .header("x-secret-a", "1");
    let response = gateway.send(&request);
    let typed = response.seen("x-typed").unwrap();
    assert_eq!(typed, "typed,a b 1,x y+ 2 a,b,c 17 h 127.0.0.1 false outbound|80||app.test");
    assert_eq!(response.seen("x-secret-a"), None);
}

#[test]
fn all_workers_count_together_and_a_label_has_so_many_values() {
    let (gateway, _around) = start();
    let mut counts: Vec<u32> = Vec::new();
    for number in 0..40 {
        counts.push(gateway.get("h", &format!("/p{number}")).seen("x-count").unwrap().parse().unwrap());
    }
    assert_eq!(counts, (1..=40).collect::<Vec<_>>());
    let page = gateway.admin("/stats/prometheus").text();
    let series: Vec<_> = page.lines().filter(|line| line.starts_with("guest_requests_total{")).collect();
    let sum: f64 = series.iter().filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
    assert_eq!(sum, 40.0, "{series:?}");
    // Three of each worker, and what is over.
    assert!(series.len() <= 3 * 8 + 1 && series.iter().any(|line| line.contains("path=\"other\"")), "{series:?}");
}

#[test]
fn ticks_come_and_a_call_of_the_filter_itself_is_answered() {
    let (gateway, around) = start();
    await_some("ticks", || (gateway.metric("guest_ticks", &[]) > 10.0).then_some(()));
    gateway.await_log("told 202 in VM of outbound|80||auth.test");
    assert!(around.auth.requests() > 0);
}

#[test]
fn requests_that_wait_for_a_tick_go_on_with_it() {
    let (gateway, around) = start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let response = gateway.get("h", "/held");
                    assert_eq!((response.status, response.upstream()), (200, "app"));
                    assert!(response.seen("x-held").unwrap().parse::<u32>().unwrap() > 0);
                }
            });
        }
    });
    assert_eq!(around.app.requests(), 40);
}

#[test]
fn a_filter_asks_redis_and_reads_its_replies() {
    let Some(mut redis) = Redis::start(Some("secret")) else { return };
    let app = Upstream::start("app");
    let module = wasm::built("tests/sdk-guest-redis");
    let config = "{server: 'outbound|80||redis.test', password: secret}";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("redis.yaml", service_entry("redis.test", &[("v1", redis.address())]))
        .file("plugin.yaml", wasm_plugin("redis", &module, config))
        .start();
    gateway.await_filters();
    for (path, status, text) in [
        ("/INCR/hits", 200, "Integer(1)"),
        ("/INCR/hits", 200, "Integer(2)"),
        ("/GET/none", 200, "Nil"),
        ("/", 200, "Status([80, 79, 78, 71])"),
        ("/LPUSH/hits/x", 409, "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ] {
        let response = gateway.get("h", path);
        assert_eq!((response.status, response.text().as_str()), (status, text), "{path}");
    }
    assert_eq!(
        gateway.get("h", "/AUTH/x").upstream(),
        "app",
        "a call that cannot be made is an error, which lets go on"
    );
    assert_eq!(redis.ask_in(3, &["GET", "hits"]).as_deref(), Some("$1\r\n2\r\n"));
    redis.stop();
    let response = gateway.get("h", "/INCR/hits");
    assert_eq!((response.status, response.text().as_str()), (503, "Some(Unavailable)"));
    assert_eq!(app.requests(), 1);
}
