//! [`Visibility`]: which objects the gateway's namespace sees, by `exportTo` and the mesh's defaults for it.
//!
//! Semantics are those of Istio's push_context.go: `*` is everybody and beats the rest, `~` is nobody, `.` is the
//! object's own namespace; of the mesh's defaults only `.` and `*` count.

use std::collections::BTreeSet;

use super::{TranslateOptions, mesh};
use crate::ResourceSet;
use crate::object::Meta;
use crate::resources::istio::MeshConfig;

/// Annotation of a Service that takes the place of `exportTo`.
const SERVICE_EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Namespaces and the mesh's defaults.
pub(super) struct Visibility {
    /// The gateway's own.
    pub(super) gateway: String,
    /// Istio's root namespace, whose rules count for hosts of all namespaces.
    pub(super) root: String,
    services: Vec<String>,
    virtual_services: Vec<String>,
    destination_rules: Vec<String>,
}

/// How the gateway comes to see an object; VirtualServices are served in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// Kept to the gateway's own namespace.
    Own,
    /// Exported to it by name.
    Exported,
    /// Exported to everybody.
    Public,
}

/// Where a DestinationRule is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleScope {
    /// By clients of its own namespace.
    pub(super) local: bool,
    /// By clients elsewhere. A rule that only its own namespace sees does not stand in the way of wider ones there.
    pub(super) exported: bool,
    /// The gateway is among those that it is exported to.
    pub(super) seen: bool,
}

impl Visibility {
    pub(super) fn of(resources: &ResourceSet, options: &TranslateOptions) -> Self {
        let default = |read: fn(&MeshConfig) -> Option<Vec<String>>| {
            mesh::first(resources, read).unwrap_or_else(|| vec!["*".to_owned()])
        };
        Self {
            gateway: options.namespace.clone(),
            root: mesh::root_namespace(resources),
            services: default(|mesh| mesh.default_service_export_to.clone()),
            virtual_services: default(|mesh| mesh.default_virtual_service_export_to.clone()),
            destination_rules: default(|mesh| mesh.default_destination_rule_export_to.clone()),
        }
    }

    /// A VirtualService; none when the gateway does not see it.
    pub(super) fn of_virtual_service(&self, meta: &Meta, export_to: &[String]) -> Option<Seen> {
        seen(&meta.namespace, effective(export_to, &self.virtual_services), &self.gateway)
    }

    /// Whether a root VirtualService in `client` sees a delegate.
    pub(super) fn sees_delegate(&self, meta: &Meta, export_to: &[String], client: &str) -> bool {
        let list = if export_to.is_empty() { &self.virtual_services } else { export_to };
        list.iter().any(|entry| entry == "*" || resolved(entry, &meta.namespace) == client)
    }

    /// A ServiceEntry.
    pub(super) fn sees_entry(&self, meta: &Meta, export_to: &[String]) -> bool {
        seen(&meta.namespace, effective(export_to, &self.services), &self.gateway).is_some()
    }

    /// A Kubernetes Service.
    pub(super) fn sees_service(&self, meta: &Meta) -> bool {
        let written = meta.annotations.get(SERVICE_EXPORT_TO).map(String::as_str).unwrap_or_default();
        let list: Vec<String> =
            written.split(',').map(str::trim).filter(|e| !e.is_empty()).map(str::to_owned).collect();
        self.sees_entry(meta, &list)
    }

    /// A DestinationRule.
    pub(super) fn of_rule(&self, meta: &Meta, export_to: &[String]) -> RuleScope {
        let own = meta.namespace.as_str();
        let list: BTreeSet<&str> = export_to.iter().map(|entry| resolved(entry, own)).collect();
        let private_by_default = self.destination_rules.iter().any(|entry| entry == ".");
        let private = if list.is_empty() { private_by_default } else { list.len() == 1 && list.contains(own) };
        let public = list.is_empty() || list.contains("*");
        RuleScope {
            local: public || list.contains(own),
            exported: !private,
            seen: public || list.contains(self.gateway.as_str()),
        }
    }
}

/// The mesh's default where an object says nothing.
fn effective<'a>(export_to: &'a [String], default: &'a [String]) -> Vec<&'a str> {
    if !export_to.is_empty() {
        return export_to.iter().map(String::as_str).collect();
    }
    let default = [".", "*"].into_iter().find(|word| default.iter().any(|entry| entry == word));
    default.into_iter().collect()
}

fn seen(own: &str, export_to: Vec<&str>, client: &str) -> Option<Seen> {
    if export_to.contains(&"*") {
        return Some(Seen::Public);
    }
    if export_to.contains(&"~") || !export_to.iter().any(|entry| resolved(entry, own) == client) {
        return None;
    }
    Some(if own == client { Seen::Own } else { Seen::Exported })
}

fn resolved<'a>(entry: &'a str, own: &'a str) -> &'a str {
    if entry == "." { own } else { entry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visibility(default: &[&str]) -> Visibility {
        let list = || default.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        Visibility {
            gateway: "edge".to_owned(),
            root: "istio-system".to_owned(),
            services: list(),
            virtual_services: list(),
            destination_rules: list(),
        }
    }

    fn meta(namespace: &str) -> Meta {
        Meta { namespace: namespace.to_owned(), name: "x".to_owned(), ..Meta::default() }
    }

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn export_to_says_who_sees_a_virtual_service() {
        let public = visibility(&["*"]);
        let seen = |namespace: &str, entries: &[&str]| public.of_virtual_service(&meta(namespace), &list(entries));
        assert_eq!(seen("shop", &[]), Some(Seen::Public));
        assert_eq!(seen("shop", &["."]), None);
        assert_eq!(seen("edge", &["."]), Some(Seen::Own));
        assert_eq!(seen("shop", &["edge", "other"]), Some(Seen::Exported));
        assert_eq!(seen("edge", &["edge"]), Some(Seen::Own));
        assert_eq!(seen("shop", &["~"]), None);
        assert_eq!(seen("edge", &["~", "."]), None, "nobody beats somebody");
        assert_eq!(seen("shop", &["~", "*"]), Some(Seen::Public), "everybody beats nobody");
    }

    #[test]
    fn the_default_of_the_mesh_counts_where_nothing_is_written() {
        let private = visibility(&["."]);
        assert_eq!(private.of_virtual_service(&meta("shop"), &[]), None);
        assert_eq!(private.of_virtual_service(&meta("edge"), &[]), Some(Seen::Own));
        assert_eq!(private.of_virtual_service(&meta("shop"), &list(&["*"])), Some(Seen::Public));
        assert!(!private.sees_entry(&meta("shop"), &[]));
        assert_eq!(visibility(&["team"]).of_virtual_service(&meta("shop"), &[]), None, "only `.` and `*` count");
        assert!(
            !private.sees_delegate(&meta("shop"), &[], "other") && private.sees_delegate(&meta("shop"), &[], "shop")
        );
    }

    #[test]
    fn a_rule_for_its_own_namespace_only_is_not_looked_at_from_elsewhere() {
        let scope = |namespace: &str, entries: &[&str]| visibility(&["*"]).of_rule(&meta(namespace), &list(entries));
        assert_eq!(scope("shop", &["."]), RuleScope { local: true, exported: false, seen: false });
        assert_eq!(scope("shop", &["edge"]), RuleScope { local: false, exported: true, seen: true });
        assert_eq!(scope("shop", &["other"]), RuleScope { local: false, exported: true, seen: false });
        assert_eq!(scope("edge", &[]), RuleScope { local: true, exported: true, seen: true });
    }
}
