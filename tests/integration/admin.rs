//! The admin server: ready, metrics, the configuration as it is served, endpoints, listeners, log levels.

use crate::support::client::{Request, send};
use crate::support::config::{CANARY, GATEWAY, HOST, app_in_cluster};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

fn gateway(v1: &Upstream, v2: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("canary.yaml", CANARY)
        .file("app.yaml", app_in_cluster(&[("v1", v1.address()), ("v2", v2.address())]))
        .start()
}

#[test]
fn metrics_count_under_envoys_names() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = gateway(&v1, &v2);
    for _ in 0..20 {
        assert_eq!(gateway.get(HOST, "/").status, 200);
    }
    assert_eq!(gateway.get("unknown", "/").status, 404);
    gateway.await_access("unknown");
    assert_eq!(gateway.metric("envoy_http_downstream_rq_total", &[]), 21.0);
    assert_eq!(gateway.metric("envoy_http_downstream_rq_xx", &["envoy_response_code_class=\"2\""]), 20.0);
    assert_eq!(gateway.metric("envoy_http_downstream_rq_xx", &["envoy_response_code_class=\"4\""]), 1.0);
    assert_eq!(gateway.metric("envoy_cluster_upstream_rq_total", &["outbound|7070|"]), 20.0);
    let v2_total =
        gateway.metric("envoy_cluster_upstream_rq_total", &["outbound|7070|v2|app.default.svc.cluster.local"]);
    assert_eq!(v2_total, v2.requests() as f64);
    let response = gateway.admin("/stats/prometheus");
    assert!(response.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in response.text().lines().filter(|line| !line.starts_with('#')) {
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
}

#[test]
fn config_dump_says_what_is_served_and_where_it_came_from() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = gateway(&v1, &v2);
    gateway.write(
        "bad.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad}\nspec: {hosts: 7}\n",
    );
    gateway.await_log("bad.yaml:4");
    let dump = gateway.admin("/config_dump");
    let value: serde_json::Value = serde_json::from_slice(&dump.body).unwrap();
    let text = value.to_string();
    for part in [
        "1388-vs",
        "1388-dnr",
        "app-gateway",
        "canary.yaml",
        "bad.yaml",
        "outbound|7070|v1|app.default.svc.cluster.local",
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn clusters_and_listeners_are_listed() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = gateway(&v1, &v2);
    let clusters = gateway.admin("/clusters").text();
    assert!(clusters.contains("outbound|7070|v1|app.default.svc.cluster.local"), "{clusters}");
    assert!(clusters.contains(&v1.address().to_string()) && clusters.contains(&v2.address().to_string()), "{clusters}");
    let listeners = gateway.admin("/listeners").text();
    assert!(listeners.contains(&gateway.address().port().to_string()), "{listeners}");
}

#[test]
fn the_status_port_answers_kubernetes_probes() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let status = Port::free();
    let _gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("canary.yaml", CANARY)
        .file("app.yaml", app_in_cluster(&[("v1", v1.address()), ("v2", v2.address())]))
        .argument("--status-port")
        .argument(status.number().to_string())
        .start();
    assert_eq!(send(status.address(), &Request::get("probe", "/healthz/ready")).unwrap().status, 200);
}

#[test]
fn log_levels_change_at_run_time() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = gateway(&v1, &v2);
    let set =
        send(gateway.admin_address(), &Request::new("POST", "localhost", "/logging?level=debug").body("")).unwrap();
    assert_eq!(set.status, 200, "{}", set.text());
    assert!(gateway.admin("/logging").text().contains("debug"));
}

#[test]
fn unknown_admin_paths_are_404_and_writes_need_post() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = gateway(&v1, &v2);
    assert_eq!(gateway.admin("/no/such/page").status, 404);
    let listed = gateway.admin("/logging?level=trace");
    assert!(!listed.text().contains("trace") || listed.status != 200, "a GET changes nothing");
}
