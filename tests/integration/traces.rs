//! Traces: which requests are sampled, what upstreams are told, and what a collector of OpenTelemetry gets.

use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::grpc::GrpcServer;
use crate::support::otlp::{self, Span};
use crate::support::ports::Port;
use crate::support::upstream::{Seen, Upstream};
use crate::support::{await_some, await_true};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// The mesh configuration of the ConfigMap `istio`, with a collector at `otel.test`.
fn mesh(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    \
         extensionProviders:\n    - name: otel\n      opentelemetry: {{service: otel.test, port: 80{more}}}\n"
    )
}

fn telemetry(tracing: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: traces, namespace: istio-system}}\nspec:\n  \
         tracing: {tracing}\n"
    )
}

fn options(app: &Upstream, collector: std::net::SocketAddr, mesh: String, tracing: &str) -> Options {
    let rules = "- name: split\n  match: [{uri: {prefix: /split}}]\n  route:\n  - {destination: {host: app.test}, weight: 1}\n  \
                 - {destination: {host: app.test, subset: none}, weight: 0}\n\
                 - match: [{uri: {prefix: /direct}}]\n  directResponse: {status: 503}\n\
                 - match: [{uri: {exact: /exact}}]\n  rewrite: {uri: /new}\n  route: [{destination: {host: app.test}}]\n\
                 - match: [{uri: {prefix: /down}}]\n  retries: {attempts: 1}\n  route: [{destination: {host: down.test}}]\n\
                 - route: [{destination: {host: app.test}}]\n";
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("down.yaml", service_entry("down.test", &[("v1", Port::free().address())]))
        .file("otel.yaml", service_entry("otel.test", &[("v1", collector)]))
        .file("mesh.yaml", mesh)
        .file("telemetry.yaml", telemetry(tracing))
}

/// Everything is sampled, over gRPC.
const ALL: &str = "[{providers: [{name: otel}], randomSamplingPercentage: 100}]";

fn gateway(app: &Upstream, collector: &GrpcServer, tracing: &str) -> Gateway {
    options(app, collector.address(), mesh(""), tracing).start()
}

/// All spans so far.
fn spans(collector: &GrpcServer) -> Vec<Span> {
    collector.exports().iter().flat_map(|(_, message)| otlp::spans(message)).collect()
}

/// The span of the request for this path, with those below it.
fn await_trace(collector: &GrpcServer, path: &str) -> (Span, Vec<Span>) {
    await_some(&format!("a span of {path}"), || trace(&spans(collector), path))
}

fn trace(all: &[Span], path: &str) -> Option<(Span, Vec<Span>)> {
    let span = all.iter().find(|span| span.kind == 2 && span.tag("http.url").ends_with(path))?.clone();
    let below = all.iter().filter(|other| other.parent == span.id).cloned().collect();
    Some((span, below))
}

