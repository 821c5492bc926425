//! `xds.*`: names and metadata of what a request is served with, as Istio would have configured Envoy.

use std::sync::OnceLock;

use super::{message, number, text};
use crate::context::StreamContext;

/// Envoy's `TrafficDirection.OUTBOUND`, which Istio gives the listeners of gateways.
const OUTBOUND: u64 = 2;

/// Appends a property; `path` is what follows its name, a way into a message.
pub(super) fn write(context: &StreamContext, name: &[u8], path: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let snapshot = &context.snapshot;
    let route = || context.route.map(|id| &snapshot.model.routes[id as usize]);
    let cluster = || context.choice.and_then(|choice| snapshot.cluster(choice.cluster));
    match name {
        b"node" => node(path, out),
        b"route_name" => route().is_some_and(|route| text(&route.name, out)),
        b"cluster_name" => cluster().is_some_and(|cluster| text(&cluster.state.name, out)),
        b"virtual_host_name" => virtual_host(context).is_some_and(|name| text(name, out)),
        b"route_metadata" => {
            let config = route().map(|route| config_path(&route.origin));
            config.is_some_and(|config| metadata(&[("config", &config)], path, out))
        }
        b"cluster_metadata" => {
            let config = cluster().map(|cluster| config_path(&cluster.origin));
            config.is_some_and(|config| metadata(&[("config", &config)], path, out))
        }
        // Listeners of Istio's gateways have a chain without a name.
        b"filter_chain_name" => true,
        b"listener_direction" => number(OUTBOUND, out),
        b"listener_metadata" | b"virtual_host_metadata" => metadata(&[], path, out),
        b"upstream_host_metadata" => context.endpoint.is_some() && metadata(&[], path, out),
        _ => false,
    }
}

/// Envoy's node: `id = 1`, `cluster = 2`, `metadata = 3`. The same for all streams.
pub(super) fn node(path: &[&[u8]], out: &mut Vec<u8>) -> bool {
    let fields = [("NAME", node_id()), ("NAMESPACE", "default")];
    match path {
        [] => {
            message::put(1, node_id().as_bytes(), out);
            message::put(2, b"portolan", out);
            message::put(3, &message::structure(&fields), out);
            true
        }
        [b"id"] => text(node_id(), out),
        [b"cluster"] => text("portolan", out),
        [b"metadata"] => {
            out.extend_from_slice(&message::structure(&fields));
            true
        }
        [b"metadata", name] => {
            fields.iter().find(|(known, _)| known.as_bytes() == *name).is_some_and(|of| text(of.1, out))
        }
        _ => false,
    }
}

/// The machine's name, or the pod's.
fn node_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let named = std::env::var("HOSTNAME").ok();
        let asked = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        named.or_else(asked).filter(|name| !name.is_empty()).unwrap_or_else(|| "portolan".to_owned())
    })
}

/// Metadata as a message, or the text that a path leads to.
fn metadata(fields: &[(&str, &str)], path: &[&[u8]], out: &mut Vec<u8>) -> bool {
    match path {
        [] => {
            if !fields.is_empty() {
                out.extend_from_slice(&message::metadata(fields));
            }
            true
        }
        [b"filter_metadata", b"istio"] if !fields.is_empty() => {
            out.extend_from_slice(&message::structure(fields));
            true
        }
        [b"filter_metadata", b"istio", name] => {
            fields.iter().find(|(known, _)| known.as_bytes() == *name).is_some_and(|of| text(of.1, out))
        }
        _ => false,
    }
}

/// Where Istio says that a route or cluster comes from.
fn config_path(origin: &portolan_model::Origin) -> String {
    let (namespace, name) = origin.name().split_once('/').unwrap_or(("default", origin.name()));
    let mut kind = String::new();
    for (at, letter) in origin.kind().char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            kind.push('-');
        }
        kind.push(letter.to_ascii_lowercase());
    }
    format!("/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/{kind}/{name}")
}

/// The virtual host of the listener's that holds the route.
fn virtual_host(context: &StreamContext) -> Option<&str> {
    let table = context.snapshot.model.route_tables.get(context.route_table as usize)?;
    let route = context.route?;
    table.virtual_hosts.iter().find(|host| host.routes.contains(&route)).map(|host| host.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_named_as_istio_names_them() {
        let origin = portolan_model::Origin::at("VirtualService", "shop/reviews", "shop.yaml", 1, 1);
        let path = "/apis/networking.istio.io/v1alpha3/namespaces/shop/virtual-service/reviews";
        assert_eq!(config_path(&origin), path);
        let mut out = Vec::new();
        assert!(metadata(&[("config", path)], &[b"filter_metadata", b"istio", b"config"], &mut out));
        assert_eq!(out, path.as_bytes());
        assert!(!metadata(&[], &[b"filter_metadata", b"istio", b"config"], &mut out));
    }

    #[test]
    fn the_node_is_a_message_and_its_fields_can_be_asked_for() {
        let mut out = Vec::new();
        assert!(node(&[], &mut out) && out.starts_with(b"\x0a"));
        out.clear();
        assert!(node(&[b"cluster"], &mut out) && out == b"portolan");
        assert!(node(&[b"metadata", b"NAME"], &mut Vec::new()));
        assert!(!node(&[b"metadata", b"ABSENT"], &mut Vec::new()));
    }
}
