//! Load balancing: the same endpoints in Envoy and in Portolan, and which of them gets a request.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, policy, routes};
use crate::support::envoy::{self, Envoy};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// What the distributions are compared on.
const KEYS: usize = 10_000;

/// Both gateways in front of the same upstreams, which are named by their place.
struct Both {
    envoy: Envoy,
    portolan: Gateway,
    _upstreams: Vec<Upstream>,
}

/// One connection to each.
struct Connections {
    envoy: Connection,
    portolan: Connection,
}

/// What a pair of gateways differs in from another pair.
struct Setting<'a> {
    weights: &'a [u32],
    /// Of the cluster and of the route, in Envoy's terms.
    cluster: Value,
    route: Value,
    /// The same in Istio's.
    load_balancer: &'a str,
    /// Further lines of the rule.
    rule: &'a str,
}

impl Both {
    fn start(setting: &Setting<'_>) -> Option<Self> {
        let binary = envoy::binary()?;
        let upstreams: Vec<_> = (0..setting.weights.len()).map(|i| Upstream::start(&i.to_string())).collect();
        let endpoints: Vec<_> = upstreams.iter().map(Upstream::address).zip(setting.weights.iter().copied()).collect();
        let envoy = Envoy::start_as(&binary, |http, admin| configuration(setting, &endpoints, http, admin));
        let rule = format!("- route: [{{destination: {{host: app.test}}}}]\n{}", setting.rule);
        let portolan = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes(&rule))
            .file("app.yaml", weighted_entry(&endpoints))
            .file("policy.yaml", policy("app.test", &format!("loadBalancer: {}", setting.load_balancer)))
            .start();
        Some(Self { envoy, portolan, _upstreams: upstreams })
    }

    fn connect(&self) -> Connections {
        let envoy = Connection::open(self.envoy.address()).unwrap();
        Connections { envoy, portolan: Connection::open(self.portolan.address()).unwrap() }
    }

    /// Asserts that each request goes to the same endpoint; requests by endpoint.
    fn same(&self, requests: impl Iterator<Item = Request>) -> Vec<usize> {
        let mut connections = self.connect();
        let mut counts = vec![0; self._upstreams.len()];
        for request in requests {
            let (there, here) = connections.both(&request);
            assert_eq!(there, here, "{request:?}");
            counts[here] += 1;
        }
        counts
    }

    /// Requests by endpoint: in Envoy, and here.
    fn counts(&self, number: usize) -> [Vec<usize>; 2] {
        let mut connections = self.connect();
        let mut counts = [vec![0; self._upstreams.len()], vec![0; self._upstreams.len()]];
        for _ in 0..number {
            let (there, here) = connections.both(&Request::get("app.test", "/"));
            counts[0][there] += 1;
            counts[1][here] += 1;
        }
        counts
    }
}

impl Connections {
    fn both(&mut self, request: &Request) -> (usize, usize) {
        let of = |connection: &mut Connection| connection.request(request).unwrap().upstream().parse().unwrap();
        (of(&mut self.envoy), of(&mut self.portolan))
    }
}

fn configuration(setting: &Setting<'_>, endpoints: &[(SocketAddr, u32)], http: SocketAddr, admin: SocketAddr) -> Value {
    let address = |a: SocketAddr| json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}});
    let endpoint = |(at, weight): &(SocketAddr, u32)| json!({"endpoint": {"address": address(*at)}, "load_balancing_weight": weight});
    let mut cluster = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "app",
            "endpoints": [{"lb_endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}],
        },
    });
    merge(&mut cluster, &setting.cluster);
    let mut action = json!({"cluster": "app", "timeout": "0s"});
    let mut route = json!({"match": {"prefix": "/"}});
    merge(&mut action, &setting.route["route"]);
    merge(&mut route, &setting.route["beside"]);
    route["route"] = action;
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "use_remote_address": true,
        "http_filters": [{
            "name": "router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [route]}]},
    });
    let filters = json!([{"name": "http", "typed_config": manager}]);
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "clusters": [cluster],
            "listeners": [{"name": "http", "address": address(http), "filter_chains": [{"filters": filters}]}],
        },
    })
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn weighted_entry(endpoints: &[(SocketAddr, u32)]) -> String {
    let mut text = crate::support::config::service_entry("app.test", &[]);
    for (address, weight) in endpoints {
        let (ip, port) = (address.ip(), address.port());
        text.push_str(&format!("  - {{address: {ip}, weight: {weight}, ports: {{http: {port}}}}}\n"));
    }
    text
}

