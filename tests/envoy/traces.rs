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
use crate::support::upstream::{Seen, Upstream};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

/// What is listened on besides the gateways: an application, one that gets copies, nothing, and a collector, which speaks
/// HTTP/2 or not.
struct Around {
    app: SocketAddr,
    mirror: SocketAddr,
    down: SocketAddr,
    collector: SocketAddr,
    is_http2: bool,
}

/// Everything is sampled that has no parent; cluster names are Istio's.
fn configuration(around: &Around, tracer: &Value, http: SocketAddr, admin: SocketAddr) -> Value {
    let socket = |at: SocketAddr| json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}});
    let cluster = |host: &str, at: SocketAddr| {
        let name = format!("outbound|80||{host}");
        json!({
            "name": name, "alt_stat_name": format!("{name};"), "type": "STATIC",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(at)}}]}]},
        })
    };
    let mut collector = cluster("otel.test", around.collector);
    let protocol = if around.is_http2 { "http2_protocol_options" } else { "http_protocol_options" };
    collector["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {protocol: {}},
        }
    });
    // As Istio mirrors.
    let mirrors = json!([{"cluster": "outbound|80||mirror.test", "trace_sampled": false, "disable_shadow_host_suffix_append": true}]);
    let mut copied = json!({"match": {"prefix": "/copied"}, "decorator": {"operation": "app.test:80/copied*"}, "route": {"cluster": "outbound|80||app.test"}});
    copied["route"]["request_mirror_policies"] = mirrors;
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
                        "tracing": tracing(tracer),
                        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [
                            {"match": {"prefix": "/direct"}, "decorator": {"operation": "routes:80/direct*"},
                             "direct_response": {"status": 503}},
                            copied,
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
            "clusters": [
                cluster("app.test", around.app), cluster("mirror.test", around.mirror),
                cluster("down.test", around.down), collector,
            ],
        },
        "node": {"id": "router~0.0.0.0~gateway~test", "cluster": "istio-ingressgateway.istio-system"},
    })
}

/// As Istio sets it up.
fn tracing(tracer: &Value) -> Value {
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
        "provider": tracer,
    })
}

fn opentelemetry() -> Value {
    json!({
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "service_name": "istio-ingressgateway.istio-system",
            "grpc_service": {"envoy_grpc": {"cluster_name": "outbound|80||otel.test", "authority": "otel.test"}},
        },
    })
}

