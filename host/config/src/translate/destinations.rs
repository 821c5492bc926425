//! [`Destinations`]: which cluster a destination means, and what is wrong with it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::Origin;

use super::actions::Reference;
use super::findings::Finding;
use super::http_policies;
use super::policies::Policies;
use super::registry::{Provider, Registry};
use crate::diagnostic::{Diagnostic, Severity};
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{HttpRetry, RouteDestination};
use crate::suggest;

/// Above this many names no similar ones are looked for: each look costs as much as all of them.
const MAX_COMPARED: usize = 2000;

/// Services and rules, asked by name.
pub(super) struct Destinations<'a> {
    registry: &'a Registry<'a>,
    policies: &'a Policies<'a>,
    default_retries: Option<HttpRetry>,
    /// Those of clusters that say everything themselves, once for all routes.
    references: RefCell<HashMap<ClusterKey, Arc<Reference>>>,
    names: RefCell<HashMap<ClusterKey, Arc<str>>>,
}

/// What a cluster is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClusterKey {
    pub(super) host: String,
    pub(super) port: u16,
    /// Empty when the destination names none.
    pub(super) subset: String,
}

impl ClusterKey {
    /// As Istio names it.
    pub(super) fn name(&self) -> String {
        format!("outbound|{}|{}|{}", self.port, self.subset, self.host)
    }
}

impl<'a> Destinations<'a> {
    pub(super) fn new(registry: &'a Registry<'a>, policies: &'a Policies<'a>) -> Self {
        Self { registry, policies, default_retries: None, references: RefCell::default(), names: RefCell::default() }
    }

    /// With the mesh configuration's retries for rules that have none.
    pub(super) fn with_default_retries(self, default_retries: Option<HttpRetry>) -> Self {
        Self { default_retries, ..self }
    }

    /// Retries of rules that have none; absent in nearly all meshes, and then Istio's own count.
    pub(super) fn default_retries(&self) -> Option<&HttpRetry> {
        self.default_retries.as_ref()
    }

    /// True when the cluster's endpoint is chosen by hash.
    pub(super) fn is_hashed(&self, key: &ClusterKey) -> bool {
        let blocks = self.policies.of_host(&key.host).map(|rules| rules.in_force(key.port, &key.subset));
        blocks.and_then(|blocks| blocks.load_balancer).is_some_and(|(lb, _, _)| lb.consistent_hash.is_some())
    }

    /// The cluster of a destination, and whether there is such a cluster.
    pub(super) fn resolve(
        &self,
        namespace: &str,
        written: &RouteDestination,
        listener_port: u16,
    ) -> (ClusterKey, bool) {
        let host = hosts::complete(&written.host, namespace);
        let ports = self.registry.ports(&host);
        let explicit = written.port.as_ref().and_then(|port| u16::try_from(port.number).ok());
        let only = ports.as_deref().filter(|ports| ports.len() == 1).map(|ports| ports[0]);
        let port = explicit.or(only).unwrap_or(listener_port);
        let subset = written.subset.clone().unwrap_or_default();
        let known = ports.is_none_or(|ports| ports.contains(&port)) && self.has_subset(&host, &subset);
        (ClusterKey { host, port, subset }, known)
    }

    /// The name of a cluster, once for all destinations.
    pub(super) fn name(&self, key: &ClusterKey) -> Arc<str> {
        let mut names = self.names.borrow_mut();
        if let Some(name) = names.get(key) {
            return name.clone();
        }
        let name: Arc<str> = key.name().into();
        names.insert(key.clone(), name.clone());
        name
    }

    /// A cluster that a destination needs. `written` and `origin` of the first one count where nothing defines the host.
    pub(super) fn reference(&self, key: ClusterKey, written: &str, origin: Origin) -> Arc<Reference> {
        let is_defined =
            matches!(self.registry.providers(&key.host).first(), Some(Provider::Service(_) | Provider::Entry(_)));
        let new = |key| Arc::new(Reference { key, written: written.to_owned(), origin });
        if !is_defined {
            return new(key);
        }
        let mut known = self.references.borrow_mut();
        if let Some(known) = known.get(&key) {
            return known.clone();
        }
        let reference = new(key.clone());
        known.insert(key, reference.clone());
        reference
    }

