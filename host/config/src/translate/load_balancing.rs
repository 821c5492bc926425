//! `trafficPolicy.loadBalancer` in Envoy's terms: the policy, what a consistent choice hashes, slow start.

use portolan_model::{HashCookie, HashPolicy, LbPolicy, SlowStart};

use crate::duration;
use crate::resources::istio::destination_rule::LoadBalancer;
use crate::resources::istio::load_balancer::{ConsistentHash, HttpCookie};

/// Envoy's defaults.
const MINIMUM_RING_SIZE: u64 = 1024;
const TABLE_SIZE: u64 = 65_537;
const MIN_WEIGHT_PERCENT: f64 = 10.0;

/// `consistentHash` beats `simple`; PASSTHROUGH has no meaning at a gateway, which `unserved` says.
pub(super) fn policy(written: &LoadBalancer) -> LbPolicy {
    if let Some(hash) = &written.consistent_hash {
        return consistent(hash);
    }
    match written.simple.as_deref() {
        Some("ROUND_ROBIN") => LbPolicy::RoundRobin,
        Some("RANDOM") => LbPolicy::Random,
        _ => LbPolicy::LeastRequest,
    }
}

fn consistent(hash: &ConsistentHash) -> LbPolicy {
    let given = |size: Option<u64>| size.filter(|size| *size > 0);
    if let Some(maglev) = &hash.maglev {
        return LbPolicy::Maglev { table_size: given(maglev.table_size).unwrap_or(TABLE_SIZE) };
    }
    let size = match &hash.ring_hash {
        Some(ring) => ring.minimum_ring_size,
        None => hash.minimum_ring_size,
    };
    LbPolicy::RingHash { minimum_ring_size: given(size).unwrap_or(MINIMUM_RING_SIZE) }
}

/// None without `consistentHash`, and when it names nothing to hash: then any endpoint is as good.
pub(super) fn hash_policy(written: &LoadBalancer) -> Option<HashPolicy> {
    let hash = written.consistent_hash.as_ref()?;
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(name) = named(&hash.http_header_name) {
        return Some(HashPolicy::Header(name.to_ascii_lowercase()));
    }
    if let Some(cookie) = &hash.http_cookie {
        return Some(HashPolicy::Cookie(hash_cookie(cookie)));
    }
    if hash.use_source_ip == Some(true) {
        return Some(HashPolicy::SourceIp);
    }
    named(&hash.http_query_parameter_name).map(HashPolicy::QueryParameter)
}

fn hash_cookie(cookie: &HttpCookie) -> HashCookie {
    let ttl_ms = cookie.ttl.as_deref().and_then(duration::parse_ms);
    let attributes = cookie.attributes.iter().map(|a| (a.name.clone(), a.value.clone().unwrap_or_default()));
    HashCookie {
        name: cookie.name.clone(),
        path: cookie.path.clone().unwrap_or_default(),
        ttl_s: ttl_ms.map(|ms| ms / 1000),
        attributes: attributes.collect(),
    }
}

/// Envoy knows slow start with LEAST_REQUEST and ROUND_ROBIN only.
pub(super) fn slow_start(written: &LoadBalancer) -> Option<SlowStart> {
    if !matches!(policy(written), LbPolicy::LeastRequest | LbPolicy::RoundRobin) {
        return None;
    }
    let warmup = written.warmup.clone().unwrap_or_default();
    let text = warmup.duration.or_else(|| written.warmup_duration_secs.clone())?;
    let window_ms = duration::parse_ms(&text).filter(|ms| *ms > 0)?;
    Some(SlowStart {
        window_ms,
        aggression: warmup.aggression.unwrap_or(1.0),
        min_weight_percent: warmup.minimum_percent.unwrap_or(MIN_WEIGHT_PERCENT),
    })
}
