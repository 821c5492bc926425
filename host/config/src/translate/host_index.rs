//! [`HostIndex`]: the hosts of a server, to be met with the hosts of VirtualServices without scanning them all.

use std::collections::HashMap;

use crate::hosts;

/// Hosts of one server.
pub(super) struct HostIndex {
    /// Host to the namespaces whose VirtualServices may serve it; none is any.
    by_host: HashMap<String, Vec<Option<String>>>,
    /// Hosts with their letters reversed, in order: the hosts under a wildcard stand together.
    reversed: Vec<(String, String)>,
}

impl HostIndex {
    /// Reads `name` and `namespace/name`; `.` is the Gateway's own namespace and `*` any.
    pub(super) fn of(written: &[String], own_namespace: &str) -> Self {
        let mut by_host: HashMap<String, Vec<Option<String>>> = HashMap::new();
        for entry in written {
            let (namespace, host) = match entry.split_once('/') {
                None | Some(("*", _)) => (None, entry.rsplit('/').next().unwrap_or(entry)),
                Some((".", host)) => (Some(own_namespace.to_owned()), host),
                Some((namespace, host)) => (Some(namespace.to_owned()), host),
            };
            by_host.entry(host.to_ascii_lowercase()).or_default().push(namespace);
        }
        let mut reversed: Vec<_> = by_host.keys().map(|host| (reverse(host), host.clone())).collect();
        reversed.sort_unstable();
        Self { by_host, reversed }
    }

    /// The pairwise narrower ones of a VirtualService's host and this server's hosts, in no particular order.
    pub(super) fn meet(&self, host: &str, namespace: &str) -> Vec<String> {
        let mut met = Vec::new();
        let covered = self.allows(host, namespace) || hosts::wildcards_over(host).any(|w| self.allows(&w, namespace));
        if covered {
            met.push(host.to_owned());
        }
        if let Some(suffix) = host.strip_prefix('*') {
            let suffix = reverse(suffix);
            met.extend(self.under(&suffix).filter(|h| *h != host && self.allows(h, namespace)).map(str::to_owned));
        }
        met
    }

    /// All hosts as they were written, without namespaces.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.reversed.iter().map(|(_, host)| host.as_str())
    }

    /// All hosts with the namespaces that may serve them, as `namespace/name`.
    pub(super) fn shown(&self) -> impl Iterator<Item = String> {
        let of = |host: &String| {
            let namespaces = self.by_host.get(host).into_iter().flatten();
            let shown = |namespace: &Option<String>| match namespace {
                Some(namespace) => format!("{namespace}/{host}"),
                None => host.clone(),
            };
            namespaces.map(shown).collect::<Vec<_>>()
        };
        self.reversed.iter().flat_map(move |(_, host)| of(host))
    }

    fn allows(&self, host: &str, namespace: &str) -> bool {
        let allows = |allowed: &Option<String>| allowed.as_deref().is_none_or(|a| a == namespace);
        self.by_host.get(host).is_some_and(|namespaces| namespaces.iter().any(allows))
    }

    /// Hosts whose reversed form goes on after `reversed_suffix`.
    fn under<'s>(&'s self, reversed_suffix: &'s str) -> impl Iterator<Item = &'s str> {
        let start = self.reversed.partition_point(|(key, _)| key.as_str() < reversed_suffix);
        let same = self.reversed[start..].iter().take_while(move |(key, _)| key.starts_with(reversed_suffix));
        same.filter(|(key, _)| key.len() > reversed_suffix.len()).map(|(_, host)| host.as_str())
    }
}

fn reverse(host: &str) -> String {
    host.chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::HostIndex;

    fn meet(server: &[&str], host: &str, namespace: &str) -> Vec<String> {
        let written: Vec<String> = server.iter().map(|h| (*h).to_owned()).collect();
        let mut met = HostIndex::of(&written, "own").meet(host, namespace);
        met.sort();
        met
    }

    #[test]
    fn the_narrower_of_two_hosts_is_served() {
        assert_eq!(meet(&["*.example.com"], "*", "x"), ["*.example.com"]);
        assert_eq!(meet(&["*"], "a.com", "x"), ["a.com"]);
        assert_eq!(meet(&["*.example.com"], "a.b.example.com", "x"), ["a.b.example.com"]);
        assert_eq!(meet(&["*.example.com"], "example.com", "x"), Vec::<String>::new());
        assert_eq!(meet(&["x.b.c", "*.c", "y.d"], "*.b.c", "x"), ["*.b.c", "x.b.c"]);
    }

    #[test]
    fn hosts_are_shown_with_their_namespaces() {
        let written = ["*/a.com", "b.com", "./c.com", "team/c.com"].map(str::to_owned);
        let mut shown: Vec<_> = HostIndex::of(&written, "own").shown().collect();
        shown.sort();
        assert_eq!(shown, ["a.com", "b.com", "own/c.com", "team/c.com"]);
    }

    #[test]
    fn namespaces_before_a_host_limit_who_serves_it() {
        assert_eq!(meet(&["team/a.com"], "a.com", "x"), Vec::<String>::new());
        assert_eq!(meet(&["team/a.com"], "a.com", "team"), ["a.com"]);
        assert_eq!(meet(&["./a.com"], "a.com", "own"), ["a.com"]);
        assert_eq!(meet(&["*/a.com"], "a.com", "x"), ["a.com"]);
        assert_eq!(meet(&["team/*.a.com", "*.com"], "*.a.com", "x"), ["*.a.com"]);
    }

    /// Istio's definition, by comparing all pairs.
    fn covers(outer: &str, inner: &str) -> bool {
        match (outer.strip_prefix('*'), inner.strip_prefix('*')) {
            (Some(outer), Some(inner)) => inner.ends_with(outer),
            (Some(outer), None) => inner.len() > outer.len() && inner.ends_with(outer),
            (None, _) => outer == inner,
        }
    }

    fn pairwise(server: &[String], host: &str) -> Vec<String> {
        let narrower = |own: &String| {
            let (a, b) = (covers(own, host), covers(host, own));
            if a { Some(host.to_owned()) } else { b.then(|| own.clone()) }
        };
        let mut met: Vec<String> = server.iter().filter_map(narrower).collect();
        met.sort();
        met.dedup();
        met
    }

    fn any_host() -> impl Strategy<Value = String> {
        let labels = || proptest::collection::vec("[ab]{1,2}", 1..4).prop_map(|labels| labels.join("."));
        prop_oneof![labels(), labels().prop_map(|name| format!("*.{name}")), Just("*".to_owned())]
    }

    /// Of a VirtualService, whose star may stand within a label.
    fn any_wider_host() -> impl Strategy<Value = String> {
        prop_oneof![any_host(), any_host().prop_map(|name| format!("*{}", name.trim_start_matches(['*', '.'])))]
    }

    proptest! {
        #[test]
        fn meeting_is_what_comparing_all_pairs_gives(
            server in proptest::collection::vec(any_host(), 1..8),
            host in any_wider_host(),
        ) {
            let mut met = HostIndex::of(&server, "own").meet(&host, "x");
            met.sort();
            prop_assert_eq!(met, pairwise(&server, &host));
        }
    }
}
