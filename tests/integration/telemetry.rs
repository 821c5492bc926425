//! Access logs as Telemetries and the mesh configuration turn them on.

use std::fs;
use std::path::Path;

use crate::support::await_some;
use crate::support::client::Request;
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
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
fn a_filter_that_is_no_expression_is_named_with_its_line_and_the_gateway_serves() {
    let app = Upstream::start("app");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("json.log");
    let logging = "[{providers: [{name: file}], filter: {expression: \"response.code >=\"}}]";
    let gateway = gateway(&app, mesh(&file, ""), telemetry(logging));
    gateway.await_log("telemetry.yaml:5");
    gateway.await_log("the filter's expression is no CEL");
    assert_eq!(gateway.get("h", "/").status, 200);
}
