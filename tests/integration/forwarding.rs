//! What the gateway adds, strips and believes at its edge.

use crate::support::await_true;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

fn gateway(app: &Upstream) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start()
}

#[test]
fn the_upstream_learns_of_the_client() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let response = gateway.send(&Request::get("shop.example.com", "/x").header("x-forwarded-for", "10.1.2.3"));
    assert_eq!(response.seen("host").as_deref(), Some("shop.example.com"));
    let forwarded = response.seen("x-forwarded-for").unwrap();
    assert!(forwarded.starts_with("10.1.2.3,"), "the peer is appended: {forwarded}");
    assert_eq!(response.seen("x-forwarded-proto").as_deref(), Some("http"));
    let id = response.seen("x-request-id").unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    assert_eq!(response.seen("x-envoy-attempt-count").as_deref(), Some("1"));
}

#[test]
fn the_client_learns_of_the_gateway() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let response = gateway.get("h", "/");
    assert_eq!(response.header("server"), Some("portolan"), "never the upstream's own");
    let time = response.header("x-envoy-upstream-service-time").unwrap();
    assert!(time.parse::<u64>().is_ok(), "{time}");
}

#[test]
fn what_an_outside_client_claims_is_not_believed() {
    let app = Upstream::start("app");
    let claims = [
        ("x-request-id", "mine"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=me"),
        ("x-envoy-max-retries", "99"),
        ("x-envoy-retry-on", "5xx"),
        ("x-envoy-upstream-rq-timeout-ms", "1"),
    ];
    let gateway = gateway(&app);
    for (name, value) in claims {
        let response = gateway.send(&Request::get("h", "/").header(name, value).order("delay 20"));
        assert_eq!(response.status, 200, "{name}");
        let seen = response.seen(name);
        assert_ne!(seen.as_deref(), Some(value), "{name} reached the upstream");
    }
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway() {
    let app = Upstream::start("app");
    let request = Request::get("h", "/")
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "gzip")
        .header("proxy-connection", "keep-alive");
    let response = gateway(&app).send(&request);
    for name in ["x-private", "keep-alive", "proxy-connection", "te"] {
        assert_eq!(response.seen(name), None, "{name}");
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    for _ in 0..50 {
        assert_eq!(connection.request(&Request::get("h", "/")).unwrap().status, 200);
    }
    assert_eq!((app.requests(), app.connections()), (50, 1));
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    let requests = [Request::get("h", "/1").order("delay 50"), Request::get("h", "/2"), Request::get("h", "/3")];
    let bytes: Vec<u8> = requests.iter().flat_map(Request::to_bytes).collect();
    connection.send(&bytes).unwrap();
    for number in 1..=3 {
        let line = connection.response(false).unwrap().seen_request_line();
        assert_eq!(line, format!("GET /{number} HTTP/1.1"));
    }
}

#[test]
fn head_and_empty_answers_keep_the_connection_in_step() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let mut connection = gateway.connect();
    let head = connection.request(&Request::new("HEAD", "h", "/").order("bytes 0")).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(connection.request(&Request::get("h", "/").order("bytes 0")).unwrap().status, 200);
    assert_eq!(connection.request(&Request::get("h", "/after")).unwrap().seen_request_line(), "GET /after HTTP/1.1");
}

#[test]
fn an_access_log_line_has_envoys_default_form() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let request =
        Request::new("POST", "shop.example.com", "/form").header("user-agent", "test/1").order("sink").body("12345");
    assert_eq!(gateway.send(&request).status, 200);
    let line = gateway.await_access("/form");
    let (time, rest) = line.split_once("] ").unwrap();
    assert!(time.starts_with("[20") && time.ends_with('Z'), "{line}");
    assert!(rest.starts_with("\"POST /form HTTP/1.1\" 200 - via_upstream - \"-\" 5 1 "), "{line}");
    let quoted: Vec<_> = rest.split('"').skip(1).step_by(2).collect();
    let address = app.address().to_string();
    assert_eq!((quoted[3], quoted[5], quoted[6]), ("test/1", "shop.example.com", address.as_str()), "{line}");
    assert!(rest.contains(" outbound|80||app.test "), "{line}");
}

/// The gateway behind `hops` trusted proxies.
fn behind(hops: u32, files: &[(&str, &str)]) -> (Gateway, Upstream) {
    let app = Upstream::start("app");
    let mut options = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .argument("--num-trusted-proxies")
        .argument(hops.to_string());
    for (name, text) in files {
        options = options.file(name, *text);
    }
    (options.start(), app)
}

const FAR_CLIENTS: &str = "\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: far, namespace: istio-system}
spec:
  action: DENY
  rules:
  - from:
    - source: {remoteIpBlocks: [192.0.2.0/24]}
  - from:
    - source: {notIpBlocks: [127.0.0.0/8]}
";

#[test]
fn trusted_proxies_say_who_the_client_is() {
    let (gateway, _app) = behind(2, &[("far.yaml", FAR_CLIENTS)]);
    let from = |forwarded: &str| gateway.send(&Request::get("h", "/from").header("x-forwarded-for", forwarded));
    let response = from("6.6.6.6, 198.51.100.7, 10.0.0.1");
    assert_eq!(response.status, 200);
    assert_eq!(response.seen("x-envoy-external-address").as_deref(), Some("198.51.100.7"));
    let all = response.seen("x-forwarded-for").unwrap();
    assert_eq!(all, "6.6.6.6, 198.51.100.7, 10.0.0.1,127.0.0.1", "the peer is appended");
    gateway.await_access("198.51.100.7:0");
    assert_eq!(from("192.0.2.9, 10.0.0.1").status, 403, "`remoteIpBlocks` goes by the client");
    let response = from("192.0.2.9");
    assert_eq!(response.status, 200, "too short a list says nothing");
    assert_eq!(response.seen("x-envoy-external-address").as_deref(), Some("127.0.0.1"));
    let named = Request::get("h", "/").header("x-forwarded-for", "192.0.2.9, 10.0.0.1");
    let named = named.header("connection", "x-forwarded-for, host, x-request-id");
    assert_eq!(gateway.send(&named).status, 403, "nobody has trusted proxies' word removed");
}

