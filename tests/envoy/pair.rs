//! [`Pair`]: both hosts with the same filters, each with upstreams of its own that keep what they see.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::difference::Comparable;
use crate::support::client::{self, Request, Response};
use crate::support::config::{ANY_GATEWAY, routes, service_entry};
use crate::support::envoy::{self, Envoy, Filter};
use crate::support::gateway::{Gateway, Options};
use crate::support::probe::plugin_of;
use crate::support::upstream::{Seen, Upstream};

/// The service that requests are routed to.
const APP: &str = "app.test";

/// Makes an upstream's answer of what it saw.
type Script = Arc<dyn Fn(&Seen) -> Vec<u8> + Send + Sync>;

/// What is compared.
pub(crate) struct Case {
    filters: Vec<Filter>,
    services: Vec<(&'static str, Script)>,
    varying: Vec<&'static str>,
    stop_iteration: bool,
    /// Rules of a VirtualService, and the same as routes of Envoy.
    routes: Option<(String, serde_json::Value)>,
}

#[allow(dead_code, reason = "each filter needs a part of it")]
impl Case {
    /// One filter with its configuration in JSON, in front of an upstream that answers each request with 200.
    pub(crate) fn new(name: &str, module: impl Into<PathBuf>, config: &str) -> Self {
        let app: Script = Arc::new(|_| answer(200, &[("content-type", "text/plain")], b"from the upstream"));
        Self { services: vec![(APP, app)], ..Self::empty() }.filter(name, module, config)
    }

    /// No filter, but routes: a VirtualService's rules, and the same in Envoy's words.
    pub(crate) fn of_routes(
        rules: &str,
        routes: serde_json::Value,
        script: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let routes = Some((rules.to_owned(), routes));
        Self { services: vec![(APP, Arc::new(script))], routes, ..Self::empty() }
    }

    fn empty() -> Self {
        let (filters, services, varying) = (Vec::new(), Vec::new(), Vec::new());
        Self { filters, services, varying, stop_iteration: false, routes: None }
    }

    /// Another filter behind those that are there.
    pub(crate) fn filter(mut self, name: &str, module: impl Into<PathBuf>, config: &str) -> Self {
        // Without blanks, as Istio and Portolan hand it to the filter.
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        let (name, config) = (name.to_owned(), config.to_string());
        self.filters.push(Filter { name, module: module.into(), config });
        self
    }

    /// The upstream's answers; empty ones are no answer.
    pub(crate) fn upstream(mut self, script: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.services[0].1 = Arc::new(script);
        self
    }

    /// A service that filters may ask: `outbound|80||HOST`.
    pub(crate) fn service(
        mut self,
        host: &'static str,
        script: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.services.push((host, Arc::new(script)));
        self
    }

    /// A header whose value is the filter's own chance or clock.
    pub(crate) fn varying(mut self, header: &'static str) -> Self {
        self.varying.push(header);
        self
    }

    /// Body callbacks run while the head waits: a setting of both hosts.
    pub(crate) fn stop_iteration(mut self) -> Self {
        self.stop_iteration = true;
        self
    }

    /// Starts both. None where Envoy is not installed.
    pub(crate) fn start(self) -> Option<Pair> {
        let binary = envoy::binary()?;
        // Portolan first: what it refuses, it explains better.
        let portolan = Portolan::start(&self);
        let reference = Reference::start(&binary, &self);
        Some(Pair { portolan, reference, varying: self.varying })
    }

    /// Starts both, sends each request to both and compares; the answers. None where Envoy is not installed.
    pub(crate) fn same(self, requests: &[Request]) -> Option<Answers> {
        let pair = self.start()?;
        let answers = requests.iter().map(|request| pair.send(request)).collect();
        Some(pair.end(answers))
    }

    fn upstreams(&self) -> Vec<(&'static str, Upstream)> {
        let start = |(host, script): &(&'static str, Script)| {
            let script = script.clone();
            (*host, Upstream::scripted(host, Box::new(move |seen| script(seen))))
        };
        self.services.iter().map(start).collect()
    }
}

/// Both hosts, ready.
pub(crate) struct Pair {
    portolan: Portolan,
    reference: Reference,
    varying: Vec<&'static str>,
}

/// What both hosts had in common.
pub(crate) struct Answers {
    /// By request: the client's answer.
    pub(crate) responses: Vec<Response>,
    /// What the upstream saw.
    pub(crate) upstream: Vec<Seen>,
    /// What the other services saw, in their order.
    pub(crate) services: Vec<Vec<Seen>>,
}

impl Pair {
    /// Sends a request to both; the answer when it is the same.
    pub(crate) fn send(&self, request: &Request) -> Response {
        let [of_envoy, of_portolan] = self.send_unlike(request);
        let comparable = |response| Comparable::response(response, &self.varying);
        let found = Comparable::differences(&comparable(&of_envoy), &comparable(&of_portolan));
        assert!(found.is_empty(), "answers to {request:?}:\n  {}", found.join("\n  "));
        of_portolan
    }