fn zipkin() -> Value {
    let uri = json!({"uri": "http://otel.test/api/v2/spans", "cluster": "outbound|80||otel.test", "timeout": "5s"});
    json!({
        "name": "envoy.tracers.zipkin",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
            "collector_endpoint_version": "HTTP_JSON",
            "trace_id_128bit": true,
            "shared_span_context": false,
            "collector_service": {"http_uri": uri},
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
fn portolan(around: &Around, kind: &str) -> Gateway {
    let tracing = format!("extensionProviders: [{{name: otel, {kind}: {{service: otel.test, port: 80}}}}]");
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file(
            "routes.yaml",
            routes(
                "- match: [{uri: {prefix: /direct}}]\n  directResponse: {status: 503}\n\
                 - match: [{uri: {prefix: /down}}]\n  retries: {attempts: 0}\n  route: [{destination: {host: down.test}}]\n\
                 - match: [{uri: {prefix: /copied}}]\n  route: [{destination: {host: app.test}}]\n  mirror: {host: mirror.test}\n\
                 - match: [{uri: {prefix: /ok}}]\n  route: [{destination: {host: app.test}}]\n",
            ),
        )
        .file("app.yaml", service_entry("app.test", &[("v1", around.app)]))
        .file("mirror.yaml", service_entry("mirror.test", &[("v1", around.mirror)]))
        .file("down.yaml", service_entry("down.test", &[("v1", around.down)]))
        .file("otel.yaml", service_entry("otel.test", &[("v1", around.collector)]))
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
    let (app_at, down_at) = (app.address(), down.address());
    let around = |collector| Around { app: app_at, mirror: down_at, down: down_at, collector, is_http2: true };
    let of_envoy = around(theirs.address());
    let envoy = Envoy::start_as(&binary, |http, admin| configuration(&of_envoy, &opentelemetry(), http, admin));
    let portolan = portolan(&around(ours.address()), "opentelemetry");
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

/// Spans of Zipkin without numbers and times, and without who the proxy is. By name and path.
fn comparable_json(collector: &Upstream) -> Option<BTreeMap<String, Value>> {
    let messages = collector.seen();
    let all: Vec<Value> =
        messages.iter().flat_map(|seen| serde_json::from_slice::<Vec<Value>>(&seen.body).unwrap()).collect();
    let told = |span: &Value| {
        let mut span = span.clone();
        let above = all
            .iter()
            .find(|other| other["kind"] == "SERVER" && [&span["id"], &span["parentId"]].contains(&&other["id"]));
        let key = format!("{} {}", span["kind"], above.map_or(&Value::Null, |above| &above["tags"]["http.url"]));
        for (name, value) in span.as_object_mut().unwrap() {
            match name.as_str() {
                "id" | "parentId" | "traceId" => *value = json!(value.as_str().unwrap().len()),
                "timestamp" | "duration" => *value = json!(value.is_u64()),
                "localEndpoint" => drop(value.as_object_mut().unwrap().remove("ipv4")),
                "annotations" => *value = value[0]["value"].clone(),
                "tags" => {
                    let tags = value.as_object_mut().unwrap();
                    ["guid:x-request-id", "node_id", "response_size"].iter().for_each(|name| drop(tags.remove(*name)));
                }
                _ => {}
            }
        }
        (key, span)
    };
    // Eight of requests that are sampled, and one below each.
    (all.len() >= 16).then(|| all.iter().map(told).collect())
}

#[test]
fn zipkin_is_told_the_same_and_b3_goes_on_in_its_form() {
    let Some(binary) = envoy::binary() else { return };
    let (app, down) = (Upstream::start("app"), Port::free());
    let collector = || {
        let answer = |_: &Seen| b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
        Upstream::scripted("zipkin", Box::new(answer))
    };
    let (theirs, ours) = (collector(), collector());
    let (app_at, down_at) = (app.address(), down.address());
    let around = |collector| Around { app: app_at, mirror: down_at, down: down_at, collector, is_http2: false };
    let of_envoy = around(theirs.address());
    let envoy = Envoy::start_as(&binary, |http, admin| configuration(&of_envoy, &zipkin(), http, admin));
    let portolan = portolan(&around(ours.address()), "zipkin");
    let (trace, span) = ("463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312");
    let multi =
        |path: &str, trace: &str| Request::get("h", path).header("x-b3-traceid", trace).header("x-b3-spanid", span);
    let requests = [
        Request::get("h", "/ok/plain"),
        multi("/ok/parent", trace).header("x-b3-sampled", "1"),
        multi("/ok/unsampled", trace).header("x-b3-sampled", "0"),
        multi("/ok/undecided", trace),
        multi("/ok/short", &trace[..16]).header("x-b3-sampled", "true"),
        multi("/ok/malformed", "zz").header("x-b3-sampled", "1"),
        Request::get("h", "/ok/single").header("b3", format!("{trace}-{span}-1")),
        Request::get("h", "/ok/single-unsampled").header("b3", "0"),
        Request::get("h", "/ok/unsampled-alone").header("x-b3-sampled", "0"),
        Request::get("h", "/ok/w3c").header("traceparent", format!("{PARENT}00")),
        Request::get("h", "/down/x"),
        Request::get("h", "/ok/error").order("status 500"),
    ];
    for request in &requests {
        let [there, here] =
            [envoy.address(), portolan.address()].map(|address| client::send(address, request).unwrap());
        assert_eq!(there.status, here.status, "{request:?}");
        for name in
            ["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "traceparent", "tracestate"]
        {
            // Numbers that the request has not brought differ, their lengths do not.
            let form = |value: String| {
                let part = |part: &str| {
                    if part.len() >= 16 && !trace.starts_with(part) { part.len().to_string() } else { part.to_owned() }
                };
                value.split('-').map(part).collect::<Vec<_>>().join("-")
            };
            let [there, here] = [&there, &here].map(|response| response.seen(name).map(form));
            assert_eq!(there, here, "{name} of {request:?}");
        }
    }
    let [theirs, ours] = [&theirs, &ours].map(|collector| await_some("all spans", || comparable_json(collector)));
    for (key, span) in &theirs {
        assert_eq!(Some(span), ours.get(key), "{key}: Envoy's first");
    }
    assert_eq!(theirs.len(), ours.len());
}

#[test]
fn mirrors_are_told_the_same_and_have_no_spans() {
    let Some(binary) = envoy::binary() else { return };
    let answer = |_: &Seen| b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
    let scripted = |name| Upstream::scripted(name, Box::new(answer));
    for (kind, tracer) in [("opentelemetry", opentelemetry()), ("zipkin", zipkin())] {
        let (app, down) = (Upstream::start("app"), Port::free());
        let [theirs, ours] = ["theirs", "ours"].map(scripted);
        // Nobody takes spans: what mirrors are told is all that is looked at here.
        let around = |mirror: &Upstream| Around {
            app: app.address(),
            mirror: mirror.address(),
            down: down.address(),
            collector: down.address(),
            is_http2: kind == "opentelemetry",
        };
        let of_envoy = around(&theirs);
        let envoy = Envoy::start_as(&binary, |http, admin| configuration(&of_envoy, &tracer, http, admin));
        let portolan = portolan(&around(&ours), kind);
        let requests = [
            Request::get("h", "/copied/plain"),
            Request::new("POST", "h", "/copied/body").body("hello"),
            Request::get("h", "/copied/parent")
                .header("traceparent", format!("{PARENT}01"))
                .header("tracestate", "a=b"),
            Request::get("h", "/copied/unsampled").header("traceparent", format!("{PARENT}00")),
            Request::get("h", "/copied/malformed").header("traceparent", format!("{PARENT}0x")),
            Request::get("h", "/copied/b3").header("b3", "463ac35c9f6413ad48485a3953bb6124-a2fb4a1d1a96d312-1"),
        ];
        for (at, request) in requests.iter().enumerate() {
            let seen = [(envoy.address(), &theirs), (portolan.address(), &ours)].map(|(address, mirror)| {
                assert_eq!(client::send(address, request).unwrap().status, 200, "{request:?}");
                await_some("a copy", || mirror.seen().get(at).cloned())
            });
            let [there, here] = seen.map(|seen| {
                // Numbers differ, their forms do not.
                let form = |value: &str| {
                    let part = |part: &str| if part.len() >= 16 { part.len().to_string() } else { part.to_owned() };
                    value.split('-').map(part).collect::<Vec<_>>().join("-")
                };
                let told = |name: &str| {
                    name.contains("b3")
                        || name.starts_with("trace")
                        || name == "x-envoy-internal"
                        || name.contains("decorator")
                };
                let headers = seen.headers.iter().filter(|(name, _)| told(name));
                let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.clone(), form(value))).collect();
                (seen.line.clone(), seen.body.clone(), headers)
            });
            assert_eq!(there, here, "{kind}: {request:?}: Envoy's first");
        }
    }
}
