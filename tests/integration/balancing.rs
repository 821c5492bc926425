//! What `loadBalancer` and the outlier detection beside it promise: places, consistency, and which failures count.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::support::client::{Connection, Request};
use crate::support::config::{ANY_GATEWAY, policy, routes};
use crate::support::gateway::{Gateway, Options};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

/// A ServiceEntry whose endpoints have these further fields.
fn entry(endpoints: &[(SocketAddr, &str)]) -> String {
    let mut text = crate::support::config::service_entry("app.test", &[]);
    for (address, fields) in endpoints {
        text.push_str(&format!("  - {{address: {}, ports: {{http: {}}}{fields}}}\n", address.ip(), address.port()));
    }
    text
}

fn gateway(block: &str, endpoints: &[(SocketAddr, &str)]) -> Gateway {
    options(block, endpoints).start()
}

fn options(block: &str, endpoints: &[(SocketAddr, &str)]) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n  retries: {attempts: 0}\n"))
        .file("app.yaml", entry(endpoints))
        .file("policy.yaml", policy("app.test", block))
}

/// Requests on one connection, by who answered; failures by their status.
fn answers(connection: &mut Connection, number: usize) -> HashMap<String, usize> {
    let mut answers = HashMap::new();
    for _ in 0..number {
        let response = connection.request(&Request::get("h", "/")).unwrap();
        let who = if response.status == 200 { response.upstream().to_owned() } else { response.status.to_string() };
        *answers.entry(who).or_default() += 1;
    }
    answers
}

fn counted(expected: &[(&str, usize)]) -> HashMap<String, usize> {
    expected.iter().map(|(who, number)| ((*who).to_owned(), *number)).collect()
}

#[test]
fn requests_stay_in_the_gateways_zone_and_fail_over_to_the_next_place() {
    let [near, same_region, far] = ["near", "region", "far"].map(Upstream::start);
    let endpoints = [
        (far.address(), ", locality: us/us-1"),
        (same_region.address(), ", locality: eu/eu-2"),
        (near.address(), ", locality: eu/eu-1"),
    ];
    let block = "\
loadBalancer: {simple: ROUND_ROBIN}
outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 100}
";
    let gateway = options(block, &endpoints).argument("--locality").argument("eu/eu-1").start();
    let mut connection = gateway.connect();
    assert_eq!(answers(&mut connection, 20), counted(&[("near", 20)]));
    near.always("status 500");
    assert_eq!(answers(&mut connection, 20), counted(&[("500", 1), ("region", 19)]));
    same_region.always("status 500");
    assert_eq!(answers(&mut connection, 20), counted(&[("500", 1), ("far", 19)]));
}

#[test]
fn retries_go_to_remote_localities_when_asked_for() {
    let [near, far] = ["near", "far"].map(Upstream::start);
    let endpoints = [(far.address(), ", locality: us/us-1"), (near.address(), ", locality: eu/eu-1")];
    // Nobody is ejected: the near one stays the first choice.
    let block = "outlierDetection: {consecutive5xxErrors: 1000}\n";
    near.always("status 500");
    let retries = |more: &str| {
        routes(&format!(
            "- route: [{{destination: {{host: app.test}}}}]\n  retries: {{attempts: 2, retryOn: 5xx, backoff: 1ms{more}}}\n"
        ))
    };
    let options = options(block, &endpoints).argument("--locality").argument("eu/eu-1");
    let gateway = options.file("routes.yaml", retries("")).start();
    assert_eq!((gateway.get("h", "/").status, near.requests(), far.requests()), (500, 3, 0));
    gateway.replace("routes.yaml", retries(", retryRemoteLocalities: true"));
    gateway.await_answer("h", "/", |response| response.status == 200 && response.upstream() == "far");
    let before = near.requests();
    assert_eq!(gateway.get("h", "/").upstream(), "far");
    assert_eq!(near.requests() - before, 2, "after every second try");
}

#[test]
fn without_outlier_detection_places_do_not_matter() {
    let [near, far] = ["near", "far"].map(Upstream::start);
    let endpoints = [(far.address(), ", locality: us/us-1"), (near.address(), ", locality: eu/eu-1")];
    let block = "loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {failover: [{from: eu, to: us}]}}";
    let gateway = options(block, &endpoints).argument("--locality").argument("eu/eu-1").start();
    assert_eq!(answers(&mut gateway.connect(), 20), counted(&[("near", 10), ("far", 10)]));
}

