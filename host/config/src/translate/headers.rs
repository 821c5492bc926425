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

/// Both scopes as one list: both removes first, then the route's list, then the destination's. A value that the
/// destination sets replaces what the route set or added; its adds come after the route's.
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
    let replaced = |name: &String| later_set.iter().any(|(later, _)| later == name);
    let mut add: Pairs = add.into_iter().filter(|(name, _)| !replaced(name)).collect();
    let mut all: BTreeMap<String, String> = set.into_iter().collect();
    all.extend(later_set);
    add.extend(later_add);
    (all.into_iter().collect(), add)
}

fn union(mut first: Vec<String>, second: Vec<String>) -> Vec<String> {
    for name in second {
        if !first.contains(&name) {
            first.push(name);
        }
    }
    first
}

/// Host and pseudo headers cannot be removed; `check` says so.
fn removed(written: Option<&Written>) -> Vec<String> {
    let names = written.map(|w| w.remove.as_slice()).unwrap_or_default();
    names.iter().filter(|n| !is_authority(n) && !n.starts_with(':')).map(|n| n.to_ascii_lowercase()).collect()
}

fn pairs(written: Option<&BTreeMap<String, String>>) -> Pairs {
    let entries = written.into_iter().flatten().filter(|(name, _)| !is_authority(name));
    // Envoy's values are formats, where a percent sign is written twice.
    let plain = |value: &String| value.replace("%%", "%");
    let mut pairs: Pairs = entries.map(|(name, value)| (name.to_ascii_lowercase(), plain(value))).collect();
    pairs.sort();
    pairs
}

/// The first of Envoy's command operators in a value, e.g. `%REQ(x-user)%`.
pub(super) fn operator(value: &str) -> Option<&str> {
    let starts = value.match_indices('%').map(|(start, _)| start);
    starts.into_iter().find_map(|start| {
        let rest = &value[start + 1..];
        let name = rest.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_').count();
        let argument = match rest.as_bytes().get(name) {
            Some(b'(') => rest[name..].find(')')? + 1,
            _ => 0,
        };
        let end = name + argument;
        (name > 1 && rest.as_bytes().get(end) == Some(&b'%')).then(|| &value[start..start + end + 2])
    })
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

#[cfg(test)]
mod tests {
    use portolan_model::HeaderOperations;
    use proptest::prelude::*;

    use super::{merge, operator};

    #[test]
    fn operators_are_told_from_percent_signs() {
        assert_eq!(operator("a %REQ(X-A?:PATH)% b"), Some("%REQ(X-A?:PATH)%"));
        assert_eq!(operator("%PROTOCOL%"), Some("%PROTOCOL%"));
        for plain in ["100%", "100%%", "%20", "%A%", "50% OF 60%", "%REQ(%", ""] {
            assert_eq!(operator(plain), None, "{plain}");
        }
    }

    type Lines = Vec<(String, String)>;

    fn remove(lines: &mut Lines, names: &[String]) {
        lines.retain(|(name, _)| !names.contains(name));
    }

    /// Envoy's way: each set replaces all lines of the name, each add appends one.
    fn set_and_add(lines: &mut Lines, operations: &HeaderOperations) {
        for (name, value) in &operations.request_set {
            lines.retain(|(other, _)| other != name);
            lines.push((name.clone(), value.clone()));
        }
        lines.extend(operations.request_add.iter().cloned());
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
        /// One merged scope does what Istio's one list does: both removes, the route's list, the destination's list.
        #[test]
        fn a_merged_scope_is_the_two_lists_in_order(
            lines in pairs(),
            route in operations(),
            destination in operations(),
        ) {
            let mut expected = lines.clone();
            remove(&mut expected, &route.request_remove);
            remove(&mut expected, &destination.request_remove);
            set_and_add(&mut expected, &route);
            set_and_add(&mut expected, &destination);
            let merged = merge(route, destination);
            let mut actual = lines;
            remove(&mut actual, &merged.request_remove);
            set_and_add(&mut actual, &merged);
            // Lines of one name keep their order; lines of different names have none.
            expected.sort_by(|a, b| a.0.cmp(&b.0));
            actual.sort_by(|a, b| a.0.cmp(&b.0));
            prop_assert_eq!(actual, expected);
        }
    }
}
