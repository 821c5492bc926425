//! Access logs as Telemetries and the mesh configuration turn them on.

use std::fs;
use std::path::Path;

use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::dns::DnsServer;
use crate::support::gateway::{Gateway, Options};
use crate::support::upstream::Upstream;

/// The mesh configuration of the ConfigMap `istio`, with a provider that writes JSON into a file.
fn mesh(file: &Path, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n{more}    \
         extensionProviders:\n    - name: file\n      envoyFileAccessLog:\n        path: {}\n        logFormat:\n          \
         labels: {{code: \"%RESPONSE_CODE%\", path: \"%REQ(:PATH)%\", team: \"%REQ(X-TEAM)%\", answer: \"%RESP(X-FROM)%\"}}\n",
        file.display()
    )
}

fn telemetry(logging: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: logs, namespace: istio-system}}\nspec:\n  \
         accessLogging: {logging}\n"
    )
}

fn gateway(app: &Upstream, mesh: String, telemetry: String) -> Gateway {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file(
            "routes.yaml",
            routes("- route: [{destination: {host: app.test}}]\n  headers: {response: {set: {x-from: app}}}\n"),
        )
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file("mesh.yaml", mesh)
        .file("telemetry.yaml", telemetry)
        .without_access_log()
        .start()
}

fn line(file: &Path, part: &str) -> String {
    await_some(&format!("a line with {part:?} in {}", file.display()), || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.find(|line| line.contains(part)).map(str::to_owned)
    })
}

