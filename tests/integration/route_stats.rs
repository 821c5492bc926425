//! The counters of routes with a `statPrefix`.

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::gateway::Options;
use crate::support::upstream::Upstream;

#[test]
fn a_stat_prefix_counts_each_virtual_host_for_itself_until_it_is_gone() {
    let app = Upstream::start("app");
    let rules = |more: &str| {
        let rule =
            format!("- match: [{{uri: {{prefix: /cart}}{more}}}]\n  route: [{{destination: {{host: app.test}}}}]\n");
        routes(&rule).replace("  - '*'\n", "  - one.example.com\n  - two.example.com\n")
    };
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", rules(", statPrefix: cart"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start();
    for host in ["one.example.com", "two.example.com", "two.example.com"] {
        assert_eq!(gateway.get(host, "/cart").status, 200);
    }
    let labels = |host: &str| [format!("envoy_virtual_host=\"{host}:80\""), "envoy_route=\"cart\"".to_owned()];
    for (host, count) in [("one.example.com", 1.0), ("two.example.com", 2.0)] {
        let labels = labels(host);
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        gateway.await_metric("envoy_vhost_route_upstream_rq_completed", &labels, count);
        gateway.await_metric("envoy_vhost_route_upstream_rq_total", &labels, count);
        gateway.await_metric("envoy_vhost_route_upstream_rq_xx", &[labels[0], "class=\"2\""], count);
    }
    gateway.replace("routes.yaml", rules(""));
    await_true("the series to end", || !gateway.admin("/stats/prometheus").text().contains("envoy_vhost_route"));
    assert_eq!(gateway.get("one.example.com", "/cart").status, 200);
}

#[test]
fn the_time_of_a_request_is_that_of_all_its_tries() {
    let [slow, fast] = ["slow", "fast"].map(Upstream::start);
    slow.always("delay 3000");
    let rule = "- match: [{uri: {prefix: /}, statPrefix: all}]\n  route: [{destination: {host: app.test}}]\n  \
                retries: {attempts: 1, retryOn: 5xx, perTryTimeout: 400ms, backoff: 1ms}\n";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rule))
        .file("app.yaml", service_entry("app.test", &[("v1", slow.address()), ("v1", fast.address())]))
        .file("policy.yaml", policy("app.test", "loadBalancer: {simple: ROUND_ROBIN}"))
        .start();
    // On one worker the two begin with one endpoint each.
    let mut connection = gateway.connect();
    let answers = [0, 1].map(|_| connection.request(&Request::get("h", "/")).unwrap());
    let again = answers.iter().find(|answer| answer.seen("x-envoy-attempt-count").as_deref() == Some("2")).unwrap();
    let time: u64 = again.header("x-envoy-upstream-service-time").unwrap().parse().unwrap();
    assert!(time >= 400, "{time} ms");
    gateway.await_metric("envoy_vhost_route_upstream_rq_time_count", &["all"], 2.0);
    for name in ["envoy_vhost_route_upstream_rq_time_sum", "envoy_cluster_upstream_rq_time_sum"] {
        let sum = gateway.metric(name, &[]);
        assert!(sum >= 400.0, "{name}: {sum} ms");
    }
}

#[test]
fn an_answer_before_the_request_s_end_has_no_time_until_that_comes() {
    let app = Upstream::start("app");
    let rule = "- match: [{uri: {prefix: /cart}, statPrefix: cart}]\n  route: [{destination: {host: app.test}}]\n";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rule))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start();
    let mut connection = gateway.connect();
    connection.send(b"POST /cart HTTP/1.1\r\nhost: h\r\nx-order: echo\r\ncontent-length: 4\r\n\r\n").unwrap();
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.header("x-envoy-upstream-service-time")), (200, None));
    connection.send(b"ping").unwrap();
    assert_eq!(connection.chunk().unwrap().as_deref(), Some(&b"ping"[..]));
    gateway.await_metric("envoy_vhost_route_upstream_rq_time_count", &["cart"], 1.0);
}
