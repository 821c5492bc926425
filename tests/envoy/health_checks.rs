//! Active health checks: the same settings in Envoy and in Portolan, each in front of a backend that answers check by check
//! as a list says, and looks before each answer at what its gateway makes of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};

use crate::support::await_true;
use crate::support::client::{self, Request};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::envoy::{self, Envoy};
use crate::support::gateway::Options;
use crate::support::upstream::{Seen, Upstream};

const CLUSTER: &str = "outbound|80||app.test";

/// Statuses of checks one after the other; 0 closes the connection instead.
const ANSWERS: [u16; 24] =
    [200, 500, 200, 500, 500, 200, 200, 501, 200, 200, 200, 503, 0, 200, 200, 200, 0, 500, 299, 299, 299, 404, 0, 200];

fn settings() -> Value {
    json!({
        "timeout": "5s",
        "interval": "0.03s",
        "no_traffic_interval": "0.03s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 3,
        "reuse_connection": false,
        "http_health_check": {
            "path": "/healthz?deep=1",
            "host": "check.test",
            "expected_statuses": [{"start": 200, "end": 300}],
            "retriable_statuses": [{"start": 500, "end": 502}],
        },
    })
}

/// A backend, and what was known of it before each answer of the list.
struct Backend {
    upstream: Upstream,
    admin: Arc<OnceLock<SocketAddr>>,
    course: Arc<Mutex<Vec<String>>>,
}

impl Backend {
    fn start() -> Self {
        let (admin, course) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(Vec::new())));
        let (asked, kept) = (admin.clone(), course.clone());
        let upstream = Upstream::scripted("app", Box::new(move |_: &Seen| answer(asked.get(), &kept)));
        Self { upstream, admin, course }
    }

    /// All that was known, once the list is through.
    fn course(&self, admin: SocketAddr) -> Vec<String> {
        self.admin.set(admin).unwrap();
        await_true("all checks", || self.course.lock().unwrap().len() == ANSWERS.len());
        self.course.lock().unwrap().clone()
    }

    /// The line and the headers of a check, sorted.
    fn check(&self) -> (String, Vec<(String, String)>) {
        let Seen { line, mut headers, .. } = self.upstream.seen().swap_remove(0);
        headers.sort();
        (line, headers)
    }
}

/// 200 until the gateway can be asked, and again after the list.
fn answer(admin: Option<&SocketAddr>, course: &Mutex<Vec<String>>) -> Vec<u8> {
    let mut course = course.lock().unwrap();
    let status = match (admin, ANSWERS.get(course.len())) {
        (Some(admin), Some(status)) => {
            let text = client::send(*admin, &Request::get("localhost", "/clusters")).unwrap().text();
            let flags = text.lines().find_map(|line| line.strip_prefix(CLUSTER)?.split("::health_flags::").nth(1));
            course.push(flags.unwrap().to_owned());
            *status
        }
        _ => 200,
    };
    if status == 0 { Vec::new() } else { format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n").into_bytes() }
}

fn configuration(endpoint: SocketAddr, admin: SocketAddr) -> Value {
    let address = |a: SocketAddr| json!({"socket_address": {"address": a.ip().to_string(), "port_value": a.port()}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address(endpoint)}}]}]);
    let cluster = json!({
        "name": CLUSTER,
        "health_checks": [settings()],
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": endpoints},
    });
    json!({"admin": {"address": address(admin)}, "static_resources": {"clusters": [cluster]}})
}

#[test]
fn thresholds_and_statuses_mean_what_they_mean_in_envoy() {
    let Some(binary) = envoy::binary() else { return };
    let (one, two) = (Backend::start(), Backend::start());
    let mut admin = None;
    let _envoy = Envoy::start_as(&binary, |_, address| {
        admin = Some(address);
        configuration(one.upstream.address(), address)
    });
    let expected = one.course(admin.unwrap());
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: app\n  annotations:\n    \
         portolan.dev/health-check: '{}'\nspec: {{host: app.test}}\n",
        settings()
    );
    let portolan = Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", two.upstream.address())]))
        .file("rule.yaml", rule)
        .start();
    assert_eq!(two.course(portolan.admin_address()), expected);
    assert!(expected.contains(&"healthy".to_owned()) && expected.contains(&"/failed_active_hc".to_owned()));
    assert_eq!(two.check(), one.check());
}