#[test]
fn a_telemetry_filters_what_a_provider_writes_in_its_own_form() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("json.log");
    let logging =
        "[{providers: [{name: file}], filter: {expression: \"response.code >= 500 || request.url_path == '/told'\"}}]";
    let gateway = gateway(&app, mesh(&file, ""), telemetry(logging));
    assert_eq!(gateway.send(&Request::get("h", "/quiet")).status, 200);
    assert_eq!(gateway.send(&Request::get("h", "/bad").order("status 503")).status, 503);
    assert_eq!(gateway.send(&Request::get("h", "/told").header("x-team", "blue")).status, 200);
    assert_eq!(line(&file, "/told"), r#"{"answer":"app","code":200,"path":"/told","team":"blue"}"#);
    assert_eq!(line(&file, "/bad"), r#"{"answer":"app","code":503,"path":"/bad","team":null}"#);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains("/quiet"), "{text}");
}

#[test]
fn a_telemetry_that_disables_logging_beats_the_mesh_and_its_end_brings_it_back() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("mesh.log"), folder.path().join("json.log"));
    let more = format!("    accessLogFile: {}\n    accessLogEncoding: JSON\n", file.display());
    let gateway = gateway(&app, mesh(&other, &more), telemetry("[{disabled: true}]"));
    assert_eq!(gateway.get("h", "/one").status, 200);
    fs::remove_file(gateway.config().join("telemetry.yaml")).unwrap();
    await_some("the mesh's own log", || {
        gateway.get("h", "/two");
        fs::read_to_string(&file).unwrap_or_default().contains("/two").then_some(())
    });
    let line = line(&file, "/two");
    assert!(line.starts_with(r#"{"authority":"h","bytes_received":0,"#), "{line}");
    assert!(line.contains(r#""response_code":200"#) && line.contains(r#""path":"/two""#), "{line}");
    assert!(!fs::read_to_string(&file).unwrap().contains("/one"));
    assert!(!other.exists(), "nothing turned that provider on");
}

#[test]
fn a_filter_that_is_no_expression_is_refused_and_the_last_good_one_counts() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("json.log");
    let logging =
        |filter: &str| telemetry(&format!("[{{providers: [{{name: file}}], filter: {{expression: {filter}}}}}]"));
    let gateway = gateway(&app, mesh(&file, ""), logging("request.url_path == '/told'"));
    gateway.replace("telemetry.yaml", logging("\"request.url_path ==\""));
    gateway.await_log("telemetry.yaml:5");
    gateway.await_log("the filter's expression is no CEL");
    assert_eq!(gateway.get("h", "/quiet").status, 200);
    assert_eq!(gateway.get("h", "/told").status, 200);
    assert!(line(&file, "/told").contains("/told"));
    assert!(!fs::read_to_string(&file).unwrap().contains("/quiet"));
}

#[test]
fn a_filter_that_could_cost_too_much_is_named_with_its_line_and_the_gateway_serves() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("json.log");
    let all = |inner: &str| format!("request.headers.all(name, {inner})");
    let logging = format!("[{{providers: [{{name: file}}], filter: {{expression: \"{}\"}}}}]", all(&all(&all("true"))));
    let gateway = gateway(&app, mesh(&file, ""), telemetry(&logging));
    gateway.await_log("telemetry.yaml:5");
    gateway.await_log("or could cost too much");
    assert_eq!(gateway.get("h", "/").status, 200);
}

/// Waits for the one line of the metrics page that begins so and holds all of these.
fn series(gateway: &Gateway, name: &str, labels: &[&str]) -> String {
    await_some(&format!("{name} with {labels:?}"), || {
        let page = gateway.admin("/stats/prometheus").text();
        let mut lines = page.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.find(|line| labels.iter().all(|label| line.contains(label))).map(str::to_owned)
    })
}

#[test]
fn requests_and_connections_are_counted_under_istio_s_names() {
    let app = Upstream::start("app");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- match: [{uri: {prefix: /app}}]\n  route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .start();
    for _ in 0..3 {
        assert_eq!(gateway.send(&Request::new("POST", "h", "/app").body("12345")).status, 200);
    }
    assert_eq!(gateway.send(&Request::get("h", "/app").order("status 503")).status, 503);
    assert_eq!(gateway.get("h", "/nowhere").status, 404);
    let app = [r#"destination_service="app.test""#, r#"destination_service_namespace="default""#];
    let ok = [&app[..], &[r#"response_code="200""#]].concat();
    gateway.await_metric("istio_requests_total", &ok, 3.0);
    gateway.await_metric("istio_requests_total", &[app[0], r#"response_code="503""#], 1.0);
    let unknown = [r#"destination_service="unknown""#, r#"response_code="404""#, r#"response_flags="NR""#];
    gateway.await_metric("istio_requests_total", &unknown, 1.0);
    gateway.await_metric("istio_request_bytes_sum", &ok, 15.0);
    gateway.await_metric("istio_request_duration_milliseconds_count", &ok, 3.0);
    gateway.await_metric("istio_response_bytes_count", &ok, 3.0);
    let line = series(&gateway, "istio_requests_total", &ok);
    for label in [
        r#"reporter="source""#,
        r#"source_workload="istio-ingressgateway""#,
        r#"source_workload_namespace="istio-system""#,
        r#"request_protocol="http""#,
        r#"response_flags="-""#,
    ] {
        assert!(line.contains(label), "{label}: {line}");
    }
}

#[test]
fn requests_are_counted_by_the_workload_of_their_endpoint() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let entry = service_entry("app.test", &[("v1", one.address()), ("v2", two.address())]);
    let entry = entry.replacen("version: v1", "service.istio.io/canonical-name: billing", 1);
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", entry)
        .start();
    while one.requests() < 2 || two.requests() < 2 {
        assert_eq!(gateway.get("h", "/").status, 200);
    }
    let seen =
        [("app-test-0", "billing", "latest", one.requests()), ("app-test-1", "app-test-1", "v2", two.requests())];
    for (workload, service, revision, count) in seen {
        let labels = [
            &format!("destination_workload=\"{workload}\""),
            r#"destination_workload_namespace="default""#,
            &format!("destination_canonical_revision=\"{revision}\""),
            &format!("destination_canonical_service=\"{service}\""),
            r#"destination_app="unknown""#,
            r#"destination_version="unknown""#,
            r#"destination_principal="unknown""#,
            r#"destination_cluster="Kubernetes""#,
            r#"source_cluster="Kubernetes""#,
        ];
        gateway.await_metric("istio_requests_total", &labels, count as f64);
    }
}

#[test]
fn a_workload_entry_and_a_host_of_dns_are_workloads_of_their_objects_names() {
    let (machine, named) = (Upstream::start("machine"), Upstream::start("named"));
    let dns = DnsServer::start();
    dns.set("named.test", &["127.0.0.1"], 60);
    let entry = |host: &str, more: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\nspec:\n  hosts: [{host}]\n  \
             ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {}}}]\n  {more}\n",
            host.replace('.', "-"),
            if host == "named.test" { named.address().port() } else { machine.address().port() },
        )
    };
    let workload = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm-1}\n\
                    spec: {address: 127.0.0.1, labels: {class: vm, app: ledger}, serviceAccount: books}\n";
    let files = entry("app.test", "resolution: STATIC\n  workloadSelector: {labels: {class: vm}}")
        + &entry("named.test", "resolution: DNS")
        + workload;
    let rules = "- match: [{uri: {prefix: /named}}]\n  route: [{destination: {host: named.test}}]\n\
                 - match: [{uri: {prefix: /machine}}]\n  route: [{destination: {host: app.test}}]\n";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes(rules))
        .file("app.yaml", files)
        .argument("--cluster-id")
        .argument("east")
        .argument("--dns-server")
        .argument(dns.address().to_string())
        .start();
    gateway.await_answer("h", "/named", |response| response.status == 200);
    assert_eq!(gateway.get("h", "/machine").upstream(), "machine");
    assert_eq!(gateway.get("h", "/nowhere").status, 404);
    for (workload, service, cluster, status) in [
        ("vm-1", "ledger", "east", 200),
        ("named-test", "named-test", "east", 200),
        ("unknown", "unknown", "unknown", 404),
    ] {
        let labels = [
            &format!("destination_workload=\"{workload}\""),
            &format!("destination_canonical_service=\"{service}\""),
            &format!("destination_cluster=\"{cluster}\""),
            &format!("response_code=\"{status}\""),
            r#"destination_canonical_revision="latest""#,
            r#"source_cluster="east""#,
        ];
        series(&gateway, "istio_requests_total", &labels);
    }
}

