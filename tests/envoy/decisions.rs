//! The three decision filters in Envoy, with the configurations that Portolan makes for them of Istio's YAML: what
//! `route-match` and `traffic-split` decide there is what Portolan serves, and `circuit-breaker`, whose limits need
//! functions of our own, lets everything pass.

use std::path::PathBuf;

use portolan_config::{TranslateOptions, read_str, translate};
use portolan_model::Model;
use portolan_model::filter::{CircuitBreakerConfig, RouteMatchConfig, TrafficSplitConfig};
use serde::Serialize;
use tempfile::TempDir;

use crate::bundled::module;
use crate::support::client::{self, Request, Response};
use crate::support::config::{ANY_GATEWAY, policy, routes, service_entry};
use crate::support::envoy::{self, Envoy, Filter};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;
use crate::support::wasm;

/// Routes by every kind of condition, each with its name.
const ROUTES: &str = "\
- {name: exact, match: [{uri: {exact: /exact}}], route: [{destination: {host: app.test}}]}
- {name: header, match: [{headers: {x-user: {exact: alpha}}}], route: [{destination: {host: app.test}}]}
- {name: method, match: [{uri: {prefix: /api}, method: {exact: POST}}], route: [{destination: {host: app.test}}]}
- {name: query, match: [{uri: {prefix: /api}, queryParams: {v: {exact: '2'}}}], route: [{destination: {host: app.test}}]}
- {name: without, match: [{uri: {prefix: /api}, withoutHeaders: {x-key: {}}}], route: [{destination: {host: app.test}}]}
- {name: regex, match: [{uri: {regex: '/item/[0-9]+'}}], route: [{destination: {host: app.test}}]}
- {name: case, match: [{uri: {prefix: /Upper}, ignoreUriCase: true}], route: [{destination: {host: app.test}}]}
- {name: host, match: [{authority: {prefix: shop.}}], route: [{destination: {host: app.test}}]}
- {name: rest, match: [{uri: {prefix: /rest}}], route: [{destination: {host: app.test}}]}
";

/// A split whose second part is a fifth; users with a name keep their destination.
const SPLIT: &str = "\
- route:
  - {destination: {host: app.test, subset: v1}, weight: 80}
  - {destination: {host: app.test, subset: v2}, weight: 20}
";
const KEEPS_USERS: &str =
    "  annotations: {portolan.dev/sticky-header: x-user}\nspec:\n  hosts:\n  - '*'\n  gateways:\n";

/// Portolan as it is, and Envoy with the bundled filters and what shows their decisions.
struct Both {
    gateway: Gateway,
    envoy: Envoy,
    model: Model,
    _app: [Upstream; 2],
    _modules: TempDir,
}

impl Both {
    /// None where Envoy is not installed.
    fn start(rules: &str, policies: &str) -> Option<Self> {
        let binary = envoy::binary()?;
        let app = [Upstream::start("v1"), Upstream::start("v2")];
        let endpoints = [("v1", app[0].address()), ("v2", app[1].address())];
        let routes = routes(rules).replace("spec:\n  hosts:\n  - '*'\n  gateways:\n", KEEPS_USERS);
        let yaml = [ANY_GATEWAY, &routes, &service_entry("app.test", &endpoints), policies].join("---\n");
        let (resources, problems) = read_str("all.yaml", &yaml);
        assert!(problems.is_empty(), "{problems:?}");
        let model = translate(&resources, &TranslateOptions::default()).model;
        let modules = tempfile::tempdir().unwrap();
        let show = |property: &str, header: &str| {
            let module = modules.path().join(header);
            std::fs::write(&module, wasm::showing(property, header)).unwrap();
            filter(header, module, &())
        };
        let filters = [
            filter("route-match", module("route-match"), &RouteMatchConfig::of(&model, false)),
            filter("traffic-split", module("traffic-split"), &TrafficSplitConfig::of(&model)),
            filter("circuit-breaker", module("circuit-breaker"), &CircuitBreakerConfig::of(&model)),
            show("portolan.route", "x-route"),
            show("portolan.cluster", "x-cluster"),
        ];
        let services = [("app.test", app[0].address())];
        let envoy = Envoy::start(
            &binary,
            &envoy::Options { filters: &filters, services: &services, stop_iteration: false, routes: None },
        );
        let gateway = Options::new().file("all.yaml", yaml).start();
        Some(Self { gateway, envoy, model, _app: app, _modules: modules })
    }

    fn in_envoy(&self, request: &Request) -> Response {
        let response = client::send(self.envoy.address(), request).unwrap();
        assert_eq!(response.status, 200, "{request:?}: {response:?}");
        response
    }

    /// The name of the route that `route-match` chose in Envoy.
    fn route(&self, response: &Response) -> Option<&str> {
        let id = number(response.header("x-route")?);
        Some(&self.model.routes[id].name)
    }

    /// The name of the cluster that `traffic-split` chose in Envoy.
    fn cluster(&self, response: &Response) -> &str {
        let property = response.header("x-cluster").expect("a cluster");
        assert_eq!(property.len(), 16, "{property}");
        &self.model.clusters[number(property)].name
    }

