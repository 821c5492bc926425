//! Envoy's attributes with their types: what expressions see, and which property names mean something.

/// How an attribute's value is written, and what it is in an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Eight little-endian bytes.
    Int,
    /// The same without a sign.
    Uint,
    /// One byte.
    Bool,
    /// Nanoseconds.
    Duration,
    /// Nanoseconds since 1970.
    Timestamp,
    /// Serialised pairs.
    Map,
    /// A protobuf message; bytes in expressions.
    Message,
}

/// An attribute of a family.
type Attribute = (&'static str, Kind);

/// Names that both sides' TLS connections have.
const TLS: &[Attribute] = &[
    ("tls_version", Kind::Text),
    ("subject_local_certificate", Kind::Text),
    ("subject_peer_certificate", Kind::Text),
    ("dns_san_local_certificate", Kind::Text),
    ("dns_san_peer_certificate", Kind::Text),
    ("uri_san_local_certificate", Kind::Text),
    ("uri_san_peer_certificate", Kind::Text),
    ("sha256_peer_certificate_digest", Kind::Text),
    ("peer_certificate", Kind::Text),
];

const PEER: &[Attribute] = &[("address", Kind::Text), ("port", Kind::Int)];

const FAMILIES: &[(&str, &[Attribute])] = &[
    (
        "request",
        &[
            ("path", Kind::Text),
            ("url_path", Kind::Text),
            ("host", Kind::Text),
            ("scheme", Kind::Text),
            ("method", Kind::Text),
            ("headers", Kind::Map),
            ("referer", Kind::Text),
            ("useragent", Kind::Text),
            ("time", Kind::Timestamp),
            ("id", Kind::Text),
            ("protocol", Kind::Text),
            ("query", Kind::Text),
            ("duration", Kind::Duration),
            ("size", Kind::Int),
            ("total_size", Kind::Int),
            ("headers_bytes", Kind::Int),
        ],
    ),
    (
        "response",
        &[
            ("code", Kind::Int),
            ("code_details", Kind::Text),
            ("flags", Kind::Int),
            ("grpc_status", Kind::Int),
            ("headers", Kind::Map),
            ("trailers", Kind::Map),
            ("size", Kind::Int),
            ("total_size", Kind::Int),
            ("headers_bytes", Kind::Int),
            ("backend_latency", Kind::Duration),
        ],
    ),
    ("source", PEER),
    ("destination", PEER),
    (
        "connection",
        &[
            ("id", Kind::Uint),
            ("mtls", Kind::Bool),
            ("requested_server_name", Kind::Text),
            ("termination_details", Kind::Text),
            ("transport_failure_reason", Kind::Text),
        ],
    ),
    (
        "upstream",
        &[
            ("address", Kind::Text),
            ("port", Kind::Int),
            ("local_address", Kind::Text),
            ("transport_failure_reason", Kind::Text),
            ("request_attempt_count", Kind::Uint),
            ("cx_pool_ready_duration", Kind::Duration),
            ("num_endpoints", Kind::Uint),
            ("locality", Kind::Message),
        ],
    ),
    (
        "xds",
        &[
            ("node", Kind::Message),
            ("cluster_name", Kind::Text),
            ("cluster_metadata", Kind::Message),
            ("route_name", Kind::Text),
            ("route_metadata", Kind::Message),
            ("virtual_host_name", Kind::Text),
            ("virtual_host_metadata", Kind::Message),
            ("upstream_host_metadata", Kind::Message),
            ("upstream_host_locality_metadata", Kind::Message),
            ("filter_chain_name", Kind::Text),
            ("listener_direction", Kind::Int),
            ("listener_metadata", Kind::Message),
        ],
    ),
];

/// Names without a family: Envoy's, and the old ones that filters still read.
const SINGLE: &[Attribute] = &[
    ("plugin_name", Kind::Text),
    ("plugin_root_id", Kind::Text),
    ("plugin_vm_id", Kind::Text),
    ("plugin_vm_memory", Kind::Uint),
    ("connection_id", Kind::Uint),
    ("x_request_id", Kind::Text),
    ("node", Kind::Message),
    ("metadata", Kind::Message),
    ("route_name", Kind::Text),
    ("route_metadata", Kind::Message),
    ("cluster_name", Kind::Text),
    ("cluster_metadata", Kind::Message),
    ("listener_direction", Kind::Int),
    ("listener_metadata", Kind::Message),
    ("upstream_host_metadata", Kind::Message),
];

/// The attributes of a family, for both kinds of connections with those of TLS; none for another name.
pub(crate) fn family(name: &str) -> Option<impl Iterator<Item = &'static Attribute>> {
    let (_, attributes) = FAMILIES.iter().find(|(family, _)| *family == name)?;
    let tls = if name == "connection" || name == "upstream" { TLS } else { &[] };
    Some(attributes.iter().chain(tls))
}

/// The kind of a name without a family.
pub(crate) fn single(name: &str) -> Option<Kind> {
    SINGLE.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The kind of an attribute, given its path; none for parts of maps, which are text, and for other names.
pub(crate) fn kind(path: &[u8]) -> Option<Kind> {
    let path = std::str::from_utf8(path.strip_suffix(b"\0").unwrap_or(path)).ok()?;
    match path.split_once('\0') {
        Some((root, name)) => family(root)?.find(|(known, _)| *known == name).map(|(_, kind)| *kind),
        None => single(path),
    }
}

/// True when a path, its parts joined with NUL, is an attribute, whether it has a value now or not.
pub(crate) fn is_known(path: &[u8]) -> bool {
    let mut parts = path.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).unwrap_or_default());
    let (root, name) = (parts.next().unwrap_or_default(), parts.next());
    match (family(root), name) {
        (Some(mut attributes), Some(name)) => attributes.any(|(known, _)| *known == name),
        (Some(_), None) => true,
        (None, _) => single(root).is_some() || root == "filter_state" || root == "upstream_filter_state",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_attributes_are_known_and_others_are_not() {
        for known in
            ["request\0path", "request\0headers\0x-any", "upstream\0tls_version", "metadata\0a\0b", "route_name"]
        {
            assert!(is_known(known.as_bytes()), "{known}");
        }
        for unknown in ["request\0paht", "source\0tls_version", "mine", "", "\u{e9}"] {
            assert!(!is_known(unknown.as_bytes()), "{unknown}");
        }
    }
}
