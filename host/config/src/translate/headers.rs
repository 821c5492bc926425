//! Header operations of a scope, and the merge of two scopes when a rule has one destination.

use std::collections::BTreeMap;

use portolan_model::HeaderOperations;

use crate::resources::istio::virtual_service::{HeaderOperations as Written, Headers};

/// The operations of one scope. The authority is no header here: see [`authority`].
pub(super) fn translate(headers: Option<&Headers>) -> HeaderOperations {
    let request = headers.and_then(|h| h.request.as_ref());
    let response = headers.and_then(|h| h.response.as_ref());
    HeaderOperations {
        request_remove: removed(request),
        request_set: pairs(request.map(|r| &r.set)),
        request_add: pairs(request.map(|r| &r.add)),
        response_remove: removed(response),
        response_set: pairs(response.map(|r| &r.set)),
        response_add: pairs(response.map(|r| &r.add)),
    }
}

/// The value that `Host` or `:authority` is set to.
pub(super) fn authority(headers: Option<&Headers>) -> Option<String> {
    let request = headers?.request.as_ref()?;
    let mut entries = request.set.iter().chain(&request.add);
    entries.find(|(name, _)| is_authority(name)).map(|(_, value)| value.clone())
}

/// Both scopes as one list, which Envoy goes through three times: it removes, then sets (the last one of a name counts),
/// then adds. So a value that the destination sets replaces what the route has set, and not what the route adds.
pub(super) fn merge(route: HeaderOperations, destination: HeaderOperations) -> HeaderOperations {
    let (request_set, request_add) =
        followed_by((route.request_set, route.request_add), (destination.request_set, destination.request_add));
    let (response_set, response_add) =
        followed_by((route.response_set, route.response_add), (destination.response_set, destination.response_add));
    HeaderOperations {
        request_remove: union(route.request_remove, destination.request_remove),
        request_set,
        request_add,
        response_remove: union(route.response_remove, destination.response_remove),
        response_set,
        response_add,
    }
}

type Pairs = Vec<(String, String)>;

fn followed_by((set, add): (Pairs, Pairs), (later_set, later_add): (Pairs, Pairs)) -> (Pairs, Pairs) {
    let mut all: BTreeMap<String, String> = set.into_iter().collect();
    all.extend(later_set);
    (all.into_iter().collect(), [add, later_add].concat())
}

fn union(mut first: Vec<String>, second: Vec<String>) -> Vec<String> {
    for name in second {
        if !first.contains(&name) {
            first.push(name);
        }
    }
    first
}

/// Host and pseudo headers cannot be removed; `check` refuses them.
fn removed(written: Option<&Written>) -> Vec<String> {
    let names = written.map(|w| w.remove.as_slice()).unwrap_or_default();
    names.iter().filter(|n| !is_authority(n) && !n.starts_with(':')).map(|n| n.to_ascii_lowercase()).collect()
}

fn pairs(written: Option<&BTreeMap<String, String>>) -> Pairs {
    let entries = written.into_iter().flatten().filter(|(name, _)| !is_authority(name));
    // An empty value is no operation in Envoy.
    let entries = entries.filter(|(_, value)| !value.is_empty());
    let mut pairs: Pairs = entries.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
    pairs.sort();
    pairs
}

/// Envoy's command operators that values of headers are made with; the gateway's formats know them.
const OPERATORS: &[&str] = &[
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_VERSION",
    "DURATION",
    "EMIT_TIME",
    "HOSTNAME",
    "PATH",
    "PROTOCOL",
    "QUERY_PARAM",
    "QUERY_PARAMS",
    "REQ",
    "REQUESTED_SERVER_NAME",
    "RESP",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "ROUTE_NAME",
    "START_TIME",
    "STREAM_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_HOST",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
];

/// The first command operator in a value that the gateway does not know, e.g. `%UNIQUE_ID%`.
pub(super) fn unknown_operator(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some(start) = rest.find('%') {
        let after = &rest[start + 1..];
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name = after.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_' || byte.is_ascii_digit());
        let name = &after[..name.count()];
        let arguments =
            after[name.len()..].strip_prefix('(').and_then(|inside| inside.find(')')).map_or(0, |end| end + 2);
        let end = name.len() + arguments + after[name.len() + arguments..].find('%').map_or(0, |end| end + 1);
        if !OPERATORS.contains(&name) {
            return Some(&rest[start..=start + end]);
        }
        rest = &after[end..];
    }
    None
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

#[cfg(test)]
mod tests {
    use portolan_model::HeaderOperations;
    use proptest::prelude::*;

    use super::{merge, unknown_operator};

    #[test]
    fn operators_that_nothing_is_known_of_are_found() {
        assert_eq!(unknown_operator("a %REQ(X-A?:PATH)% %UNIQUE_ID% b"), Some("%UNIQUE_ID%"));
        assert_eq!(unknown_operator("%ENVIRONMENT(A%B):3%"), Some("%ENVIRONMENT(A%B):3%"));
        assert_eq!(unknown_operator("100%, %a%"), Some("%, %"));
        assert_eq!(unknown_operator("100%"), Some("%"));
        for known in ["100%%", "%%UNIQUE_ID%%", "%REQ(x):3%%PROTOCOL%", "%START_TIME(%s)%", ""] {
            assert_eq!(unknown_operator(known), None, "{known}");
        }
    }

    type Lines = Vec<(String, String)>;

    fn remove(lines: &mut Lines, names: &[String]) {
        lines.retain(|(name, _)| !names.contains(name));
    }

    /// Each set replaces all lines of the name.
    fn set(lines: &mut Lines, operations: &HeaderOperations) {
        for (name, value) in &operations.request_set {
            lines.retain(|(other, _)| other != name);
            lines.push((name.clone(), value.clone()));
        }
    }

    fn pairs() -> impl Strategy<Value = Lines> {
        proptest::collection::btree_map("[a-d]", "[0-9]", 0..4).prop_map(|map| map.into_iter().collect())
    }

    fn operations() -> impl Strategy<Value = HeaderOperations> {
        let remove = proptest::collection::vec("[a-d]", 0..3);
        (remove, pairs(), pairs()).prop_map(|(request_remove, request_set, request_add)| HeaderOperations {
            request_remove,
            request_set,
            request_add,
            ..HeaderOperations::default()
        })
    }

    proptest! {
        /// One merged scope does what Envoy does with Istio's one list: it removes, sets and adds, the route's first.
        #[test]
        fn a_merged_scope_is_the_two_lists_in_order(
            lines in pairs(),
            route in operations(),
            destination in operations(),
        ) {
            let mut expected = lines.clone();
            remove(&mut expected, &route.request_remove);
            remove(&mut expected, &destination.request_remove);
            set(&mut expected, &route);
            set(&mut expected, &destination);
            expected.extend([route.request_add.clone(), destination.request_add.clone()].concat());
            let merged = merge(route, destination);
            let mut actual = lines;
            remove(&mut actual, &merged.request_remove);
            set(&mut actual, &merged);
            actual.extend(merged.request_add.iter().cloned());
            // Lines of one name keep their order; lines of different names have none.
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            actual.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(actual, expected);
        }
    }
}
