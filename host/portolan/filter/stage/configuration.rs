//! The files that a stage is configured by: a Gateway, a route to the backend, the services, and the filter's WasmPlugin.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::filter::project::{FailStrategy, Phase};

/// The filter under test, as its WasmPlugin has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// Name of the WasmPlugin, in namespace `default`.
    pub(crate) name: String,
    /// `pluginName`: the root id.
    pub(crate) plugin_name: Option<String>,
    /// `pluginConfig`; null when there is none.
    pub(crate) config: Value,
    /// `phase`.
    pub(crate) phase: Option<Phase>,
    /// `failStrategy`.
    pub(crate) fail_strategy: Option<FailStrategy>,
}

/// A service that callouts can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its host.
    pub(crate) host: String,
    /// Its port, as filters name it.
    pub(crate) port: u16,
    /// It is spoken to in HTTP/2, as gRPC wants it.
    pub(crate) http2: bool,
}

impl Named {
    /// `HOST`, `HOST:PORT` or the name of a cluster, `outbound|PORT||HOST`; port 80 by default. None for what is none of
    /// these.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('|').collect();
        let (host, port) = match *parts {
            ["outbound", port, "", host] => (host, port.parse().ok()?),
            [text] => match text.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().ok()?),
                None => (text, 80),
            },
            _ => return None,
        };
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port, http2: false })
    }

    /// The name of its cluster.
    pub(crate) fn cluster(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host)
    }
}

/// Name of the filter's module in the stage's folder.
const MODULE: &str = "filter.wasm";

/// Where all other requests go.
const BACKEND: &str = "backend.stage.internal";

/// Writes the module, if there is one, in one step.
pub(super) fn write_module(folder: &Path, module: &[u8]) -> io::Result<()> {
    replace(&folder.join(MODULE), module)
}

/// Writes the WasmPlugin, for the module that [`write_module`] has written.
pub(super) fn write_subject(folder: &Path, subject: &Subject) -> io::Result<()> {
    write_subject_of(folder, subject, &folder.join(MODULE))
}

/// Writes the WasmPlugin, for a module elsewhere.
pub(crate) fn write_subject_of(folder: &Path, subject: &Subject, module: &Path) -> io::Result<()> {
    let mut spec = json!({ "url": format!("file://{}", module.display()) });
    let mut set = |key: &str, value: Value| {
        if !value.is_null() {
            spec[key] = value;
        }
    };
    set("pluginName", json!(subject.plugin_name));
    set("pluginConfig", subject.config.clone());
    set("phase", json!(subject.phase));
    set("failStrategy", json!(subject.fail_strategy));
    let plugin = object("extensions.istio.io/v1alpha1", "WasmPlugin", &subject.name, spec);
    write(folder, "filter.yaml", &[plugin])
}

/// Writes the Gateway, the route and the backend.
pub(crate) fn write_gateway(folder: &Path, listen: SocketAddr, backend: SocketAddr) -> io::Result<()> {
    let istio = "networking.istio.io/v1";
    let server = json!({
        "port": { "number": listen.port(), "name": "http", "protocol": "HTTP" },
        "bind": listen.ip().to_string(),
        "hosts": ["*"],
    });
    let gateway = json!({ "selector": { "istio": "ingressgateway" }, "servers": [server] });
    // A try is told to the author once: no second one hides behind an answer of 503.
    let rule = json!({
        "route": [{ "destination": { "host": BACKEND, "port": { "number": 80 } } }],
        "retries": { "attempts": 0 },
    });
    let routes = json!({ "hosts": ["*"], "gateways": ["stage"], "http": [rule] });
    let entry = Named { host: BACKEND.to_owned(), port: 80, http2: false };
    let documents = [
        object(istio, "Gateway", "stage", gateway),
        object(istio, "VirtualService", "stage", routes),
        service_entry("backend", &entry, backend),
    ];
    write(folder, "gateway.yaml", &documents)
}

/// Writes a ServiceEntry for each service.
pub(crate) fn write_services<'a>(
    folder: &Path,
    services: impl Iterator<Item = (&'a Named, SocketAddr)>,
) -> io::Result<()> {
    let entry = |(number, (named, address)): (usize, (&Named, SocketAddr))| {
        service_entry(&format!("service-{number}"), named, address)
    };
    write(folder, "services.yaml", &services.enumerate().map(entry).collect::<Vec<_>>())
}

fn service_entry(name: &str, service: &Named, address: SocketAddr) -> Value {
    let protocol = if service.http2 { "http2" } else { "http" };
    let spec = json!({
        "hosts": [service.host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{ "number": service.port, "name": protocol, "protocol": protocol.to_uppercase() }],
        "endpoints": [{ "address": address.ip().to_string(), "ports": { protocol: address.port() } }],
    });
    object("networking.istio.io/v1", "ServiceEntry", name, spec)
}

fn object(api: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

/// JSON is YAML.
fn write(folder: &Path, name: &str, documents: &[Value]) -> io::Result<()> {
    let text: Vec<_> = documents.iter().map(|document| format!("{document:#}\n")).collect();
    replace(&folder.join(name), text.join("---\n").as_bytes())
}

/// A reader finds the old text or the new one, never a part.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_by_host_address_or_cluster() {
        let named = |host: &str, port| Some(Named { host: host.to_owned(), port, http2: false });
        assert_eq!(Named::parse("authz"), named("authz", 80));
        assert_eq!(Named::parse("authz:9000"), named("authz", 9000));
        assert_eq!(
            Named::parse("outbound|9000||authz.default.svc.cluster.local"),
            named("authz.default.svc.cluster.local", 9000)
        );
        for wrong in ["", ":80", "outbound|x||a", "a|b", "authz:port"] {
            assert_eq!(Named::parse(wrong), None, "{wrong}");
        }
    }
}