#[test]
fn a_telemetry_changes_labels_of_istio_s_metrics_and_switches_them_off() {
    let app = Upstream::start("app");
    let telemetry = |spec: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: m, namespace: istio-system}}\nspec:\n  metrics: {spec}\n"
        )
    };
    let tags = "{host: {value: request.host}, team: {value: \"request.headers['x-team']\"}, response_flags: {operation: REMOVE}}";
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file(
            "telemetry.yaml",
            telemetry(&format!("[{{overrides: [{{match: {{metric: REQUEST_COUNT}}, tagOverrides: {tags}}}]}}]")),
        )
        .start();
    assert_eq!(gateway.send(&Request::get("h", "/").header("x-team", "red")).status, 200);
    assert_eq!(gateway.get("h", "/").status, 200);
    let red = series(&gateway, "istio_requests_total", &[r#"team="red""#]);
    assert!(red.contains(r#"host="h""#) && !red.contains("response_flags") && red.ends_with(" 1"), "{red}");
    series(&gateway, "istio_requests_total", &[r#"team="unknown""#]);
    series(&gateway, "istio_response_bytes_count", &[r#"response_flags="-""#]);
    gateway.replace("telemetry.yaml", telemetry("[{overrides: [{disabled: true}]}]"));
    crate::support::await_true("no series", || {
        assert_eq!(gateway.get("h", "/").status, 200);
        !gateway.admin("/stats/prometheus").text().contains("istio_requests_total")
    });
}

#[test]
fn a_log_tells_path_and_authority_as_they_are_sent_and_of_several_lines_the_first() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let gateway = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file(
            "routes.yaml",
            routes("- match: [{uri: {prefix: /old}}]\n  rewrite: {uri: /new, authority: new.test}\n  route: [{destination: {host: app.test}}]\n  headers: {request: {set: {user-agent: changed}}}\n"),
        )
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
        .file(
            "mesh.yaml",
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    accessLogFile: {}\n    accessLogFormat: \"%REQ(:PATH)% %REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %REQ(:AUTHORITY)% %REQ(X-TEAM)% %REQ(USER-AGENT)% %UPSTREAM_PROTOCOL% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\"\n",
                file.display()
            ),
        )
        .without_access_log()
        .start();
    let request = Request::get("h", "/old/a?b").header("x-team", "red").header("x-team", "blue");
    assert_eq!(gateway.send(&request).status, 200);
    assert_eq!(line(&file, "/old"), "/new/a?b /old/a?b /old/a?b new.test red changed HTTP/1.1 1");
}