#[test]
fn a_sampled_request_has_a_span_and_its_try_one_below_it() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let gateway = gateway(&app, &collector, ALL);
    let asked = Request::new("POST", "shop.example.com", "/a?b=c").header("user-agent", "tester").body("hello");
    let response = gateway.send(&asked);
    assert_eq!(response.status, 200);
    let (span, below) = await_trace(&collector, "/a?b=c");
    let [attempt] = &below[..] else { panic!("one try: {below:?}") };
    assert_eq!((span.name.as_str(), span.parent.as_str(), span.status), ("app.test:80/*", "", 0));
    assert_eq!((span.flags, attempt.flags), (0x101, 0x101), "sampled, and the parent is none of another machine");
    assert_eq!(span.service, "istio-ingressgateway.istio-system");
    assert!(
        span.start <= attempt.start && attempt.end <= span.end && attempt.start <= attempt.end,
        "{span:?} {attempt:?}"
    );
    let told = response.seen("traceparent").unwrap();
    assert_eq!(told, format!("00-{}-{}-01", span.trace, attempt.id), "the upstream's parent is the try");
    let id = response.seen("x-request-id").unwrap();
    assert_eq!(&id[14..15], "9", "{id}");
    assert_eq!(response.seen("x-envoy-decorator-operation").as_deref(), Some("app.test:80/*"));
    for (name, value) in [
        ("guid:x-request-id", id.as_str()),
        ("http.url", "http://shop.example.com/a?b=c"),
        ("http.method", "POST"),
        ("http.protocol", "HTTP/1.1"),
        ("http.status_code", "200"),
        ("user_agent", "tester"),
        ("peer.address", "127.0.0.1"),
        ("request_size", "5"),
        ("downstream_cluster", "-"),
        ("component", "proxy"),
        ("response_flags", "-"),
        ("upstream_cluster", "outbound|80||app.test"),
        ("upstream_cluster.name", "outbound|80||app.test;"),
        ("istio.canonical_service", "unknown"),
        ("istio.canonical_revision", "latest"),
        ("istio.mesh_id", "unknown"),
        ("istio.namespace", "istio-system"),
        ("istio.cluster_id", "unknown"),
        ("error", "(none)"),
    ] {
        assert_eq!(span.tag(name), value, "{name}");
    }
    assert!(span.tag("node_id").starts_with("router~"));
    assert_eq!((attempt.name.as_str(), attempt.kind), ("router outbound|80||app.test; egress", 3));
    assert_eq!(attempt.trace, span.trace);
    let address = app.address().to_string();
    for (name, value) in [
        ("upstream_address", address.as_str()),
        ("peer.address", &address),
        ("upstream_cluster", "outbound|80||app.test"),
        ("http.status_code", "200"),
        ("http.protocol", "HTTP/1.1"),
        ("retry.count", "(none)"),
    ] {
        assert_eq!(attempt.tag(name), value, "{name}");
    }
    gateway.await_metric("envoy_tracing_opentelemetry_spans_sent", &[], 2.0);
    assert_eq!(gateway.metric("envoy_tracing_opentelemetry_spans_dropped", &[]), 0.0);
}

#[test]
fn names_and_states_of_spans_are_those_of_their_routes_and_answers() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let gateway = gateway(&app, &collector, ALL);
    for (path, order, status) in [
        ("/exact", "", 200),
        ("/direct/x", "", 503),
        ("/down", "", 503),
        ("/bad", "status 500", 500),
        ("/no", "status 404", 404),
    ] {
        let request = Request::get("h", path);
        assert_eq!(
            gateway.send(&if order.is_empty() { request } else { request.order(order) }).status,
            status,
            "{path}"
        );
    }
    let of = |path: &str| await_trace(&collector, path);
    let (exact, _) = of("/exact");
    assert_eq!(
        (exact.name.as_str(), exact.tag("http.url")),
        ("app.test:80/exact", "http://h/exact"),
        "as it was asked for"
    );
    let (direct, below) = of("/direct/x");
    assert_eq!((direct.name.as_str(), direct.status, direct.tag("error")), ("routes:80/direct*", 2, "true"));
    assert!(below.is_empty(), "{below:?}");
    let (down, below) = of("/down");
    assert_eq!((down.status, down.tag("response_flags")), (2, "URX,UF"));
    assert_eq!(below.len(), 2, "one for each try: {below:?}");
    for span in &below {
        let tags = ["http.status_code", "response_flags", "error", "error.reason"].map(|name| span.tag(name));
        assert_eq!(tags, ["0", "UF", "true", "remote connection failure"]);
    }
    let counts: Vec<_> = below.iter().map(|span| span.tag("retry.count")).collect();
    assert_eq!(counts, ["(none)", "1"]);
    let (bad, below) = of("/bad");
    assert_eq!((bad.status, bad.tag("error"), below[0].status, below[0].tag("error")), (2, "true", 2, "true"));
    let (no, below) = of("/no");
    assert_eq!((no.status, no.tag("error"), below[0].status, below[0].tag("error")), (0, "(none)", 2, "(none)"));
}

