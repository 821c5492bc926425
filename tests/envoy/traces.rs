//! Traces: what upstreams are told, and what a collector gets, from Envoy and from Portolan for the same requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::await_some;
use crate::support::client::{self, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::envoy::{self, Envoy};
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::otlp::{self, Span};
use crate::support::ports::Port;
use crate::support::upstream::Upstream;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

/// Everything is sampled that has no parent; cluster names are Istio's.
fn configuration(app: SocketAddr, down: SocketAddr, otel: SocketAddr, http: SocketAddr, admin: SocketAddr) -> Value {
    let socket = |at: SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let cluster = |host: &str, at: SocketAddr| {
        let name = format!("outbound|80||{host}");
        json!({
            "name": name, "alt_stat_name": format!("{name};"), "type": "STATIC",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(at)}}]}]},
        })
    };
    let mut collector = cluster("otel.test", otel);
    collector["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    });
    let route = |path: Value, host: &str, operation: &str| json!({"match": path, "decorator": {"operation": operation}, "route": {"cluster": format!("outbound|80||{host}")}});
    json!({
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{
                "address": socket(http),
                "traffic_direction": "OUTBOUND",
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                        "stat_prefix": "outbound",
                        "use_remote_address": true,
                        "tracing": tracing(),
                        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [
                            {"match": {"prefix": "/direct"}, "decorator": {"operation": "routes:80/direct*"},
                             "direct_response": {"status": 503}},
                            route(json!({"prefix": "/down"}), "down.test", "down.test:80/down*"),
                            route(json!({"prefix": "/ok"}), "app.test", "app.test:80/ok*"),
                        ]}]},
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                        }],
                    },
                }]}],
            }],
            "clusters": [cluster("app.test", app), cluster("down.test", down), collector],
        },
        "node": {"id": "router~0.0.0.0~gateway~test", "cluster": "istio-ingressgateway.istio-system"},
    })
}

/// As Istio sets it up.
fn tracing() -> Value {
    let literal = |name: &str, value: &str| json!({"tag": name, "literal": {"value": value}});
    json!({
        "client_sampling": {"value": 100}, "overall_sampling": {"value": 100},
        "random_sampling": {"value": 100}, "spawn_upstream_span": true,
        "custom_tags": [
            literal("istio.canonical_revision", "latest"), literal("istio.canonical_service", "unknown"),
            literal("istio.cluster_id", "unknown"), literal("istio.mesh_id", "unknown"),
            literal("istio.namespace", "istio-system"),
            {"tag": "team", "request_header": {"name": "x-team", "default_value": "nobody"}},
        ],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "istio-ingressgateway.istio-system",
                "grpc_service": {"envoy_grpc": {"cluster_name": "outbound|80||otel.test", "authority": "otel.test"}},
            },
        },
    })
}

/// What of spans is the same: numbers and times aside, and who the proxy is. By request and kind.
fn comparable(spans: &[Span]) -> BTreeMap<(String, u64), Value> {
    let url = |span: &Span| {
        let above = spans.iter().find(|other| other.kind == 2 && (other.id == span.id || other.id == span.parent));
        let url = above.map(|above| above.tag("http.url").to_owned()).unwrap_or_default();
        url.rsplit_once("h/").map_or(url.clone(), |(_, path)| path.to_owned())
    };
    let one = |span: &Span| {
        let mut tags = span.attributes.clone();
        // The upstream tells what it has seen, of which some is said otherwise.
        for name in ["guid:x-request-id", "node_id", "zone", "response_size"] {
            tags.remove(name);
        }
        let has_parent = !span.parent.is_empty();
        let told = json!({
            "name": span.name, "state": span.state, "status": span.status, "flags": span.flags, "parent": has_parent,
            "service": span.service, "tags": tags,
        });
        ((url(span), span.kind), told)
    };
    spans.iter().map(one).collect()
}