fn by_header() -> Value {
    json!({"route": {"hash_policy": [{"header": {"header_name": "x-user"}}]}})
}

fn keyed(number: usize) -> Request {
    Request::get("app.test", "/").header("x-user", format!("user-{number}"))
}

const TEN: &[u32] = &[1; 10];

#[test]
fn a_ring_sends_each_of_ten_thousand_keys_where_envoys_does() {
    let setting = Setting {
        weights: TEN,
        cluster: json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}}),
        route: by_header(),
        load_balancer: "{consistentHash: {httpHeaderName: x-user}}",
        rule: "",
    };
    let Some(both) = Both::start(&setting) else { return };
    let counts = both.same((0..KEYS).map(keyed));
    assert_eq!(counts.iter().sum::<usize>(), KEYS);
}

#[test]
fn maglev_sends_each_of_ten_thousand_keys_where_envoys_does() {
    let setting = Setting {
        weights: TEN,
        cluster: json!({"lb_policy": "MAGLEV"}),
        route: by_header(),
        load_balancer: "{consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 65537}}}",
        rule: "",
    };
    let Some(both) = Both::start(&setting) else { return };
    let counts = both.same((0..KEYS).map(keyed));
    assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
}

#[test]
fn weights_and_sizes_of_tables_agree() {
    for (cluster, load_balancer) in [
        (
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 77}}),
            "{consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 77}}}",
        ),
        (
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 1009}}),
            "{consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 1009}}}",
        ),
    ] {
        let setting = Setting { weights: &[5, 1, 3, 7], cluster, route: by_header(), load_balancer, rule: "" };
        let Some(both) = Both::start(&setting) else { return };
        both.same((0..1_000).map(keyed));
    }
}

#[test]
fn what_is_hashed_is_the_same() {
    let by_cookie = json!({"cookie": {"name": "user", "ttl": "60s", "path": "/shop"}});
    let policies = [
        (by_header()["route"]["hash_policy"][0].clone(), "httpHeaderName: X-User"),
        (by_cookie, "httpCookie: {name: user, ttl: 60s, path: /shop}"),
        (json!({"query_parameter": {"name": "user"}}), "httpQueryParameterName: user"),
        (json!({"header": {"header_name": ":path"}}), "httpHeaderName: ':path'"),
        (json!({"header": {"header_name": ":method"}}), "httpHeaderName: ':method'"),
        (json!({"header": {"header_name": ":authority"}}), "httpHeaderName: ':authority'"),
    ];
    for (policy, hash) in policies {
        let load_balancer = format!("{{consistentHash: {{{hash}, maglev: {{}}}}}}");
        let setting = Setting {
            weights: TEN,
            cluster: json!({"lb_policy": "MAGLEV"}),
            route: json!({"route": {"hash_policy": [policy]}}),
            load_balancer: &load_balancer,
            rule: "",
        };
        let Some(both) = Both::start(&setting) else { return };
        both.same((0..60).map(|number| {
            let request = Request::get("app.test", &format!("/a?b=1&user=u%20{number}&user=x"));
            let request = request.header("x-user", format!("u{}", number % 7)).header("x-user", format!("v{number}"));
            request.header("cookie", format!("a=b; user=\"c{number}\"; user=other"))
        }));
    }
}