#[test]
fn a_parent_decides_and_goes_on_with_its_state() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let none = "[{providers: [{name: otel}], randomSamplingPercentage: 0}]";
    let gateway = gateway(&app, &collector, none);
    let asked = |path: &str, parent: &str| {
        gateway.send(&Request::get("h", path).header("traceparent", parent).header("tracestate", "a=b"))
    };
    let sampled = asked("/sampled", &format!("00-{TRACE}-{PARENT}-01"));
    let (span, below) = await_trace(&collector, "/sampled");
    assert_eq!((span.trace.as_str(), span.parent.as_str(), span.state.as_str()), (TRACE, PARENT, "a=b"));
    assert_eq!(span.flags, 0x301, "the parent is of another machine");
    assert_eq!(sampled.seen("traceparent").unwrap(), format!("00-{TRACE}-{}-01", below[0].id));
    assert_eq!(sampled.seen("tracestate").as_deref(), Some("a=b"));

    let not = asked("/not", &format!("00-{TRACE}-{PARENT}-00"));
    let told = not.seen("traceparent").unwrap();
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && !told.contains(PARENT), "{told}");
    // As in Envoy: what cannot be read is left alone.
    let bad = asked("/malformed", "00-xyz-b7ad6b7169203331-01");
    assert_eq!(bad.seen("traceparent").as_deref(), Some("00-xyz-b7ad6b7169203331-01"));
    // Nothing else decides, by chance none.
    let alone = gateway.get("h", "/alone");
    assert!(alone.seen("traceparent").unwrap().ends_with("-00"));
    assert_eq!(&alone.seen("x-request-id").unwrap()[14..15], "4");
    let client = gateway.send(&Request::get("h", "/client").header("x-client-trace-id", "mine"));
    assert_eq!(&client.seen("x-request-id").unwrap()[14..15], "b");
    let (span, _) = await_trace(&collector, "/client");
    assert_eq!(span.tag("guid:x-client-trace-id"), "mine");
    let urls: Vec<_> =
        spans(&collector).iter().filter(|span| span.kind == 2).map(|span| span.tag("http.url").to_owned()).collect();
    assert_eq!(urls, ["http://h/sampled", "http://h/client"]);
}

#[test]
fn telemetries_choose_tags_sampling_and_what_upstreams_are_told() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let tracing = "[{providers: [{name: otel}], randomSamplingPercentage: 0, useRequestIdForTraceSampling: false, \
                   enableIstioTags: false, disableContextPropagation: true, customTags: {\
                   place: {literal: {value: edge}}, team: {header: {name: X-Team, defaultValue: nobody}}, \
                   none: {header: {name: x-none}}, home: {environment: {name: HOME, defaultValue: unset}}, \
                   trace: {formatter: {value: \"%TRACE_ID%\"}}, answer: {formatter: {value: \"%REQ(x-team)% %RESPONSE_CODE%\"}}}}]";
    let gateway = gateway(&app, &collector, tracing);
    let response = gateway.send(&Request::get("h", "/red").header("x-team", "red"));
    assert_eq!(response.seen("traceparent"), None, "nothing is told");
    assert_eq!(&response.seen("x-request-id").unwrap()[14..15], "4", "the id tells nothing");
    gateway.get("h", "/direct");
    let (span, below) = await_trace(&collector, "/red");
    for span in [&span, &below[0]] {
        let tags = ["place", "team", "none", "home", "istio.namespace"].map(|name| span.tag(name));
        assert_eq!(tags, ["edge", "red", "(none)", "unset", "(none)"], "variables are not passed on unasked");
    }
    assert_eq!((span.tag("answer"), span.tag("trace")), ("red 200", span.trace.as_str()));
    let (span, _) = await_trace(&collector, "/direct");
    assert_eq!((span.tag("team"), span.tag("answer")), ("nobody", " 503"));
}

#[test]
fn an_upstream_names_what_it_has_done_to_the_gateway_alone() {
    let answer =
        |_: &Seen| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-envoy-decorator-operation: mine\r\n\r\n".to_vec();
    let (app, collector) = (Upstream::scripted("app", Box::new(answer)), GrpcServer::start());
    let gateway = gateway(&app, &collector, ALL);
    let response = gateway.get("h", "/named");
    assert_eq!((response.status, response.header("x-envoy-decorator-operation")), (200, None));
    assert_eq!(await_trace(&collector, "/named").0.name, "mine");
}