#[test]
fn only_trusted_proxies_say_what_clients_speak() {
    let redirect = "- match: [{uri: {prefix: /r}}]\n  redirect: {uri: /x}\n";
    for (hops, proto, scheme) in [(0, "https", "http"), (1, "HTTPS", "https"), (1, "ftp", "http")] {
        let (gateway, _app) = behind(hops, &[("routes.yaml", &routes(redirect))]);
        let response = gateway.send(&Request::get("h", "/r").header("x-forwarded-proto", proto));
        assert_eq!(response.header("location"), Some(format!("{scheme}://h/x").as_str()), "{hops} {proto}");
    }
}

#[test]
fn what_connection_names_takes_nothing_of_the_gateway_s_away() {
    let app = Upstream::start("app");
    let gateway = gateway(&app);
    let request = Request::get("h", "/").header("connection", "x-forwarded-for, x-forwarded-proto, host, x-request-id");
    let response = gateway.send(&request.header("te", "trailers, gzip"));
    for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-request-id", "x-envoy-external-address"] {
        assert!(response.seen(name).is_some(), "{name}");
    }
    assert_eq!(response.seen("te").as_deref(), Some("trailers"));
}

#[test]
fn header_names_with_underscores_are_refused_dropped_or_taken() {
    let ask = |action: &str| {
        let app = Upstream::start("app");
        let options = Options::new()
            .file("gateway.yaml", ANY_GATEWAY)
            .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
            .file("app.yaml", service_entry("app.test", &[("v1", app.address())]));
        let options =
            if action.is_empty() { options } else { options.argument("--headers-with-underscores").argument(action) };
        let gateway = options.start();
        let response = gateway.send(&Request::get("h", "/").header("x_real_ip", "1"));
        let refused = gateway.metric("envoy_http1_requests_rejected_with_underscores_in_headers", &[]);
        (response.status, response.seen("x_real_ip"), refused)
    };
    assert_eq!(ask(""), (400, None, 1.0));
    assert_eq!(ask("drop"), (200, None, 0.0));
    assert_eq!(ask("allow"), (200, Some("1".to_owned()), 0.0));
}

#[test]
fn what_an_upstream_s_connection_names_ends_at_the_gateway() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-private, keep-alive\r\nx-private: 1\r\n\
                keep-alive: timeout=5\r\nproxy-connection: close\r\nproxy-authenticate: Basic\r\nupgrade: h2c\r\n\
                x-envoy-degraded: 1\r\nx-kept: 1\r\n\r\n";
    let app = Upstream::scripted("app", Box::new(move |_| head.as_bytes().to_vec()));
    let response = gateway(&app).get("h", "/");
    for name in ["x-private", "keep-alive", "proxy-connection", "proxy-authenticate", "upgrade", "connection"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!((response.header("x-kept"), response.header("x-envoy-degraded")), (Some("1"), Some("1")));
}

/// `defaultConfig.proxyHeaders` of the mesh.
fn own_headers(settings: &str) -> String {
    format!(
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: mesh}}\n\
         spec: {{meshConfig: {{defaultConfig: {{proxyHeaders: {{{settings}}}}}}}}}\n"
    )
}

const REWRITTEN: &str = "- match: [{uri: {prefix: /old}}]\n  rewrite: {uri: /new, authority: inside.test}\n  timeout: 10s\n  \
                         route: [{destination: {host: app.test}}]\n- directResponse: {status: 204}\n";

#[test]
fn the_mesh_says_which_headers_the_gateway_adds() {
    let app = Upstream::start("app");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(REWRITTEN))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("mesh.yaml", own_headers(""))
        .start();
    let to = ["x-request-id", "x-envoy-attempt-count", "x-envoy-original-path", "x-envoy-expected-rq-timeout-ms"];
    let seen = || {
        let response = gateway.get("h", "/old/x");
        assert_eq!((response.status, response.seen("host").as_deref()), (200, Some("inside.test")));
        let there = to.into_iter().filter(|name| response.seen(name).is_some()).count();
        let server = response.header("server").unwrap_or_default().to_owned();
        (there + usize::from(response.header("x-envoy-upstream-service-time").is_some()), server)
    };
    assert_eq!(seen(), (5, "portolan".to_owned()));
    let off = "requestId: {disabled: true}, attemptCount: {disabled: true}, envoyDebugHeaders: {disabled: true}, \
               server: {disabled: true, value: unused}";
    gateway.write("mesh.yaml", &own_headers(off));
    await_true("no header of its own", || seen() == (0, "upstream".to_owned()));
    let response = gateway.send(&Request::get("h", "/old/x").header("x-request-id", "mine"));
    assert_eq!(response.seen("x-request-id").as_deref(), Some("mine"), "the client's own goes on");
    assert_eq!(response.seen("x-envoy-external-address").as_deref(), Some("127.0.0.1"), "this is none of them");
    assert_eq!(gateway.get("h", "/").header("server"), None, "nor has the gateway's own answer one");
    gateway.write("mesh.yaml", &own_headers("server: {value: edge/1}"));
    gateway.await_answer("h", "/", |response| response.header("server") == Some("edge/1"));
    assert_eq!(seen(), (5, "edge/1".to_owned()));
}