#[test]
fn what_the_route_sets_is_hashed() {
    let setting = Setting {
        weights: TEN,
        cluster: json!({"lb_policy": "MAGLEV"}),
        route: json!({
            "route": {"hash_policy": [{"header": {"header_name": "x-user"}}]},
            "beside": {"request_headers_to_add": [{
                "header": {"key": "x-user", "value": "set"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }]},
        }),
        load_balancer: "{consistentHash: {httpHeaderName: x-user, maglev: {tableSize: 65537}}}",
        rule: "  headers: {request: {set: {x-user: set}}}\n",
    };
    let Some(both) = Both::start(&setting) else { return };
    let counts = both.same((0..20).map(keyed));
    assert_eq!(counts.iter().filter(|count| **count > 0).count(), 1, "{counts:?}");
}

#[test]
fn a_cookie_is_made_with_a_time_to_live_only() {
    for (ttl, written, wanted) in [
        (json!({"ttl": "60s", "path": "/shop"}), "ttl: 60s, path: /shop", Some("; Max-Age=60; Path=/shop; HttpOnly")),
        (json!({"ttl": "0s"}), "ttl: 0s", Some("; HttpOnly")),
        (json!({}), "path: /", None),
    ] {
        let mut cookie = json!({"name": "user"});
        merge(&mut cookie, &ttl);
        let load_balancer = format!("{{consistentHash: {{httpCookie: {{name: user, {written}}}}}}}");
        let setting = Setting {
            weights: TEN,
            cluster: json!({"lb_policy": "RING_HASH"}),
            route: json!({"route": {"hash_policy": [{"cookie": cookie}]}}),
            load_balancer: &load_balancer,
            rule: "",
        };
        let Some(both) = Both::start(&setting) else { return };
        let mut connections = both.connect();
        for connection in [&mut connections.envoy, &mut connections.portolan] {
            let mut request = || connection.request(&Request::get("app.test", "/shop")).unwrap();
            let (first, second) = (request(), request());
            let made = |response: &crate::support::client::Response| response.header("set-cookie").map(str::to_owned);
            assert_eq!(made(&first), made(&second), "one value for a connection");
            let end = made(&first).map(|text| text.split_at(text.find(';').unwrap()).1.to_owned());
            assert_eq!(end.as_deref(), wanted);
            let Some(pair) = made(&first).map(|text| text[..text.find(';').unwrap()].to_owned()) else { continue };
            assert_eq!(pair.len(), "user=".len() + 18, "sixteen digits in quotes: {pair}");
            let kept = Request::get("app.test", "/shop").header("cookie", &pair);
            let response = connection.request(&kept).unwrap();
            assert_eq!((response.upstream(), response.header("set-cookie")), (first.upstream(), None));
        }
    }
}

#[test]
fn weighted_turns_are_exact_and_random_knows_no_weights() {
    let weights = &[5, 3, 2];
    let exact = |counts: &[usize]| counts.iter().zip([500, 300, 200]).all(|(a, b)| a.abs_diff(b) <= 2);
    for (policy, written) in [("ROUND_ROBIN", "{simple: ROUND_ROBIN}"), ("LEAST_REQUEST", "{simple: LEAST_CONN}")] {
        let cluster = json!({"lb_policy": policy});
        let setting = Setting { weights, cluster, route: json!({}), load_balancer: written, rule: "" };
        let Some(both) = Both::start(&setting) else { return };
        let counts = both.counts(1_000);
        assert!(counts.iter().all(|counts| exact(counts)), "{policy}: {counts:?}");
    }
    let cluster = json!({"lb_policy": "RANDOM"});
    let setting = Setting { weights, cluster, route: json!({}), load_balancer: "{simple: RANDOM}", rule: "" };
    let Some(both) = Both::start(&setting) else { return };
    let counts = both.counts(1_500);
    assert!(counts.iter().flatten().all(|count| (400..600).contains(count)), "{counts:?}");
}