#[test]
fn a_mirror_is_told_of_the_trace_and_never_sampled() {
    let answer = |_: &Seen| b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (app, mirror) = (Upstream::start("app"), Upstream::scripted("mirror", Box::new(answer)));
    let collector = GrpcServer::start();
    let rules = "- route: [{destination: {host: app.test}}]\n  mirror: {host: mirror.test}\n";
    let gateway = options(&app, collector.address(), mesh(""), ALL)
        .file("routes.yaml", routes(rules))
        .file("mirror.yaml", service_entry("mirror.test", &[("v1", mirror.address())]))
        .start();
    let response = gateway.get("h", "/copied");
    let seen = await_some("the copy", || mirror.seen().first().cloned());
    let header = |name: &str| seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let (span, below) = await_trace(&collector, "/copied");
    let told = header("traceparent").unwrap();
    assert!(told.starts_with(&format!("00-{}-", span.trace)) && told.ends_with("-00"), "{told}");
    assert!(!told.contains(&below[0].id) && !told.contains(&span.id), "a span of its own: {told}");
    assert_eq!(header("tracestate"), Some(""));
    assert_eq!(header("x-envoy-decorator-operation"), Some("app.test:80/*"));
    assert!(response.seen("traceparent").unwrap().ends_with("-01"));
    gateway.get("h", "/last");
    await_trace(&collector, "/last");
    let all = spans(&collector);
    assert_eq!(all.iter().filter(|other| other.trace == span.trace).count(), 2, "a copy has no span: {all:?}");
}

#[test]
fn mesh_and_cluster_are_those_of_the_configuration_and_of_the_command_line() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let mesh = mesh("") + "    defaultConfig: {meshId: mesh1}\n";
    let options = options(&app, collector.address(), mesh, ALL).argument("--cluster-id").argument("east");
    let gateway = options.start();
    assert_eq!(gateway.get("h", "/").status, 200);
    let (span, below) = await_trace(&collector, "/");
    for span in [&span, &below[0]] {
        assert_eq!((span.tag("istio.mesh_id"), span.tag("istio.cluster_id")), ("mesh1", "east"));
    }
}

#[test]
fn what_is_refused_for_its_form_has_no_span_and_what_has_no_route_has_one() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let rules = "- match: [{uri: {prefix: /known}}]\n  route: [{destination: {host: app.test}}]\n";
    let gateway = options(&app, collector.address(), mesh(""), ALL).file("routes.yaml", routes(rules)).start();
    for request in ["GET /ok HTTP/1.1\r\n\r\n", "GET /ok#f HTTP/1.1\r\nhost: h\r\n\r\n", "GET /ok HTTP/1.0\r\n\r\n"] {
        let mut connection = gateway.connect();
        connection.send(request.as_bytes()).unwrap();
        assert!(matches!(connection.response(false).unwrap().status, 400 | 426), "{request}");
    }
    assert_eq!(gateway.get("h", "/unknown").status, 404);
    let (span, below) = await_trace(&collector, "/unknown");
    assert_eq!((span.tag("response_flags"), span.tag("http.status_code"), below.len()), ("NR", "404", 0));
    assert!(trace(&spans(&collector), "/ok").is_none(), "{:?}", spans(&collector));
}

#[test]
fn without_a_provider_headers_of_traces_pass() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let gateway = gateway(&app, &collector, "[{randomSamplingPercentage: 100}]");
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let response = gateway.send(&Request::get("h", "/").header("traceparent", &parent));
    assert_eq!(response.seen("traceparent"), Some(parent));
    assert_eq!(response.seen("x-envoy-decorator-operation"), None);
    // A Telemetry that names it turns it on, and one that disables it off again, without a restart.
    gateway.replace("telemetry.yaml", telemetry(ALL));
    gateway.await_answer("h", "/", |response| response.seen("traceparent").is_some());
    gateway.replace("telemetry.yaml", telemetry("[{providers: [{name: otel}], disableSpanReporting: true}]"));
    gateway.await_answer("h", "/", |response| response.seen("traceparent").is_none());
}