    fn has_subset(&self, host: &str, subset: &str) -> bool {
        subset.is_empty() || self.policies.of_host(host).is_some_and(|rules| rules.subset(subset).is_some())
    }

    /// Findings about the destinations of a VirtualService, served or not.
    pub(super) fn diagnose(&self, object: &Object<VirtualService>) -> Vec<Finding> {
        let mut found = Vec::new();
        for (i, rule) in object.spec.http.iter().enumerate() {
            for (j, entry) in rule.route.iter().enumerate() {
                self.diagnose_route(object, &format!("spec.http[{i}].route[{j}]"), &entry.destination, &mut found);
            }
            for mirror in http_policies::mirrors_of(rule) {
                let path = format!("spec.http[{i}].{}", mirror.path());
                self.diagnose_one(object, &path, mirror.destination, &mut found);
            }
        }
        for (i, rule) in object.spec.tcp.iter().enumerate() {
            for (j, entry) in rule.route.iter().enumerate() {
                let path = format!("spec.tcp[{i}].route[{j}]");
                self.diagnose_route(object, &path, &entry.destination, &mut found);
                let destination = entry.destination.as_ref();
                found.extend(destination.and_then(|written| self.named_by_nobody(object, &path, written)));
            }
        }
        for (i, rule) in object.spec.tls.iter().enumerate() {
            for (j, entry) in rule.route.iter().enumerate() {
                let path = format!("spec.tls[{i}].route[{j}]");
                self.diagnose_route(object, &path, &entry.destination, &mut found);
            }
        }
        found
    }

    fn diagnose_route(
        &self,
        object: &Object<VirtualService>,
        path: &str,
        written: &Option<RouteDestination>,
        found: &mut Vec<Finding>,
    ) {
        if let Some(written) = written {
            self.diagnose_one(object, &format!("{path}.destination"), written, found);
        }
    }

    /// A host of DYNAMIC_DNS, which connections without TLS do not name.
    fn named_by_nobody(
        &self,
        object: &Object<VirtualService>,
        path: &str,
        written: &RouteDestination,
    ) -> Option<Finding> {
        let host = hosts::complete(&written.host, &object.meta.namespace);
        let Some(Provider::Entry(entry)) = self.registry.providers(&host).first() else { return None };
        if entry.spec.resolution.as_deref() != Some("DYNAMIC_DNS") {
            return None;
        }
        let place = object.place(&format!("{path}.destination.host"));
        let text = format!(
            "connections without TLS name no host, as resolution DYNAMIC_DNS wants it: they reach no endpoint of `{}`",
            written.host
        );
        let diagnostic =
            Diagnostic::warning("P0323", place, text).with_help("set `resolution: DNS` in the ServiceEntry");
        Some(Finding { diagnostic, once: None })
    }

    fn diagnose_one(
        &self,
        object: &Object<VirtualService>,
        path: &str,
        written: &RouteDestination,
        found: &mut Vec<Finding>,
    ) {
        let always = |diagnostic| Finding { diagnostic, once: None };
        let host = hosts::complete(&written.host, &object.meta.namespace);
        let subset = written.subset.as_deref().unwrap_or_default();
        let defined = self.has_subset(&host, subset);
        if !defined {
            found.push(always(self.unknown_subset(object, path, written, &host)));
        }
        match self.registry.ports(&host) {
            _ if self.registry.is_hidden(&host) => {
                let place = object.place(&format!("{path}.host"));
                let text = format!("`exportTo` keeps this gateway from `{}`: requests get 503", written.host);
                found.push(always(Diagnostic::warning("P0322", place, text)));
            }
            // An address needs no DNS, and no labels beside its own.
            None if host.parse::<std::net::IpAddr>().is_ok() => {}
            None => {
                let diagnostic = self.resolved_by_dns(object, path, written, &host);
                found.push(Finding { diagnostic, once: Some(host.clone()) });
                if defined && !subset.is_empty() {
                    let place = object.place(&format!("{path}.subset"));
                    let text = format!("subset `{subset}` uses all addresses of `{}`", written.host);
                    let label = "DNS resolves this host, and DNS knows no labels";
                    let diagnostic = Diagnostic::warning("P0205", place, text).with_label(label);
                    found.push(Finding { diagnostic, once: Some(format!("{subset}|{host}")) });
                }
            }
            Some(ports) => found.extend(diagnose_port(object, path, written, &ports).map(always)),
        }
    }

