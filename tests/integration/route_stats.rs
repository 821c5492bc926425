//! The counters of routes with a `statPrefix`.

use crate::support::await_true;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
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
