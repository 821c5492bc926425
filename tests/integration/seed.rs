//! The seed's documents, unmodified, route real traffic.

use crate::support::client::Request;
use crate::support::config::{CANARY, DESTINATION_RULE, GATEWAY, HOST, VIRTUAL_SERVICE, app_in_cluster, service_entry};
use crate::support::gateway::Options;
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

#[test]
fn plain_route_takes_the_seed_unmodified() {
    let app = Upstream::start("v1");
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("virtualservice.yaml", VIRTUAL_SERVICE)
        .file("destinationrule.yaml", DESTINATION_RULE)
        .file("app.yaml", app_in_cluster(&[("v1", app.address())]))
        .start();
    let response = gateway.get(HOST, "/some/where?x=1");
    assert_eq!((response.status, response.upstream()), (200, "v1"));
    assert_eq!(response.seen_request_line(), "GET /some/where?x=1 HTTP/1.1");
}

#[test]
fn round_robin_of_the_seed_takes_endpoints_in_turn() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("virtualservice.yaml", VIRTUAL_SERVICE)
        .file("destinationrule.yaml", DESTINATION_RULE)
        .file("app.yaml", app_in_cluster(&[("v1", one.address()), ("v1", two.address())]))
        .start();
    // One connection stays on one worker, and each worker keeps its own turn.
    let mut connection = gateway.connect();
    for _ in 0..100 {
        assert_eq!(connection.request(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    assert_eq!((one.requests(), two.requests()), (50, 50));
}

#[test]
fn canary_of_the_seed_splits_80_to_20_over_2000_requests() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("canary.yaml", CANARY)
        .file("app.yaml", app_in_cluster(&[("v1", v1.address()), ("v2", v2.address())]))
        .start();
    let mut connections: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for number in 0..2000 {
        let response = connections[number % 8].request(&Request::get(HOST, "/")).unwrap();
        assert_eq!(response.status, 200);
    }
    assert_eq!(v1.requests() + v2.requests(), 2000);
    // Four standard deviations of a fair draw are 72; an even split stays closer.
    assert!(v2.requests().abs_diff(400) <= 72, "v2 got {} of 2,000", v2.requests());
}

#[test]
fn canary_of_the_seed_works_with_a_service_entry() {
    let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
    let entry = service_entry("app.default.svc.cluster.local", &[("v1", v1.address()), ("v2", v2.address())])
        .replace("number: 80", "number: 7070");
    let gateway =
        Options::new().file("gateway.yaml", GATEWAY).file("canary.yaml", CANARY).file("app.yaml", entry).start();
    let mut connection = gateway.connect();
    for _ in 0..100 {
        assert_eq!(connection.request(&Request::get(HOST, "/")).unwrap().status, 200);
    }
    assert!((5..=40).contains(&v2.requests()), "v2 got {} of 100", v2.requests());
}

#[test]
fn a_service_that_selects_the_gateway_maps_its_port_to_the_target_port() {
    let app = Upstream::start("v1");
    let target = Port::free();
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: ingress\nspec:\n  selector:\n    istio: ingressgateway\n  ports:\n  \
         - name: http\n    port: 80\n    targetPort: {}\n",
        target.number()
    );
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("virtualservice.yaml", VIRTUAL_SERVICE)
        .file("app.yaml", app_in_cluster(&[("v1", app.address())]))
        .file("ingress.yaml", service)
        .without_port_map()
        .start();
    let response = crate::support::client::send(target.address(), &Request::get(HOST, "/")).unwrap();
    assert_eq!((response.status, response.upstream()), (200, "v1"));
    drop(gateway);
}

#[test]
fn host_is_taken_without_regard_to_case_and_port() {
    let app = Upstream::start("v1");
    let gateway = Options::new()
        .file("gateway.yaml", GATEWAY)
        .file("virtualservice.yaml", VIRTUAL_SERVICE)
        .file("app.yaml", app_in_cluster(&[("v1", app.address())]))
        .start();
    assert_eq!(gateway.get("APP.Example.com:8080", "/").status, 200);
    assert_eq!(gateway.get("other.example.com", "/").status, 404);
}
