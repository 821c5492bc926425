//! [`Gateways`]: the Gateway resources in Istio's order, with the hosts of each server.

use std::collections::HashMap;

use portolan_model::Origin;

use super::host_index::HostIndex;
use super::{TranslateOptions, age, fits};
use crate::ResourceSet;
use crate::diagnostic::{Diagnostic, Severity};
use crate::object::Object;
use crate::resources::istio::Gateway;
use crate::resources::istio::gateway::ServerTls;
use crate::suggest;

/// All Gateways, those for other gateways too: names and hosts are checked against them all.
pub(super) struct Gateways<'a> {
    /// In Istio's order: age, name, namespace.
    pub(super) all: Vec<KnownGateway<'a>>,
    /// `namespace/name` to index.
    by_name: HashMap<String, usize>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// One Gateway.
pub(super) struct KnownGateway<'a> {
    /// `namespace/name`.
    pub(super) name: String,
    pub(super) object: &'a Object<Gateway>,
    /// Whether its selector fits this gateway.
    pub(super) selected: bool,
    pub(super) servers: Vec<KnownServer>,
}

/// One server of a Gateway.
pub(super) struct KnownServer {
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) bind: Option<std::net::IpAddr>,
    pub(super) hosts: HostIndex,
    pub(super) https_redirect: bool,
    pub(super) origin: Origin,
    /// Index in the object.
    pub(super) index: usize,
    /// Path in the object, e.g. `spec.servers[0]`.
    pub(super) path: String,
}

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    /// HTTP within TLS that ends here.
    Https,
    /// Bytes within TLS that ends here.
    Tls,
    /// TLS that goes through as it is.
    Passthrough,
    /// TLS of the mesh, AUTO_PASSTHROUGH and ISTIO_MUTUAL.
    Mesh,
    /// Bytes, whatever they mean: Istio's filters for MONGO, MYSQL and REDIS are off unless asked for.
    Tcp,
    /// Datagrams, an extension of ours: Istio serves none.
    Udp,
    /// HBONE.
    Other,
}

impl<'a> Gateways<'a> {
    pub(super) fn of(resources: &'a ResourceSet, options: &TranslateOptions) -> Self {
        let mut objects: Vec<_> = resources.gateways().collect();
        objects.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
        let all: Vec<_> = objects.into_iter().map(|object| KnownGateway::of(object, options)).collect();
        let by_name = all.iter().enumerate().map(|(i, gateway)| (gateway.name.clone(), i)).collect();
        let diagnostics = diagnose(&all, options);
        Self { all, by_name, diagnostics }
    }

    /// Index of a Gateway by `namespace/name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

impl<'a> KnownGateway<'a> {
    fn of(object: &'a Object<Gateway>, options: &TranslateOptions) -> Self {
        let name = format!("{}/{}", object.meta.namespace, object.meta.name);
        let servers = (0..object.spec.servers.len()).filter_map(|i| KnownServer::of(object, i)).collect();
        Self { name, object, selected: fits(&object.spec.selector, &options.labels), servers }
    }
}

impl KnownServer {
    fn of(object: &Object<Gateway>, index: usize) -> Option<Self> {
        let server = &object.spec.servers[index];
        let port = server.port.as_ref()?;
        let path = format!("spec.servers[{index}]");
        Some(Self {
            port: u16::try_from(port.number).ok()?,
            protocol: Protocol::of(&port.protocol, server.tls.as_ref()),
            bind: server.bind.as_ref().and_then(|bind| bind.parse().ok()),
            hosts: HostIndex::of(&server.hosts, &object.meta.namespace),
            https_redirect: server.tls.as_ref().is_some_and(|tls| tls.https_redirect),
            origin: object.origin(&path),
            index,
            path,
        })
    }
}

impl Protocol {
    /// A server that is not for HTTP and has TLS settings is one of TLS, as in Istio. The mode is PASSTHROUGH when none is
    /// written.
    fn of(text: &str, tls: Option<&ServerTls>) -> Self {
        let text = text.to_ascii_uppercase();
        match (text.as_str(), tls.map(|tls| tls.mode.as_deref().unwrap_or("PASSTHROUGH"))) {
            ("HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB", _) => Self::Http,
            ("UDP", _) => Self::Udp,
            ("HBONE", _) => Self::Other,
            (_, Some("AUTO_PASSTHROUGH" | "ISTIO_MUTUAL")) => Self::Mesh,
            (_, Some("PASSTHROUGH")) => Self::Passthrough,
            ("HTTPS", _) => Self::Https,
            (_, Some(_)) => Self::Tls,
            ("TLS", None) => Self::Mesh,
            (_, None) => Self::Tcp,
        }
    }

    /// Whether the client's server name decides among servers that share an address.
    pub(super) fn by_server_name(self) -> bool {
        matches!(self, Self::Https | Self::Tls | Self::Passthrough)
    }

    /// As messages call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https | Self::Tls | Self::Passthrough | Self::Mesh => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Other => "other",
        }
    }
}

fn diagnose(all: &[KnownGateway<'_>], options: &TranslateOptions) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    // A gateway that serves nothing at all is probably started with the wrong labels; beside others it is normal.
    let severity = if all.iter().any(|g| g.selected) { Severity::Note } else { Severity::Warning };
    for gateway in all {
        if !gateway.selected {
            found.push(not_selected(gateway, severity, options));
            continue;
        }
        for server in &gateway.servers {
            let (code, what) = match server.protocol {
                Protocol::Http | Protocol::Https | Protocol::Tls | Protocol::Passthrough => continue,
                Protocol::Tcp | Protocol::Udp => continue,
                Protocol::Mesh => {
                    ("P0301", "AUTO_PASSTHROUGH and ISTIO_MUTUAL are of the mesh: this server is skipped")
                }
                Protocol::Other => ("P0302", "HBONE servers are not served: this server is skipped"),
            };
            let field = if server.protocol == Protocol::Mesh { "tls.mode" } else { "port.protocol" };
            let place = gateway.object.place(&format!("{}.{field}", server.path));
            found.push(Diagnostic::warning(code, place, what));
        }
    }
    found
}

fn not_selected(gateway: &KnownGateway<'_>, severity: Severity, options: &TranslateOptions) -> Diagnostic {
    let own: Vec<String> = options.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let place = gateway.object.place("spec.selector");
    let text = "this Gateway is for other gateways: its selector does not fit this one's labels";
    let label = format!("this gateway has {}", suggest::list(own.iter().map(String::as_str)));
    Diagnostic { severity, ..Diagnostic::warning("P0212", place, text).with_label(label) }
}
