//! A real Envoy as a child process, configured as Istio configures a gateway: one listener, Wasm filters, the router.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{self, Request};
use super::ports::Port;

/// Names the binary, for machines that have it beside the path.
const VARIABLE: &str = "PORTOLAN_TEST_ENVOY";

/// Longest start: V8 compiles a module of Go's for many seconds before Envoy is ready.
const START: Duration = Duration::from_secs(150);

/// A Wasm filter in the chain of both hosts.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Its name, and that of its root context.
    pub(crate) name: String,
    pub(crate) module: PathBuf,
    /// As JSON.
    pub(crate) config: String,
}

/// What Envoy is started with.
pub(crate) struct Options<'a> {
    pub(crate) filters: &'a [Filter],
    /// Host of each service and its endpoint; all requests go to the first. Clusters have Istio's names, for port 80.
    pub(crate) services: &'a [(&'a str, SocketAddr)],
    /// Body callbacks run while the head waits.
    pub(crate) stop_iteration: bool,
    /// Routes in the place of the one for everything; then Envoy's own filters for faults and CORS are in the chain.
    pub(crate) routes: Option<Value>,
}

/// A running Envoy; killed when dropped.
pub(crate) struct Envoy {
    child: Child,
    folder: TempDir,
    http: Port,
}

/// The binary. None where it is not installed, which CI must not be.
pub(crate) fn binary() -> Option<PathBuf> {
    let on_path = || std::env::split_paths(&std::env::var_os("PATH")?).map(|f| f.join("envoy")).find(|f| f.exists());
    let found = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(on_path);
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must install Envoy and name it in {VARIABLE}");
        println!("skipped: Envoy is not installed; {VARIABLE} may name it");
    }
    found
}

impl Envoy {
    /// Starts one; comes back when it is ready.
    pub(crate) fn start(binary: &Path, options: &Options<'_>) -> Self {
        Self::start_as(binary, |http, admin| configuration(options, http, admin))
    }

    /// Starts one whose configuration is made for its two addresses, that of requests and that of its admin port.
    pub(crate) fn start_as(binary: &Path, configuration: impl FnOnce(SocketAddr, SocketAddr) -> Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder for Envoy");
        let (http, admin) = (Port::free(), Port::free());
        let config = configuration(http.address(), admin.address());
        fs::write(folder.path().join("envoy.json"), config.to_string()).expect("its configuration");
        let log = File::create(folder.path().join("log")).expect("its log");
        let child = Command::new(binary)
            .arg("--config-path")
            .arg(folder.path().join("envoy.json"))
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"])
            .args(["--component-log-level", "wasm:info"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("Envoy's process");
        let mut envoy = Self { child, folder, http };
        envoy.await_ready(admin.address());
        envoy
    }

    fn await_ready(&mut self, admin: SocketAddr) {
        let start = Instant::now();
        let ready = || client::send(admin, &Request::get("localhost", "/ready")).is_ok_and(|r| r.status == 200);
        while !ready() {
            assert!(matches!(self.child.try_wait(), Ok(None)), "Envoy has ended:\n{}", self.log());
            assert!(start.elapsed() < START, "Envoy is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it takes requests.
    pub(crate) fn address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Everything it printed so far, with what filters logged from `info` on.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!("--- end of Envoy's log\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// Istio's name of a service's cluster, and the one that filters ask for.
pub(crate) fn cluster(host: &str) -> String {
    format!("outbound|80||{host}")
}

fn configuration(options: &Options<'_>, http: SocketAddr, admin: SocketAddr) -> Value {
    let clusters: Vec<_> = options.services.iter().map(|(host, address)| cluster_of(host, *address)).collect();
    let mut filters: Vec<_> = options.filters.iter().map(|f| wasm_filter(f, options.stop_iteration)).collect();
    if options.routes.is_some() {
        filters.push(extension("envoy.filters.http.fault", "filters.http.fault.v3.HTTPFault", json!({})));
        filters.push(extension("envoy.filters.http.cors", "filters.http.cors.v3.Cors", json!({})));
    }
    filters.push(extension("router", "filters.http.router.v3.Router", json!({})));
    let first = options.services.first().map_or_else(String::new, |(host, _)| cluster(host));
    let mut virtual_host = virtual_host(&first);
    if let Some(routes) = &options.routes {
        virtual_host["routes"] = routes.clone();
    }
    let manager = json!({
        "stat_prefix": "test",
        "server_name": "portolan",
        "use_remote_address": true,
        "normalize_path": true,
        "forward_client_cert_details": "SANITIZE_SET",
        "http_protocol_options": {"accept_http_10": true},
        "http_filters": filters,
        "route_config": {"virtual_hosts": [virtual_host]},
    });
    let manager = extension("http", "filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "clusters": clusters,
            "listeners": [{"name": "http", "address": address(http), "filter_chains": [{"filters": [manager]}]}],
        },
    })
}

/// One route for everything, with the retries that Istio gives to routes that name none.
fn virtual_host(cluster: &str) -> Value {
    let retries = json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "num_retries": 2,
        "host_selection_retry_max_attempts": "5",
    });
    let route = json!({"cluster": cluster, "timeout": "0s", "retry_policy": retries});
    json!({
        "name": "all",
        "domains": ["*"],
        "include_request_attempt_count": true,
        "routes": [{"name": "all", "match": {"prefix": "/"}, "route": route}],
    })
}

fn cluster_of(host: &str, endpoint: SocketAddr) -> Value {
    json!({
        "name": cluster(host),
        "connect_timeout": "10s",
        "load_assignment": {
            "cluster_name": cluster(host),
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}],
        },
    })
}

/// As Istio writes it: the configuration as a string, a VM for each filter.
fn wasm_filter(filter: &Filter, stop_iteration: bool) -> Value {
    let text = json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": filter.config});
    let config = json!({
        "name": filter.name,
        "root_id": filter.name,
        "vm_config": {
            "vm_id": filter.name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": filter.module}},
        },
        "configuration": text,
        "allow_on_headers_stop_iteration": stop_iteration,
    });
    extension(&filter.name, "filters.http.wasm.v3.Wasm", json!({"config": config}))
}

fn extension(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/envoy.extensions.{kind}"));
    json!({"name": name, "typed_config": config})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}