/// The same in Istio's words.
fn portolan(app: SocketAddr, down: SocketAddr, otel: SocketAddr) -> Gateway {
    let tracing = "extensionProviders: [{name: otel, opentelemetry: {service: otel.test, port: 80}}]";
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file(
            "routes.yaml",
            routes(
                "- match: [{uri: {prefix: /direct}}]\n  directResponse: {status: 503}\n\
                 - match: [{uri: {prefix: /down}}]\n  retries: {attempts: 0}\n  route: [{destination: {host: down.test}}]\n\
                 - match: [{uri: {prefix: /ok}}]\n  route: [{destination: {host: app.test}}]\n",
            ),
        )
        .file("app.yaml", service_entry("app.test", &[("v1", app)]))
        .file("down.yaml", service_entry("down.test", &[("v1", down)]))
        .file("otel.yaml", service_entry("otel.test", &[("v1", otel)]))
        .file("mesh.yaml", format!("apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: mesh}}\nspec:\n  meshConfig:\n    {tracing}\n"))
        .file(
            "telemetry.yaml",
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: traces, namespace: istio-system}\nspec:\n  \
             tracing: [{providers: [{name: otel}], randomSamplingPercentage: 100, \
             customTags: {team: {header: {name: x-team, defaultValue: nobody}}}}]\n",
        )
        .start()
}

#[test]
fn the_same_requests_have_the_same_spans() {
    let Some(binary) = envoy::binary() else { return };
    let (app, down) = (Upstream::start("app"), Port::free());
    let (theirs, ours) = (GrpcServer::start(), GrpcServer::start());
    let at = (app.address(), down.address(), theirs.address());
    let envoy = Envoy::start_as(&binary, |http, admin| configuration(at.0, at.1, at.2, http, admin));
    let portolan = portolan(at.0, at.1, ours.address());
    let parent = |path: &str, flags: &str| Request::get("h", path).header("traceparent", format!("{PARENT}{flags}"));
    let requests = [
        Request::get("h", "/ok/plain?a=b").header("user-agent", "tester").header("x-team", "red"),
        Request::new("POST", "h", "/ok/body").body("hello"),
        parent("/ok/parent", "01").header("tracestate", "a=b"),
        parent("/ok/unsampled", "00").header("tracestate", "a=b"),
        parent("/ok/malformed", "0x"),
        Request::get("h", "/ok/state").header("tracestate", "a=b"),
        Request::get("h", "/ok/client").header("x-client-trace-id", "mine"),
        Request::get("h", "/ok/error").order("status 500"),
        Request::get("h", "/ok/gone").order("status 404"),
        Request::get("h", "/direct/x"),
        Request::get("h", "/down/x"),
        Request::get("h", "/nowhere"),
    ];
    for request in &requests {
        let [there, here] =
            [envoy.address(), portolan.address()].map(|address| client::send(address, request).unwrap());
        assert_eq!(there.status, here.status, "{request:?}");
        // Numbers differ, flags and forms do not.
        let told = |name: &str| {
            [&there, &here].map(|response| {
                let value = response.seen(name);
                value.map(|value| if value.len() == 55 { format!("{} {}", value.len(), &value[52..]) } else { value })
            })
        };
        for name in ["traceparent", "tracestate", "x-envoy-decorator-operation", "x-client-trace-id"] {
            let [there, here] = told(name);
            assert_eq!(there, here, "{name} of {request:?}");
        }
        let [there, here] =
            [&there, &here].map(|response| response.seen("x-request-id").map(|id| id[14..15].to_owned()));
        assert_eq!(there, here, "reasons in the id of {request:?}");
    }
    let all = |collector: &GrpcServer| {
        let exports = collector.exports();
        exports.iter().flat_map(|(_, message)| otlp::spans(message)).collect::<Vec<_>>()
    };
    // Ten of the request, and one of a try for all but the direct answer and the missing route.
    let [theirs, ours] = [&theirs, &ours]
        .map(|collector| await_some("all spans", || Some(all(collector)).filter(|spans| spans.len() >= 18)));
    let (theirs, ours) = (comparable(&theirs), comparable(&ours));
    for (request, span) in &theirs {
        assert_eq!(Some(span), ours.get(request), "{request:?}: Envoy's first");
    }
    assert_eq!(theirs.len(), ours.len());
}
