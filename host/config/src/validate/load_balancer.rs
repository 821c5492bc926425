//! Checks of a DestinationRule's `loadBalancer`: Istio's own, and what Envoy would refuse.

use super::checker::Checker;
use super::localities::Localities;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::LoadBalancer;
use crate::resources::istio::load_balancer::{ConsistentHash, LocalityLbSetting, Warmup};

type DrChecker<'a> = Checker<'a, DestinationRule>;

/// Values of `loadBalancer.simple`.
const SIMPLE: &[&str] = &["UNSPECIFIED", "LEAST_REQUEST", "LEAST_CONN", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"];

/// Envoy's largest ring.
const MOST_POINTS: i64 = 8 * 1024 * 1024;

/// Istio's largest table.
const LARGEST_TABLE: i64 = 5_000_010;

/// Labels that say what `failover` says.
const PLACES: [&str; 3] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Checks the block at `path`. `ejects`: there is an `outlierDetection` beside it.
pub(super) fn check(checker: &mut DrChecker<'_>, path: &str, written: &LoadBalancer, ejects: bool) {
    checker.word(&format!("{path}.simple"), written.simple.as_ref(), SIMPLE);
    if written.simple.is_some() && written.consistent_hash.is_some() {
        checker.error_at_key("P0102", path, "set at most one of `simple`, `consistentHash`");
    }
    if let Some(hash) = &written.consistent_hash {
        check_hash(checker, &format!("{path}.consistentHash"), hash);
    }
    if let Some(setting) = &written.locality_lb_setting {
        check_locality(checker, &format!("{path}.localityLbSetting"), setting, ejects);
    }
    checker.duration(&format!("{path}.warmupDurationSecs"), written.warmup_duration_secs.as_ref(), false);
    if let Some(warmup) = &written.warmup {
        check_warmup(checker, &format!("{path}.warmup"), warmup);
    }
    let warms = written.warmup.is_some() || written.warmup_duration_secs.is_some();
    let other = written.consistent_hash.is_some() || written.simple.as_deref() == Some("RANDOM");
    if warms && other {
        let field = if written.warmup.is_some() { "warmup" } else { "warmupDurationSecs" };
        checker.warn("P0312", &format!("{path}.{field}"), format!("`{field}` has no effect with this policy"));
        checker.label("only LEAST_REQUEST and ROUND_ROBIN warm endpoints up");
    }
}

fn check_hash(checker: &mut DrChecker<'_>, path: &str, hash: &ConsistentHash) {
    let given = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    match given.iter().filter(|given| **given).count() {
        0 => {
            checker.warn("P0311", path, "`consistentHash` names nothing to hash: requests go to any endpoint");
            checker.label("set one of `httpHeaderName`, `httpCookie`, `useSourceIp`, `httpQueryParameterName`");
        }
        1 => {}
        _ => checker.error_at_key(
            "P0102",
            path,
            "set only one of `httpHeaderName`, `httpCookie`, `useSourceIp`, `httpQueryParameterName`",
        ),
    }
    if let Some(cookie) = &hash.http_cookie {
        let path = format!("{path}.httpCookie");
        if cookie.name.is_empty() {
            checker.missing(&path, "name");
        }
        checker.duration(&format!("{path}.ttl"), cookie.ttl.as_ref(), true);
        for (i, _) in cookie.attributes.iter().enumerate().filter(|(_, attribute)| attribute.name.is_empty()) {
            checker.missing(&format!("{path}.attributes[{i}]"), "name");
        }
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        checker.error_at_key("P0102", path, "set at most one of `ringHash`, `maglev`");
    }
    let of_ring = hash.ring_hash.as_ref().and_then(|ring| ring.minimum_ring_size);
    check_size(checker, &format!("{path}.ringHash.minimumRingSize"), of_ring, MOST_POINTS);
    check_size(checker, &format!("{path}.minimumRingSize"), hash.minimum_ring_size, MOST_POINTS);
    let is_old = hash.minimum_ring_size.is_some_and(|size| size > 0);
    if is_old && (hash.ring_hash.is_some() || hash.maglev.is_some()) {
        checker.error_at_key("P0102", &format!("{path}.minimumRingSize"), "set either this, `ringHash` or `maglev`");
    }
    // Istio's API has a default for the size. Its admission has none: it finds that 0 is not prime, which is its mistake.
    let table = hash.maglev.as_ref().and_then(|maglev| maglev.table_size).filter(|size| *size > 0);
    let path = format!("{path}.maglev.tableSize");
    check_size(checker, &path, table, LARGEST_TABLE);
    if let Some(size) = table.filter(|size| !is_prime(*size)) {
        checker.error("P0117", &path, format!("{size} is not a prime number"));
        checker.label("Maglev's tables have prime sizes: 65537 by default");
    }
}

fn check_size(checker: &mut DrChecker<'_>, path: &str, size: Option<u64>, most: i64) {
    if let Some(size) = size {
        checker.range(path, i64::try_from(size).unwrap_or(i64::MAX), 0, most);
    }
}

/// As Istio and Envoy have it: 1 is one of them.
fn is_prime(number: u64) -> bool {
    // Sizes above the bound are refused as such; their divisors need not be looked for.
    let most = LARGEST_TABLE.unsigned_abs();
    number > most || number > 0 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn check_warmup(checker: &mut DrChecker<'_>, path: &str, warmup: &Warmup) {
    if warmup.duration.is_none() {
        checker.missing(path, "duration");
    }
    checker.duration(&format!("{path}.duration"), warmup.duration.as_ref(), false);
    if let Some(percent) = warmup.minimum_percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        checker.error("P0117", &format!("{path}.minimumPercent"), format!("{percent} is out of range"));
        checker.label("0 to 100");
    }
    if let Some(aggression) = warmup.aggression.filter(|aggression| *aggression < 1.0) {
        checker.error("P0117", &format!("{path}.aggression"), format!("{aggression} is out of range"));
        checker.label("at least 1");
    }
}

fn check_locality(checker: &mut DrChecker<'_>, path: &str, setting: &LocalityLbSetting, ejects: bool) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        checker.error_at_key("P0120", path, "`distribute` and `failover` exclude each other");
    }
    // One with a value (`LABEL=VALUE`) is no place to Istio.
    let by_label = |entry: &String| PLACES.contains(&entry.as_str());
    if let Some(i) = setting.failover_priority.iter().position(by_label).filter(|_| !setting.failover.is_empty()) {
        let text = "labels of places in `failoverPriority` and `failover` exclude each other";
        checker.error("P0120", &format!("{path}.failoverPriority[{i}]"), text);
    }
    let mut sources = Localities::default();
    for (i, rule) in setting.distribute.iter().enumerate() {
        let path = format!("{path}.distribute[{i}]");
        if let Err(fault) = sources.add(&rule.from) {
            checker.error("P0103", &format!("{path}.from"), fault);
        }
        let mut targets = Localities::default();
        if let Some(fault) = rule.to.keys().find_map(|to| targets.add(to).err()) {
            checker.error_at_key("P0103", &format!("{path}.to"), fault);
        }
        for (to, percent) in rule.to.iter().filter(|(_, percent)| **percent == 0 || **percent > 100) {
            checker.error("P0109", &format!("{path}.to"), format!("{percent} for `{to}` is out of range"));
            checker.label("1 to 100");
        }
        let total: u64 = rule.to.values().map(|percent| u64::from(*percent)).sum();
        if total != 100 {
            checker.error_at_key("P0109", &format!("{path}.to"), format!("the weights add up to {total}"));
            checker.label("they must add up to 100");
        }
    }
    for (i, failover) in setting.failover.iter().enumerate() {
        let path = format!("{path}.failover[{i}]");
        if failover.from == failover.to {
            checker.error("P0120", &format!("{path}.to"), "`from` and `to` are the same region");
        }
        for (field, region) in [("from", &failover.from), ("to", &failover.to)] {
            if region.contains(['*', '/']) {
                checker.error("P0103", &format!("{path}.{field}"), format!("`{region}` is not a region's name"));
                checker.label("one region, without zone or wildcard");
            }
        }
    }
    let field = if setting.failover.is_empty() { "failoverPriority" } else { "failover" };
    if !ejects && (!setting.failover.is_empty() || !setting.failover_priority.is_empty()) {
        checker.warn(
            "P0312",
            &format!("{path}.{field}"),
            format!("`{field}` has no effect without `outlierDetection`"),
        );
        checker.help("add `outlierDetection` to the same policy");
    }
}