#[test]
fn spans_go_over_http_with_the_provider_s_headers() {
    let app = Upstream::start("app");
    let answer = |_: &Seen| b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let collector = Upstream::scripted("otel", Box::new(answer));
    let mesh = mesh(", http: {path: v1/traces, timeout: 3s, headers: [{name: X-Team, value: blue}]}");
    let gateway = options(&app, collector.address(), mesh, ALL).start();
    assert_eq!(gateway.get("h", "/over-http").status, 200);
    let seen = await_some("an export", || collector.seen().first().cloned());
    assert_eq!(seen.line, "POST /v1/traces");
    let header = |name: &str| seen.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    assert_eq!((header("host"), header("x-team")), (Some("otel.test"), Some("blue")));
    let (span, below) = trace(&otlp::spans(&seen.body), "/over-http").expect("its span");
    assert_eq!((span.name.as_str(), below.len()), ("app.test:80/*", 1));
}

#[test]
fn zipkin_gets_json_and_upstreams_both_forms_where_the_mesh_says_so() {
    let app = Upstream::start("app");
    let answer = |_: &Seen| b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec();
    let collector = Upstream::scripted("zipkin", Box::new(answer));
    let mesh = mesh("").replace(
        "port: 80",
        "port: 80, path: /mine, enable64bitTraceId: true, traceContextOption: USE_B3_WITH_W3C_PROPAGATION",
    );
    let gateway = options(&app, collector.address(), mesh.replace("opentelemetry:", "zipkin:"), ALL).start();
    let response = gateway.get("h", "/zip");
    let seen = await_some("an export", || collector.seen().first().cloned());
    assert_eq!(seen.line, "POST /mine");
    let spans: Vec<serde_json::Value> = serde_json::from_slice(&seen.body).unwrap();
    let [attempt, span] = &spans[..] else { panic!("two spans: {spans:?}") };
    assert_eq!((&span["kind"], &span["name"]), (&"SERVER".into(), &"app.test:80/*".into()));
    assert_eq!(span["traceId"], span["id"], "of 64 bits");
    assert_eq!((&attempt["kind"], &attempt["parentId"]), (&"CLIENT".into(), &span["id"]));
    let told =
        ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled"].map(|name| response.seen(name).unwrap());
    let [trace, id] = [&span["traceId"], &attempt["id"]].map(|value| value.as_str().unwrap());
    assert_eq!(told, [trace, id, trace, "1"]);
    assert_eq!(response.seen("traceparent").unwrap(), format!("00-0000000000000000{trace}-{id}-01"));
    gateway.await_metric("envoy_tracing_zipkin_spans_sent", &[], 2.0);
    // Those of W3C count where there are none of B3.
    let response = gateway.send(&Request::get("h", "/w3c").header("traceparent", format!("00-{TRACE}-{PARENT}-00")));
    assert_eq!(response.seen("x-b3-traceid").as_deref(), Some(TRACE));
    assert_eq!(response.seen("x-b3-sampled").as_deref(), Some("0"));
    assert!(response.seen("traceparent").unwrap().starts_with(&format!("00-{TRACE}-")));
}

#[test]
fn metadata_goes_over_grpc_and_what_waits_is_sent_when_the_gateway_ends() {
    let (app, collector) = (Upstream::start("app"), GrpcServer::start());
    let mesh = mesh(", grpc: {timeout: 3s, initialMetadata: [{name: x-team, value: green}]}");
    let mut gateway = options(&app, collector.address(), mesh, ALL).start();
    assert_eq!(gateway.get("h", "/last").status, 200);
    gateway.signal("TERM");
    gateway.await_exit();
    assert!(trace(&spans(&collector), "/last").is_some(), "nothing is left behind");
    assert_eq!(collector.exports()[0].0, "green");
}

#[test]
fn a_collector_that_is_down_costs_spans_and_no_request() {
    let app = Upstream::start("app");
    let away = Port::free();
    let gateway = options(&app, away.address(), mesh(""), ALL).start();
    for _ in 0..10 {
        assert_eq!(gateway.get("h", "/").status, 200);
    }
    gateway.await_metric("envoy_tracing_opentelemetry_spans_dropped", &[], 20.0);
    assert_eq!(gateway.metric("envoy_tracing_opentelemetry_spans_sent", &[]), 0.0);
    gateway.await_log("spans are lost");
    let collector = GrpcServer::start();
    gateway.replace("otel.yaml", service_entry("otel.test", &[("v1", collector.address())]));
    await_true("spans again", || {
        gateway.get("h", "/again");
        trace(&spans(&collector), "/again").is_some()
    });
}
