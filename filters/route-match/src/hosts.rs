//! [`Hosts`]: from the request's authority to its virtual host.

use std::borrow::Cow;

use portolan_model::VirtualHost;

use crate::hash::ByteMap;

/// Virtual hosts by name. An exact name wins over the longest suffix, that over `*`; what is chosen is final, whether
/// one of its routes fits or not.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: ByteMap<u32>,
    /// By what follows the star.
    suffixes: ByteMap<u32>,
    /// Some suffix begins within a label, as that of `*shop.com`.
    has_partial: bool,
    any: Option<u32>,
}

/// Why a virtual host was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    Exact,
    Suffix,
    Any,
}

impl HostKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Suffix => "suffix",
            Self::Any => "any",
        }
    }
}

impl Hosts {
    /// Of several hosts with one name the first counts.
    pub(crate) fn new(hosts: &[VirtualHost]) -> Self {
        let mut table = Self::default();
        for (host, index) in hosts.iter().zip(0..) {
            let domain = host.domain.to_ascii_lowercase();
            match domain.strip_prefix('*') {
                Some("") => _ = table.any.get_or_insert(index),
                Some(suffix) => {
                    table.has_partial |= !suffix.starts_with('.');
                    table.suffixes.entry(suffix.as_bytes().into()).or_insert(index);
                }
                None => _ = table.exact.entry(domain.as_bytes().into()).or_insert(index),
            }
        }
        table
    }

    /// The virtual host that serves this authority.
    pub(crate) fn find(&self, authority: &[u8]) -> Option<(u32, HostKind)> {
        let name = lower_case(without_port(authority));
        if let Some(host) = self.exact.get(&*name) {
            return Some((*host, HostKind::Exact));
        }
        let suffix = self.longest_suffix(&name).map(|host| (host, HostKind::Suffix));
        suffix.or(self.any.map(|host| (host, HostKind::Any)))
    }

    /// The star stands for something, so the name's first byte is never the suffix's.
    fn longest_suffix(&self, name: &[u8]) -> Option<u32> {
        if self.suffixes.is_empty() {
            return None;
        }
        let mut places = (1..name.len()).filter(|place| self.has_partial || name[*place] == b'.');
        places.find_map(|place| self.suffixes.get(&name[place..]).copied())
    }
}

fn lower_case(name: &[u8]) -> Cow<'_, [u8]> {
    if name.iter().any(u8::is_ascii_uppercase) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
}

/// Cuts `:port` off; the colons of an IPv6 address stand in brackets.
pub(crate) fn without_port(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| !byte.is_ascii_digit()) {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(domains: &[&str]) -> Hosts {
        let host = |domain: &&str| VirtualHost { domain: (*domain).into(), ..VirtualHost::default() };
        Hosts::new(&domains.iter().map(host).collect::<Vec<_>>())
    }

    #[test]
    fn the_most_specific_host_wins() {
        let hosts = hosts(&["*", "*.com", "*.example.com", "shop.example.com", "[::1]", "*.com"]);
        for (authority, index) in [
            ("shop.example.com", 3),
            ("SHOP.Example.COM:8080", 3),
            ("shop.example.com:", 3),
            ("a.example.com", 2),
            ("a.b.example.com:80", 2),
            ("a.shop.example.com", 2),
            ("example.com", 1),
            ("com", 0),
            (".com", 0),
            ("", 0),
            ("[::1]:80", 4),
            ("[::1]", 4),
            ("10.0.0.1:80", 0),
        ] {
            assert_eq!(hosts.find(authority.as_bytes()).map(|(index, _)| index), Some(index), "{authority}");
        }
    }

    #[test]
    fn a_star_within_a_label_takes_what_goes_before_it() {
        let hosts = hosts(&["*shop.com", "*.shop.com", "*-shop.com", "my.shop.com."]);
        let all = [("myshop.com", 0), ("a.myshop.com", 0), ("a.shop.com", 1), ("my-shop.com", 2), ("my.shop.com.", 3)];
        for (authority, index) in all {
            assert_eq!(hosts.find(authority.as_bytes()).map(|(index, _)| index), Some(index), "{authority}");
        }
        assert_eq!(hosts.find(b"shop.com"), None);
    }

    #[test]
    fn no_host_fits_without_a_catch_all() {
        let hosts = hosts(&["a.example.com", "*.b.example.com"]);
        for authority in ["b.example.com", "xa.example.com", "a.example.com.", ""] {
            assert_eq!(hosts.find(authority.as_bytes()), None, "{authority}");
        }
    }
}
