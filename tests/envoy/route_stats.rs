//! The counters of routes with a `statPrefix`, and of answers by cluster: the same in Envoy and here after the same requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::await_true;
use crate::support::client::{self, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::envoy::{self, Envoy};
use crate::support::gateway::Options;
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

/// By series; a virtual host's name is left out, because Envoy's must have no dot to be one label.
type Counts = BTreeMap<String, f64>;

#[test]
fn routes_with_a_prefix_count_as_in_envoy() {
    let Some(binary) = envoy::binary() else { return };
    let (app, closed) = (Upstream::start("app"), Port::free());
    let clusters = [("app", vec![app.address()]), ("closed", vec![closed.address()]), ("empty", Vec::new())];
    let mut admin_of_envoy = None;
    let envoy = Envoy::start_as(&binary, |http, admin| {
        admin_of_envoy = Some(admin);
        configuration(&clusters, http, admin)
    });
    let mut portolan = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(RULES));
    for (name, endpoints) in &clusters {
        let endpoints: Vec<_> = endpoints.iter().map(|address| ("v1", *address)).collect();
        portolan = portolan.file(&format!("{name}.yaml"), service_entry(&format!("{name}.test"), &endpoints));
    }
    let portolan = portolan.start();
    for (path, order) in [
        ("/plain", ""),
        ("/plain", "status 404"),
        ("/plain", "status 204"),
        ("/tried", "status 503"),
        ("/tried", ""),
        ("/closed", ""),
        ("/empty", ""),
        ("/slow", "delay 3000"),
        ("/moved", ""),
        ("/none", ""),
    ] {
        let request = Request::get("shop.test", path).order(order);
        let there = client::send(envoy.address(), &request).unwrap().status;
        assert_eq!(portolan.send(&request).status, there, "{path} {order}");
    }
    let there = || counts(admin_of_envoy.unwrap());
    let here = || counts(portolan.admin_address());
    let whole = |counts: &Counts| counts.get(r#"upstream_rq_time_count{envoy_route="plain"}"#) == Some(&3.0);
    await_true("the times of both", || whole(&there()) && whole(&here()));
    let (there, here) = (there(), here());
    assert_eq!(here, there);
    let of = |series: &str| here.get(series).copied().unwrap_or_default();
    assert_eq!(of(r#"upstream_rq_total{envoy_route="tried"}"#), 4.0, "each try");
    assert_eq!(of(r#"upstream_rq_completed{envoy_route="tried"}"#), 2.0, "each request");
    assert_eq!(of(r#"upstream_rq{envoy_response_code="503",envoy_route="empty"}"#), 1.0, "the gateway's own answer");
    assert_eq!(of(r#"upstream_rq_timeout{envoy_route="slow"}"#), 1.0);
    let of_cluster = of(r#"envoy_cluster_upstream_rq_xx{envoy_cluster_name="empty",envoy_response_code_class="5"}"#);
    assert_eq!(of_cluster, 1.0, "of the cluster too");
}

/// All that is not 0, which Envoy tells later or not at all, without buckets and sums of times.
fn counts(admin: SocketAddr) -> Counts {
    let page = client::send(admin, &Request::get("localhost", "/stats/prometheus")).unwrap().text();
    let names = ["envoy_vhost_route_", "envoy_cluster_upstream_rq_completed", "envoy_cluster_upstream_rq_xx"];
    let is_compared = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let series = page.lines().filter(is_compared).filter_map(|line| line.rsplit_once(' '));
    let counts = series.filter_map(|(series, value)| {
        let series = series.replace("outbound|80||", "").replace(".test\"", "\"");
        let (name, labels) = series.trim_start_matches("envoy_vhost_route_").split_once('{').unwrap();
        let mut labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
        labels.retain(|label| !label.starts_with("envoy_virtual_host="));
        labels.sort_unstable();
        let is_told = !name.ends_with("_bucket") && !name.ends_with("_sum");
        let value: f64 = value.parse().unwrap();
        (is_told && value != 0.0).then(|| (format!("{name}{{{}}}", labels.join(",")), value))
    });
    counts.collect()
}

const RULES: &str = "\
- match: [{uri: {prefix: /plain}, statPrefix: plain}]
  route: [{destination: {host: app.test}}]
- match: [{uri: {prefix: /tried}, statPrefix: tried}]
  route: [{destination: {host: app.test}}]
  retries: {attempts: 2, retryOn: 5xx}
- match: [{uri: {prefix: /closed}, statPrefix: closed}]
  route: [{destination: {host: closed.test}}]
- match: [{uri: {prefix: /empty}, statPrefix: empty}]
  route: [{destination: {host: empty.test}}]
- match: [{uri: {prefix: /slow}, statPrefix: slow}]
  route: [{destination: {host: app.test}}]
  timeout: 0.3s
- match: [{uri: {prefix: /moved}, statPrefix: moved}]
  redirect: {uri: /}
- route: [{destination: {host: app.test}}]
";

fn configuration(clusters: &[(&str, Vec<SocketAddr>)], http: SocketAddr, admin: SocketAddr) -> Value {
    let address = |a: SocketAddr| json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}});
    let cluster = |(name, endpoints): &(&str, Vec<SocketAddr>)| {
        let endpoints: Vec<_> = endpoints.iter().map(|at| json!({"endpoint": {"address": address(*at)}})).collect();
        let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]});
        json!({"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": assignment})
    };
    // What Istio asks for where a rule does not say it.
    let usual = json!({"retry_on": "connect-failure,refused-stream,unavailable,cancelled", "num_retries": 2});
    let tried = json!({"retry_on": "5xx", "num_retries": 2});
    let route = |name: &str, cluster: &str, timeout: &str, retry: &Value| {
        json!({
            "match": {"prefix": format!("/{name}")},
            "stat_prefix": name,
            "route": {"cluster": cluster, "timeout": timeout, "retry_policy": retry},
        })
    };
    let moved = json!({"match": {"prefix": "/moved"}, "stat_prefix": "moved", "redirect": {"path_redirect": "/"}});
    let routes = json!([
        route("plain", "app", "0s", &usual),
        route("tried", "app", "0s", &tried),
        route("closed", "closed", "0s", &usual),
        route("empty", "empty", "0s", &usual),
        route("slow", "app", "0.3s", &usual),
        moved,
        {"match": {"prefix": "/"}, "route": {"cluster": "app"}},
    ]);
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "use_remote_address": true,
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
        "route_config": {"virtual_hosts": [{"name": "*:80", "domains": ["*"], "routes": routes}]},
    });
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "clusters": clusters.iter().map(cluster).collect::<Vec<_>>(),
            "listeners": [{"name": "http", "address": address(http), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}],
        },
    })
}
