//! Host names: form, wildcards, completion of short names.

/// The cluster's own domain, as Istio's default.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// A name without dot becomes `name.<namespace>.svc.cluster.local`; all others, wildcards and IP addresses too, stay.
/// Lower case.
pub(crate) fn complete(name: &str, namespace: &str) -> String {
    let name = name.to_ascii_lowercase();
    if name.contains(['.', '*', ':']) { name } else { format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}") }
}

/// Wildcards that cover a name or wildcard, the narrowest first, itself left out: `a.b.c` gives `*.b.c`, `*.c`, `*`.
pub(crate) fn wildcards_over(name: &str) -> impl Iterator<Item = String> + '_ {
    let skip = usize::from(name.starts_with("*."));
    let dots = name.match_indices('.').skip(skip).map(|(i, _)| format!("*{}", &name[i..]));
    dots.chain((name != "*").then(|| "*".to_owned()))
}

/// True for a wildcard that goes on within a label: `*shop.com`, `*-shop.com`.
pub(crate) fn is_partial(name: &str) -> bool {
    name.strip_prefix('*').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('.'))
}

/// The reason why a text is no host name as Istio's admission takes it; none when it is one. Addresses count, and a dot at
/// the end. `*` and wildcards count when `wildcard` is set.
pub(crate) fn fault_of(name: &str, wildcard: bool) -> Option<String> {
    if name.is_empty() {
        return Some("a host name is not empty".into());
    }
    if name.parse::<std::net::IpAddr>().is_ok() || (wildcard && name == "*") {
        return None;
    }
    let plain = match name.strip_prefix('*') {
        Some(rest) if wildcard => rest.strip_prefix(['.', '-']).unwrap_or(rest),
        _ => name,
    };
    if plain.contains('*') {
        return Some(
            if wildcard { "a wildcard is `*` or `*.suffix`" } else { "a wildcard is not allowed here" }.into(),
        );
    }
    if plain.contains("://") || plain.contains('/') {
        return Some("a host is a name, not a URL".into());
    }
    if let Some((_, port)) = plain.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Some("a host has no port here".into());
    }
    if name.len() > 255 {
        return Some("a host name has at most 255 characters".into());
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) && (name.contains('.') || !wildcard) {
        return Some("the last label of a host name is not a number".into());
    }
    plain.strip_suffix('.').unwrap_or(plain).split('.').find_map(fault_of_label)
}

fn fault_of_label(label: &str) -> Option<String> {
    if label.is_empty() {
        return Some("there is nothing between two dots".into());
    }
    if label.len() > 63 {
        return Some(format!("`{label}` is longer than 63 characters"));
    }
    if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Some(format!("`{c}` is not allowed"));
    }
    (label.starts_with('-') || label.ends_with('-')).then(|| format!("`{label}` starts or ends with `-`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_get_the_namespace() {
        assert_eq!(complete("App", "shop"), "app.shop.svc.cluster.local");
        assert_eq!(complete("app.shop", "x"), "app.shop");
        assert_eq!(complete("*", "x"), "*");
    }

    #[test]
    fn wildcards_come_narrowest_first() {
        assert_eq!(wildcards_over("a.b.c").collect::<Vec<_>>(), ["*.b.c", "*.c", "*"]);
        assert_eq!(wildcards_over("*.b.c").collect::<Vec<_>>(), ["*.c", "*"]);
        assert_eq!(wildcards_over("*").count(), 0);
    }

    #[test]
    fn faults_name_the_reason() {
        assert_eq!(fault_of("*.example.com", true), None);
        assert_eq!(fault_of("10.0.0.1", false), None);
        for good in ["a.com.", "*a.com", "*-a.com", "*a", "123", "1.a"] {
            assert_eq!(fault_of(good, true), None, "{good}");
        }
        assert!(fault_of("123", false).is_some() && fault_of("*a.com", false).is_some());
        for bad in [
            "",
            ".",
            "a..b",
            "a.com..",
            "a.com:80",
            "http://a.com",
            "a b",
            "-a.com",
            "a.*.com",
            "**.com",
            "a_b.com",
            "a.1",
            "*.1",
        ] {
            assert!(fault_of(bad, true).is_some(), "{bad}");
        }
        assert!(fault_of("*.a.com", false).is_some());
    }
}
