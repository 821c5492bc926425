//! The URL as it is read, and the whole text of an explanation.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use http::HeaderMap;
use portolan_model::filter::{RouteExplanation, RouteVerdict};
use portolan_model::{
    Address, Cluster, Destination, Endpoint, Forward, Listener, Model, Origin, Route, RouteAction, RouteTable,
    VirtualHost,
};

use portolan_proxy::{ExplainOutcome, MadeAnswer};

use super::making::Asked;
use super::tree::RequestPart;
use super::*;

fn origin(kind: &str, name: &str, line: u32) -> Origin {
    let file = if kind == "Gateway" { "gateway.yaml" } else { "routes.yaml" };
    Origin::at(kind.to_owned(), &format!("default/{name}"), file, line, 1)
}

fn cluster(version: &str, ports: &[u16]) -> Cluster {
    let endpoint = |port: &u16| Endpoint {
        address: Address::Socket(([127, 0, 0, 1], *port).into()),
        weight: 1,
        locality: String::new(),
        priority: 0,
        locality_weight: None,
        workload: None,
        origin: Origin::default(),
    };
    Cluster {
        name: format!("outbound|7070|{version}|app.default.svc.cluster.local"),
        discovery: portolan_model::Discovery::default(),
        dynamic: None,
        dns_refresh_rate_ms: None,
        undefined: false,
        endpoints: ports.iter().map(endpoint).collect(),
        lb_policy: Default::default(),
        hash_policy: None,
        slow_start: None,
        connect_timeout_ms: 10_000,
        idle_timeout_ms: 3_600_000,
        max_connection_duration_ms: None,
        max_requests_per_connection: 0,
        circuit_breakers: Default::default(),
        outlier_detection: None,
        health_check: None,
        transport: Default::default(),
        retry_budget: None,
        origin: origin("DestinationRule", "app", 31),
        policy_origin: None,
    }
}

fn model() -> Model {
    let destination = |(cluster, weight): (u32, u32)| Destination {
        cluster,
        cluster_name: format!("outbound|7070|v{}|app.default.svc.cluster.local", cluster + 1).into(),
        weight,
        headers: Default::default(),
        origin: origin("VirtualService", "app", 27 + cluster),
    };
    let forward = Forward {
        destinations: [(0, 80), (1, 20)].map(destination).into(),
        timeout_ms: Some(5000),
        ..Forward::default()
    };
    let route = |line| Route {
        name: "default".to_owned(),
        matches: Default::default(),
        action: RouteAction::Forward(Box::new(forward.clone())),
        origin: origin("VirtualService", "app", line),
        delegated_from: None,
    };
    let host = VirtualHost {
        name: "*:80".to_owned(),
        domain: "*".to_owned(),
        routes: vec![0, 1, 2],
        origin: origin("VirtualService", "app", 5),
    };
    Model {
        listeners: vec![Listener {
            name: "0.0.0.0_8080".to_owned(),
            address: ([0, 0, 0, 0], 8080).into(),
            server_port: 80,
            route_table: 0,
            tcp: None,
            filter_chains: Vec::new(),
            proxy_headers: None,
            limits: Default::default(),
            origins: vec![origin("Gateway", "main", 9)],
        }],
        route_tables: vec![RouteTable {
            name: "http.80".to_owned(),
            virtual_hosts: vec![host],
            ..RouteTable::default()
        }],
        routes: [12, 18, 24].map(|line| Arc::new(route(line))).into(),
        clusters: vec![cluster("v1", &[9001, 9003]), cluster("v2", &[])],
        ..Model::default()
    }
}

fn explanation(verdicts: &[(&str, &str)], route: Option<u32>) -> Explanation {
    let verdict = |(route, (verdict, reason)): (u32, &(&str, &str))| RouteVerdict {
        route,
        verdict: (*verdict).to_owned(),
        reason: (*reason).to_owned(),
    };
    let outcome = ExplainOutcome {
        route,
        explanation: Some(RouteExplanation {
            host: Some("*".to_owned()),
            host_kind: Some("any".to_owned()),
            routes: (0..).zip(verdicts).map(verdict).collect(),
        }),
        answer: route.is_none().then(|| MadeAnswer {
            status: 404,
            details: "route_not_found".to_owned(),
            headers: HeaderMap::new(),
            body: Default::default(),
        }),
        ..ExplainOutcome::default()
    };
    let request = RequestPart { method: "GET".into(), authority: "shop".into(), path: "/api/cart".into() };
    let asked = Asked { request, headers: &HeaderMap::new(), listener: 0, outcome };
    Explanation::new(&model(), asked, &[])
}