    /// Route and cluster that Portolan's access log tells of a request with this target.
    fn in_portolan(&self, request: &Request, target: &str) -> (String, String) {
        self.gateway.send(request);
        let line = self.gateway.await_access(&format!(" {target} HTTP/1.1\""));
        let words: Vec<_> = line.split(' ').collect();
        let cluster = words.iter().find(|word| word.starts_with("outbound|")).copied().unwrap_or("-");
        (words.last().unwrap().to_string(), cluster.to_owned())
    }
}

fn filter(name: &str, module: PathBuf, config: &impl Serialize) -> Filter {
    Filter { name: name.to_owned(), module, config: serde_json::to_string(config).unwrap() }
}

/// The first four bytes, in hex, little-endian.
fn number(hex: &str) -> usize {
    u32::from_str_radix(&hex[..8], 16).unwrap().swap_bytes() as usize
}

#[test]
fn route_match_finds_the_routes_that_portolan_serves() {
    let Some(both) = Both::start(ROUTES, "") else { return };
    let request = |method: &str, host: &str, target: &str| Request::new(method, host, target);
    let requests = [
        ("exact", "/exact?1", request("GET", "h", "/exact?1")),
        ("-", "/exact/2", request("GET", "h", "/exact/2")),
        ("header", "/3", request("GET", "h", "/3").header("x-user", "alpha")),
        ("-", "/4", request("GET", "h", "/4").header("x-user", "beta")),
        ("method", "/api/5", request("POST", "h", "/api/5").body("")),
        ("query", "/api?v=2&n=6", request("GET", "h", "/api?v=2&n=6")),
        ("without", "/api?v=3&n=7", request("GET", "h", "/api?v=3&n=7")),
        ("-", "/api?v=3&n=8", request("GET", "h", "/api?v=3&n=8").header("x-key", "k")),
        ("regex", "/item/9", request("GET", "h", "/item/9")),
        ("-", "/item/ten", request("GET", "h", "/item/ten")),
        ("case", "/uPPer/11", request("GET", "h", "/uPPer/11")),
        ("host", "/12", request("GET", "shop.example.com", "/12")),
        ("rest", "/rest/13", request("GET", "h", "/rest/13")),
        ("rest", "/rest/14?a=%2F", request("GET", "H:80", "/rest/14?a=%2F")),
    ];
    for (expected, target, request) in requests {
        let of_envoy = both.in_envoy(&request);
        assert_eq!(both.route(&of_envoy).unwrap_or("-"), expected, "envoy: {request:?}");
        assert_eq!(both.in_portolan(&request, target).0, expected, "portolan: {request:?}");
    }
}

#[test]
fn traffic_split_chooses_the_destinations_that_portolan_serves() {
    let policy = policy("app.test", "connectionPool: {http: {http1MaxPendingRequests: 1024}}\n");
    let subsets = "  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n";
    let Some(both) = Both::start(SPLIT, &(policy + subsets)) else { return };
    let mut of_second = [0, 0];
    for number in 0..100 {
        let target = format!("/split/{number}/");
        let request = Request::get("h", &target);
        let chosen = [both.cluster(&both.in_envoy(&request)).to_owned(), both.in_portolan(&request, &target).1];
        for (count, cluster) in of_second.iter_mut().zip(&chosen) {
            assert!(["outbound|80|v1|app.test", "outbound|80|v2|app.test"].contains(&cluster.as_str()), "{cluster}");
            *count += usize::from(cluster.contains("|v2|"));
        }
    }
    // Two workers of Portolan share the 100 requests: each is off by one at most.
    assert!(of_second.iter().all(|count| (18..=22).contains(count)), "{of_second:?}");
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..40 {
        let target = format!("/user/{user}/");
        let request = Request::get("h", &target).header("x-user", format!("user-{user}"));
        let of_envoy = both.in_envoy(&request);
        assert_eq!(both.cluster(&of_envoy), both.in_portolan(&request, &target).1, "{user}");
        seen.insert(both.cluster(&of_envoy).to_owned());
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[test]
fn circuit_breaker_does_no_harm_where_its_functions_are_missing() {
    let limits = "connectionPool: {http: {http1MaxPendingRequests: 1, http2MaxRequests: 1}}\n\
                  outlierDetection: {consecutive5xxErrors: 1}\n";
    let Some(both) = Both::start("- route: [{destination: {host: app.test}}]\n", &policy("app.test", limits)) else {
        return;
    };
    let breaker = CircuitBreakerConfig::of(&both.model);
    assert!(breaker.clusters.iter().flatten().any(|breaker| breaker.outlier.is_some()), "{breaker:?}");
    let request = Request::get("h", "/").order("status 503");
    for _ in 0..3 {
        let response = client::send(both.envoy.address(), &request).unwrap();
        assert_eq!((response.status, response.upstream()), (503, "v1"), "{response:?}");
        both.in_envoy(&Request::get("h", "/"));
    }
    let log = both.envoy.log();
    assert!(log.contains("circuit-breaker: proxy_call_foreign_function: not found"), "{log}");
}
