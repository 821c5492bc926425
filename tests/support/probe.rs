//! The gateway with the filter of `tests/probe` in its chain: each request says what the filter does in which callback.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::client::{Request, Response};
use super::config::{ANY_GATEWAY, routes, service_entry};
use super::gateway::{Gateway, Options};
use super::upstream::Upstream;
use super::{await_some, wasm};

/// A gateway and its one upstream.
pub(crate) struct Probe {
    pub(crate) gateway: Gateway,
    pub(crate) app: Upstream,
    requests: AtomicUsize,
}

/// What a script saw, by callback: `request_headers` to `get_header_map_value=0:b ..`.
#[derive(Clone, Debug)]
pub(crate) struct Saw(String);

impl Probe {
    /// The probe as it is, of ABI 0.2.1.
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    /// The probe with these lines at the end of its WasmPlugin, e.g. `  failStrategy: FAIL_OPEN\n`.
    pub(crate) fn with(plugin: &str) -> Self {
        Self::of(&module(), plugin)
    }

    /// The probe with these callbacks of the plugin, e.g. `tick { .. }`.
    pub(crate) fn configured(script: &str) -> Self {
        Self::with(&format!("  pluginConfig: {{\"do\": \"{script}\"}}\n"))
    }

    /// A module that answers to the same requests.
    pub(crate) fn of(module: &Path, plugin: &str) -> Self {
        let app = Upstream::start("app");
        let gateway = options(&app).file("plugin.yaml", plugin_of("probe", module, plugin)).start();
        Self { gateway, app, requests: AtomicUsize::new(0) }
    }

    /// The probe as it is in a gateway with a configuration of its own.
    pub(crate) fn on(options: Options, app: Upstream) -> Self {
        let gateway = options.file("plugin.yaml", plugin_of("probe", &module(), "")).start();
        Self { gateway, app, requests: AtomicUsize::new(0) }
    }

    /// The answer to `GET /` with this script.
    pub(crate) fn get(&self, script: &str) -> Response {
        self.gateway.send(&asking(script))
    }

    /// What `GET /` with this script saw until the response's head went out.
    pub(crate) fn saw(&self, script: &str) -> Saw {
        self.saw_of(&asking(script))
    }

    /// The same for any request.
    pub(crate) fn saw_of(&self, request: &Request) -> Saw {
        let response = self.gateway.send(request);
        let saw = response.header("x-saw");
        Saw(saw.unwrap_or_else(|| panic!("nothing was seen: {response:?}\n{}", self.gateway.log())).to_owned())
    }

    /// What all callbacks of a request saw, its end included.
    pub(crate) fn saw_to_the_end(&self, request: Request) -> (Response, Saw) {
        let id = format!("request-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let response = self.gateway.send(&request.header("x-id", &id));
        (response, self.ended(&id))
    }

    /// What the log tells of the request with this name.
    pub(crate) fn ended(&self, id: &str) -> Saw {
        let start = format!("probe {id} | ");
        Saw(await_some(&format!("{start} in the log\n{}", self.gateway.log()), || {
            let log = self.gateway.log();
            let (_, rest) = log.split_once(&start)?;
            rest.split_once(" ||").map(|(saw, _)| saw.to_owned())
        }))
    }
}

impl Saw {
    /// What the first call of this callback saw.
    pub(crate) fn of(&self, phase: &str) -> &str {
        self.all(phase).first().copied().unwrap_or_else(|| panic!("no {phase} in {self:?}"))
    }

    /// What each call of this callback saw.
    pub(crate) fn all(&self, phase: &str) -> Vec<&str> {
        let entries = self.0.split(" | ").filter_map(|entry| entry.trim().split_once("): "));
        entries.filter(|(name, _)| name.split('(').next() == Some(phase)).map(|(_, saw)| saw.trim()).collect()
    }

    /// Each callback with its arguments, in order.
    pub(crate) fn order(&self) -> Vec<&str> {
        let entries = self.0.split(" | ").filter_map(|entry| entry.trim().split_once("):"));
        entries.map(|(name, _)| name).collect()
    }
}

/// `GET /` that asks the probe for this.
pub(crate) fn asking(script: &str) -> Request {
    Request::get("h", "/").header("x-do", script)
}

/// A gateway for every host with one upstream.
pub(crate) fn options(app: &Upstream) -> Options {
    Options::new()
        .file("gateway.yaml", ANY_GATEWAY)
        .file("routes.yaml", routes("- route: [{destination: {host: app.test}}]\n"))
        .file("app.yaml", service_entry("app.test", &[("v1", app.address())]))
}

/// A WasmPlugin with these lines at its end.
pub(crate) fn plugin_of(name: &str, module: &Path, lines: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {name}\nspec:\n  \
         url: file://{}\n{lines}",
        module.display()
    )
}

/// The probe's module.
pub(crate) fn module() -> PathBuf {
    wasm::built("tests/probe")
}