#[test]
fn a_match_is_told_with_every_line_that_caused_it() {
    let verdicts = [
        ("no", "headers x-user: wants exact \"alpha\", got \"beta\""),
        ("yes", "uri prefix \"/api\""),
        ("not reached", ""),
    ];
    let expected = "\
request     GET shop/api/cart
listener    0.0.0.0:8080 HTTP (port 80 of the Gateway)           gateway/main         gateway.yaml:9
host        * (any)                                              virtualservice/app   routes.yaml:5
rules          1  no   headers x-user: wants exact \"alpha\", got \"beta\"                routes.yaml:12
            -> 2  yes  uri prefix \"/api\"                                              routes.yaml:18
               3  not reached                                                         routes.yaml:24
filters     route-match              built in
            traffic-split            built in
            circuit-breaker          built in
split       app v1 80 %                                                               routes.yaml:27
            app v2 20 %                                                               routes.yaml:28
cluster     app v1  2 endpoints  127.0.0.1:9001, 127.0.0.1:9003  destinationrule/app  routes.yaml:31
            app v2  no endpoint                                  destinationrule/app  routes.yaml:31
policy      timeout 5 s
            retries 2 on connect-failure refused-stream cancelled unavailable
answer      sent to app v1 (80 %), 503 no_healthy_upstream for app v2 (20 %)
";
    let text = text::render(&explanation(&verdicts, Some(1)));
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn without_a_match_the_nearest_rule_is_named() {
    let verdicts = [
        ("no", "uri: wants prefix \"/x\", path is \"/api/cart\""),
        ("no", "method: wants exact \"PUT\", got \"GET\""),
        ("no", "uri: wants exact \"/\", path is \"/api/cart\""),
    ];
    let answer = explanation(&verdicts, None).answer;
    assert_eq!(answer.status, Some(404));
    assert_eq!(
        answer.text,
        "404 with an empty body; nearest rule 2 (routes.yaml:18): method: wants exact \"PUT\", got \"GET\""
    );
}

#[test]
fn long_lists_of_lost_rules_are_shortened() {
    let verdicts = vec![("no", "uri: wants prefix \"/x\", path is \"/\""); 50];
    let text = text::render(&explanation(&verdicts, None));
    assert!(text.contains("... 30 rules that did not match"), "{text}");
    assert!(text.lines().count() < 40);
}

#[test]
fn json_is_the_same_tree() {
    let value = serde_json::to_value(explanation(&[("yes", "")], Some(0))).unwrap();
    assert_eq!(value["rules"][0]["source"]["place"], "routes.yaml:12");
    assert_eq!(value["split"][1]["percent"], 20.0);
    assert_eq!(value["schema"], 1);
}

#[test]
fn urls_pick_listener_host_and_path() {
    let question = |url: &str| Question::parse(url, "GET", &[]).unwrap();
    let expected = |port, authority: &str, path: &str| Question {
        port,
        authority: authority.to_owned(),
        server_name: None,
        path: path.to_owned(),
        method: "GET".to_owned(),
        headers: Vec::new(),
    };
    assert_eq!(question("http://shop.example.com:8080/api?x=1"), expected(8080, "shop.example.com:8080", "/api?x=1"));
    assert_eq!(question("shop/api"), expected(80, "shop", "/api"));
    assert_eq!(question("https://shop"), expected(443, "shop", "/"));
    let host = [("host".to_owned(), "other".to_owned())];
    assert_eq!(Question::parse("http://127.0.0.1:8080/", "GET", &host).unwrap(), expected(8080, "other", "/"));
    let named = Question::parse("https://name/", "GET", &host).unwrap();
    assert_eq!(named, Question { server_name: Some("name".to_owned()), ..expected(443, "other", "/") });
    let query = named.to_query();
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(Question::of_query(&pairs).unwrap(), named);
    assert!(Question::parse("ftp://x", "GET", &[]).is_err() && Question::parse("http:///x", "GET", &[]).is_err());
}