#[test]
fn traffic_is_distributed_over_places_by_weight() {
    let [one, two, three] = ["one", "two", "three"].map(Upstream::start);
    let endpoints = [
        (one.address(), ", locality: eu/eu-1"),
        (two.address(), ", locality: eu/eu-2"),
        (three.address(), ", locality: us/us-1"),
    ];
    let block = "\
loadBalancer:
  simple: ROUND_ROBIN
  localityLbSetting:
    distribute:
    - {from: us/*, to: {us/*: 100}}
    - {from: eu/*, to: {eu/eu-1/*: 80, eu/eu-2/*: 20}}
";
    let gateway = options(block, &endpoints).argument("--locality").argument("eu/eu-1").start();
    let answers = answers(&mut gateway.connect(), 100);
    assert!(answers["one"].abs_diff(80) <= 1 && answers["two"].abs_diff(20) <= 1, "{answers:?}");
    assert_eq!(answers.len(), 2);
}

#[test]
fn requests_go_to_the_zone_that_the_service_prefers() {
    let [near, far] = ["near", "far"].map(Upstream::start);
    let slice = |name: &str, zone: &str, address: SocketAddr| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  labels: \
             {{kubernetes.io/service-name: app}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints: \
             [{{addresses: ['{}'], zone: {zone}}}]\n",
            address.port(),
            address.ip()
        )
    };
    let service = |field: &str| {
        let kind = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: app{field}\n");
        kind + &slice("far", "b", far.address()) + &slice("near", "a", near.address())
    };
    let ports = "ports: [{name: http, port: 80}]";
    let options = |field: &str| {
        Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app}}]\n"))
            .file("app.yaml", service(field))
            .argument("--locality")
            .argument("eu/a")
    };
    let everywhere = options(&format!("}}\nspec: {{{ports}}}")).start();
    assert_eq!(answers(&mut everywhere.connect(), 20).len(), 2);
    let annotation = ", annotations: {networking.istio.io/traffic-distribution: preferclose}}\nspec:";
    for field in
        [format!("}}\nspec: {{trafficDistribution: PreferSameZone, {ports}}}"), format!("{annotation} {{{ports}}}")]
    {
        let gateway = options(&field).start();
        assert_eq!(answers(&mut gateway.connect(), 20), counted(&[("near", 20)]), "{field}");
    }
}

#[test]
fn labels_decide_who_comes_first() {
    let [same, other] = ["same", "other"].map(Upstream::start);
    let endpoints = [
        (other.address(), ", labels: {version: v2, tier: gold}"),
        (same.address(), ", labels: {version: v1, tier: gold}"),
    ];
    let block = "\
loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {failoverPriority: [tier=gold, version]}}
outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 100}
";
    let labels = ["--label", "istio=ingressgateway", "--label", "version=v1"];
    let gateway = labels.into_iter().fold(options(block, &endpoints), Options::argument).start();
    let mut connection = gateway.connect();
    assert_eq!(answers(&mut connection, 10), counted(&[("same", 10)]));
    same.always("status 503");
    assert_eq!(answers(&mut connection, 10), counted(&[("503", 1), ("other", 9)]));
}

#[test]
fn failures_that_are_no_answer_count_apart_when_split() {
    let (closed, bad, good) = (Port::free(), Upstream::start("bad"), Upstream::start("good"));
    bad.always("status 502");
    let endpoints = [(closed.address(), ""), (bad.address(), ""), (good.address(), "")];
    let block = "\
loadBalancer: {simple: ROUND_ROBIN}
outlierDetection:
  splitExternalLocalOriginErrors: true
  consecutiveLocalOriginFailures: 3
  consecutive5xxErrors: 1
  baseEjectionTime: 60s
  maxEjectionPercent: 100
";
    let gateway = gateway(block, &endpoints);
    let answers = answers(&mut gateway.connect(), 40);
    assert_eq!(answers, counted(&[("503", 3), ("502", 1), ("good", 36)]));
}

#[test]
fn a_key_keeps_its_endpoint_over_connections_and_finds_another_when_that_is_ejected() {
    let upstreams: Vec<_> = (0..4).map(|number| Upstream::start(&number.to_string())).collect();
    let endpoints: Vec<_> = upstreams.iter().map(|upstream| (upstream.address(), "")).collect();
    for table in ["ringHash: {minimumRingSize: 512}", "maglev: {tableSize: 1009}"] {
        let block = format!(
            "loadBalancer: {{consistentHash: {{httpHeaderName: x-user, {table}}}}}\noutlierDetection: \
             {{consecutive5xxErrors: 1, baseEjectionTime: 60s, maxEjectionPercent: 100}}\n"
        );
        let gateway = gateway(&block, &endpoints);
        let of = |key: usize| gateway.send(&Request::get("h", "/").header("x-user", format!("key-{key}")));
        let first: Vec<String> = (0..40).map(|key| of(key).upstream().to_owned()).collect();
        let second: Vec<String> = (0..40).map(|key| of(key).upstream().to_owned()).collect();
        assert_eq!(first, second);
        let victim: usize = first[0].parse().unwrap();
        upstreams[victim].always("status 500");
        assert_eq!(of(0).status, 500);
        upstreams[victim].always("");
        for key in 0..40 {
            assert_ne!(of(key).upstream(), victim.to_string(), "ejected");
        }
        let kept = (0..40).filter(|key| of(*key).upstream() == first[*key]).count();
        let others = first.iter().filter(|who| **who != victim.to_string()).count();
        assert!(kept * 10 >= others * 7, "{kept} of {others} keys stay where they were");
    }
}

#[test]
fn the_source_address_is_a_key() {
    let upstreams: Vec<_> = (0..4).map(|number| Upstream::start(&number.to_string())).collect();
    let endpoints: Vec<_> = upstreams.iter().map(|upstream| (upstream.address(), "")).collect();
    let gateway = gateway("loadBalancer: {consistentHash: {useSourceIp: true}}", &endpoints);
    let first = gateway.get("h", "/").upstream().to_owned();
    for _ in 0..20 {
        // What a client says of itself is not believed.
        let claimed = Request::get("h", "/").header("x-forwarded-for", "10.9.8.7");
        assert_eq!(gateway.send(&claimed).upstream(), first);
    }
}

#[test]
fn connections_end_with_their_longest_duration() {
    let app = Upstream::start("app");
    let gateway = gateway("connectionPool: {tcp: {maxConnectionDuration: 1s}}", &[(app.address(), "")]);
    let mut connection = gateway.connect();
    crate::support::await_true("another connection", || {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
        app.connections() > 1
    });
    assert!(app.requests() > app.connections(), "connections are kept until then");
}

#[test]
fn clusters_show_policy_place_and_warm_up() {
    let app = Upstream::start("app");
    let block = "loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1h, minimumPercent: 25}}";
    let gateway = gateway(block, &[(app.address(), ", locality: eu/eu-1/rack, weight: 3")]);
    let text = gateway.admin("/clusters").text();
    let at = format!("outbound|80||app.test::{}", app.address());
    let cluster = "outbound|80||app.test::lb_policy::ROUND_ROBIN".to_owned();
    let fields = ["region::eu", "zone::eu-1", "sub_zone::rack", "priority::0", "weight::3", "warmup_percent::25"];
    for line in fields.iter().map(|field| format!("{at}::{field}")).chain([cluster]) {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
}

#[test]
fn requests_in_flight_go_on_counting_when_their_endpoint_gets_another_weight() {
    let app = Upstream::start("app");
    let block = "connectionPool: {http: {http2MaxRequests: 1}}";
    let gateway = gateway(block, &[(app.address(), "")]);
    let shows = |field: &str| {
        let line = format!("outbound|80||app.test::{}::{field}", app.address());
        gateway.admin("/clusters").text().lines().any(|found| found == line)
    };
    let mut held = gateway.connect();
    let request = Request::get("h", "/").header("x-order", "delay 60000");
    held.send(&request.to_bytes()).unwrap();
    crate::support::await_true("the request", || shows("rq_active::1"));
    gateway.replace("app.yaml", entry(&[(app.address(), ", weight: 7")]));
    crate::support::await_true("the weight", || shows("weight::7"));
    assert!(shows("rq_active::1") && shows("rq_total::1") && shows("cx_active::1"));
    assert_eq!(gateway.get("h", "/").status, 503, "the circuit breaker counts it too");
    drop(held);
    crate::support::await_true("its end", || shows("rq_active::0"));
    assert_eq!(gateway.get("h", "/").status, 200);
}
