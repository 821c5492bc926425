//! How an endpoint is chosen, in words.

use std::collections::BTreeSet;

use portolan_model::{Cluster, HashCookie, HashPolicy, LbPolicy, SlowStart};

use super::time;

/// Envoy's default of `minimumRingSize`.
const RING_SIZE: u64 = 1024;

/// Envoy's default of `tableSize`.
const TABLE_SIZE: u64 = 65_537;

/// The policy, what it hashes, and how new endpoints begin; none for Istio's default.
pub(super) fn balancer(cluster: &Cluster) -> Option<String> {
    let policy = match cluster.lb_policy {
        LbPolicy::LeastRequest => None,
        LbPolicy::RoundRobin => Some("round robin".to_owned()),
        LbPolicy::Random => Some("random endpoint".to_owned()),
        LbPolicy::RingHash { minimum_ring_size: RING_SIZE } => Some(format!("ring hash of {}", hashed(cluster))),
        LbPolicy::RingHash { minimum_ring_size: size } => {
            Some(format!("ring hash of {}, at least {size} points", hashed(cluster)))
        }
        LbPolicy::Maglev { table_size: TABLE_SIZE } => Some(format!("Maglev hash of {}", hashed(cluster))),
        LbPolicy::Maglev { table_size } => Some(format!("Maglev hash of {}, a table of {table_size}", hashed(cluster))),
    };
    let warm_up = cluster.slow_start.as_ref().map(warm_up);
    let words: Vec<_> = policy.into_iter().chain(warm_up).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn hashed(cluster: &Cluster) -> String {
    match &cluster.hash_policy {
        None => "nothing, which is any endpoint".to_owned(),
        Some(HashPolicy::Header(name)) => format!("header {name}"),
        Some(HashPolicy::Cookie(cookie)) => self::cookie(cookie),
        Some(HashPolicy::SourceIp) => "the client's address".to_owned(),
        Some(HashPolicy::QueryParameter(name)) => format!("query parameter {name}"),
    }
}

/// Attributes are named only: their values are the cookie's business.
fn cookie(cookie: &HashCookie) -> String {
    let HashCookie { name, path, ttl_s, attributes } = cookie;
    let made = match ttl_s {
        None => return format!("cookie {name}, which is never made"),
        Some(0) => "made for the client's session".to_owned(),
        Some(seconds) => format!("made for {}", time(seconds.saturating_mul(1000))),
    };
    let path = if path.is_empty() { String::new() } else { format!(" with path {path}") };
    let attributes: Vec<_> = attributes.iter().map(|(name, _)| format!(" {name}")).collect();
    format!("cookie {name} ({made}{path}{})", attributes.concat())
}

fn warm_up(slow_start: &SlowStart) -> String {
    let SlowStart { window_ms, aggression, min_weight_percent } = *slow_start;
    let curve = if aggression == 1.0 { String::new() } else { format!(" with aggression {aggression}") };
    format!("new endpoints warm up from {min_weight_percent} % within {}{curve}", time(window_ms))
}

/// Which places take requests: `locality eu/a, then eu/b`, or with weights; none where places do not matter.
pub(super) fn locality(cluster: &Cluster) -> Option<String> {
    let places: BTreeSet<_> =
        cluster.endpoints.iter().map(|e| (e.priority, e.locality.as_str(), e.locality_weight)).collect();
    if places.iter().all(|(priority, _, weight)| *priority == 0 && weight.is_none()) {
        return None;
    }
    let named = |locality: &str| if locality.is_empty() { "elsewhere".to_owned() } else { locality.to_owned() };
    let mut groups: Vec<(u32, Vec<String>)> = Vec::new();
    for (priority, locality, weight) in places {
        let text = named(locality) + &weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        match groups.last_mut() {
            Some((last, group)) if *last == priority => group.push(text),
            _ => groups.push((priority, vec![text])),
        }
    }
    let groups: Vec<_> = groups.into_iter().map(|(_, group)| group.join(" and ")).collect();
    Some(format!("locality {}", groups.join(", then ")))
}

#[cfg(test)]
mod tests {
    use super::super::cluster::plain;
    use super::*;

    #[test]
    fn consistent_hashes_tell_what_they_go_by() {
        let ring = LbPolicy::RingHash { minimum_ring_size: RING_SIZE };
        let cookie = HashCookie { name: "user".to_owned(), path: "/".to_owned(), ..HashCookie::default() };
        for (lb_policy, hash_policy, text) in [
            (ring, Some(HashPolicy::Header("x-user".to_owned())), "ring hash of header x-user"),
            (ring, Some(HashPolicy::Cookie(cookie.clone())), "ring hash of cookie user, which is never made"),
            (
                ring,
                Some(HashPolicy::Cookie(HashCookie { ttl_s: Some(60), ..cookie })),
                "ring hash of cookie user (made for 60 s with path /)",
            ),
            (ring, None, "ring hash of nothing, which is any endpoint"),
            (
                LbPolicy::Maglev { table_size: 97 },
                Some(HashPolicy::SourceIp),
                "Maglev hash of the client's address, a table of 97",
            ),
        ] {
            assert_eq!(balancer(&Cluster { lb_policy, hash_policy, ..plain(1) }).as_deref(), Some(text));
        }
    }

    #[test]
    fn warm_up_is_told_with_the_default_policy_too() {
        let slow_start = Some(SlowStart { window_ms: 30_000, aggression: 2.0, min_weight_percent: 10.0 });
        let text = balancer(&Cluster { slow_start, ..plain(1) });
        assert_eq!(text.as_deref(), Some("new endpoints warm up from 10 % within 30 s with aggression 2"));
        assert_eq!(balancer(&plain(1)), None);
    }

    #[test]
    fn places_are_told_in_the_order_in_which_they_take_over() {
        assert_eq!(locality(&plain(2)), None);
        let mut cluster = plain(3);
        for (endpoint, (priority, locality)) in cluster.endpoints.iter_mut().zip([(1, ""), (0, "eu/a"), (0, "eu/b")]) {
            (endpoint.priority, endpoint.locality) = (priority, locality.to_owned());
        }
        assert_eq!(locality(&cluster).as_deref(), Some("locality eu/a and eu/b, then elsewhere"));
        cluster.endpoints.remove(0);
        for (endpoint, weight) in cluster.endpoints.iter_mut().zip([80, 20]) {
            endpoint.locality_weight = Some(weight);
        }
        assert_eq!(locality(&cluster).as_deref(), Some("locality eu/a weight 80 and eu/b weight 20"));
    }
}