    /// Sends a request to both and compares nothing: Envoy's answer, Portolan's answer.
    pub(crate) fn send_unlike(&self, request: &Request) -> [Response; 2] {
        let of_envoy = client::send(self.reference.envoy.address(), request);
        let of_envoy = of_envoy.unwrap_or_else(|error| panic!("envoy: {request:?}: {error}"));
        [of_envoy, self.portolan.gateway.send(request)]
    }

    /// Compares what the upstream saw, and not how often the services were asked, which may hang on the number of VMs.
    pub(crate) fn end_upstream(mut self) -> Vec<Seen> {
        self.reference.upstreams.truncate(1);
        self.end(Vec::new()).upstream
    }

    /// Compares what the upstream and the services saw.
    pub(crate) fn end(self, responses: Vec<Response>) -> Answers {
        let mut all = Vec::new();
        for ((host, of_envoy), (_, of_portolan)) in self.reference.upstreams.iter().zip(&self.portolan.upstreams) {
            let (of_envoy, of_portolan) = (of_envoy.seen(), of_portolan.seen());
            let comparable = |seen| Comparable::request(seen, &self.varying);
            assert_eq!(of_envoy.len(), of_portolan.len(), "{host} saw {of_envoy:#?}, {of_portolan:#?}");
            for (in_envoy, in_portolan) in of_envoy.iter().zip(&of_portolan) {
                let found = Comparable::differences(&comparable(in_envoy), &comparable(in_portolan));
                assert!(found.is_empty(), "{host} saw, of {}:\n  {}", in_envoy.line, found.join("\n  "));
            }
            all.push(of_portolan);
        }
        let upstream = all.remove(0);
        Answers { responses, upstream, services: all }
    }
}

impl Answers {
    /// The answer to the only request.
    pub(crate) fn only(&self) -> &Response {
        assert_eq!(self.responses.len(), 1);
        &self.responses[0]
    }
}

struct Reference {
    envoy: Envoy,
    upstreams: Vec<(&'static str, Upstream)>,
}

impl Reference {
    fn start(binary: &Path, case: &Case) -> Self {
        let upstreams = case.upstreams();
        let services: Vec<_> = upstreams.iter().map(|(host, upstream)| (*host, upstream.address())).collect();
        let envoy = Envoy::start(
            binary,
            &envoy::Options {
                filters: &case.filters,
                services: &services,
                stop_iteration: case.stop_iteration,
                routes: case.routes.as_ref().map(|(_, routes)| routes.clone()),
            },
        );
        Self { envoy, upstreams }
    }
}

struct Portolan {
    gateway: Gateway,
    upstreams: Vec<(&'static str, Upstream)>,
}

impl Portolan {
    fn start(case: &Case) -> Self {
        let upstreams = case.upstreams();
        let plain = || format!("- route: [{{destination: {{host: {APP}}}}}]\n");
        let rules = case.routes.as_ref().map_or_else(plain, |(rules, _)| rules.clone());
        let mut options = Options::new().file("gateway.yaml", ANY_GATEWAY).file("routes.yaml", routes(&rules));
        for (host, upstream) in &upstreams {
            options = options
                .file(&format!("{}.yaml", host.replace('.', "-")), service_entry(host, &[("v1", upstream.address())]));
        }
        for (at, filter) in case.filters.iter().enumerate() {
            // Of one phase, the higher priority runs first.
            let lines =
                format!("  pluginName: {}\n  priority: {}\n  pluginConfig: {}\n", filter.name, 100 - at, filter.config);
            let mut plugin = plugin_of(&filter.name, &filter.module, &lines);
            if case.stop_iteration {
                let annotation = "  annotations: {portolan.dev/allow-on-headers-stop-iteration: 'true'}\nspec:\n";
                plugin = plugin.replace("spec:\n", annotation);
            }
            options = options.file(&format!("plugin-{at}.yaml"), plugin);
        }
        let gateway = options.start();
        gateway.await_filters();
        Self { gateway, upstreams }
    }
}

/// The bytes of a response with its `content-length`.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} Scripted\r\n{lines}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