    fn unknown_subset(
        &self,
        object: &Object<VirtualService>,
        path: &str,
        written: &RouteDestination,
        host: &str,
    ) -> Diagnostic {
        let subset = written.subset.as_deref().unwrap_or_default();
        let text = format!("subset `{subset}` is not defined by any DestinationRule for `{}`", written.host);
        let finding = Diagnostic::error("P0204", object.place(&format!("{path}.subset")), text);
        let Some(rules) = self.policies.of_host(host) else {
            return finding.with_label(format!("there is no DestinationRule for `{host}`"));
        };
        let known: Vec<&str> = rules.subset_names().collect();
        let first = rules.first();
        if known.is_empty() {
            let place = first.key_place("spec");
            return finding.with_label(format!("its DestinationRule has no subsets ({}:{})", place.file, place.line));
        }
        let place = first.key_place("spec.subsets");
        let label = format!("known subsets: {} ({}:{})", suggest::list(known.iter().copied()), place.file, place.line);
        match suggest::nearest(subset, known) {
            Some(near) => finding.with_label(label).with_help(format!("did you mean `{near}`?")),
            None => finding.with_label(label),
        }
    }

    fn resolved_by_dns(
        &self,
        object: &Object<VirtualService>,
        path: &str,
        written: &RouteDestination,
        host: &str,
    ) -> Diagnostic {
        let place = object.place(&format!("{path}.host"));
        let text = format!("`{}` is in no Service or ServiceEntry: DNS resolves it", written.host);
        let finding = Diagnostic::warning("P0208", place, text);
        if let Some(near) = self.similar(host) {
            let suffix = format!(".{}.svc.{}", object.meta.namespace, hosts::CLUSTER_DOMAIN);
            return finding.with_help(format!("did you mean `{}`?", near.strip_suffix(&suffix).unwrap_or(near)));
        }
        Diagnostic { severity: Severity::Note, ..finding }
    }

    /// A host that was probably meant: `name.namespace` written without the rest, or a slip.
    fn similar(&self, host: &str) -> Option<&str> {
        let rest = [format!("{host}.svc.{}", hosts::CLUSTER_DOMAIN), format!("{host}.{}", hosts::CLUSTER_DOMAIN)];
        let whole = rest.iter().find_map(|name| self.registry.name(name));
        let near = || suggest::nearest(host, self.registry.hosts());
        whole.or_else(|| (self.registry.len() <= MAX_COMPARED).then(near).flatten())
    }
}

fn diagnose_port(
    object: &Object<VirtualService>,
    path: &str,
    written: &RouteDestination,
    ports: &[u16],
) -> Option<Diagnostic> {
    let known = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let label = if known.is_empty() { "it has no ports".to_owned() } else { format!("its ports: {known}") };
    match &written.port {
        Some(port) if ports.iter().any(|known| u32::from(*known) == port.number) => None,
        Some(port) => {
            let place = object.place(&format!("{path}.port.number"));
            let text = format!("`{}` has no port {}", written.host, port.number);
            Some(Diagnostic::error("P0206", place, text).with_label(label))
        }
        None if ports.len() == 1 => None,
        None => {
            let text = format!("`{}` has several ports: the listener's port is taken", written.host);
            let finding = Diagnostic::warning("P0206", object.place(&format!("{path}.host")), text).with_label(label);
            Some(finding.with_help("name one in `destination.port.number`"))
        }
    }
}
