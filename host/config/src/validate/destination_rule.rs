//! Checks of a DestinationRule.

use super::checker::Checker;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::{ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy};

type DrChecker<'a> = Checker<'a, DestinationRule>;

/// Values of `loadBalancer.simple`.
const SIMPLE: &[&str] = &["UNSPECIFIED", "LEAST_REQUEST", "LEAST_CONN", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"];

/// Checks a DestinationRule by itself.
pub fn destination_rule(object: &Object<DestinationRule>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.host.is_empty() {
        checker.missing("spec", "host");
    } else {
        checker.host("spec.host", &spec.host, true);
    }
    if let Some(policy) = &spec.traffic_policy {
        check_policy(&mut checker, "spec.trafficPolicy", policy);
    }
    for (i, subset) in spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{i}]");
        if subset.name.is_empty() {
            checker.missing(&path, "name");
        } else if subset.name.contains(['|', '/', ' ']) {
            checker.error("P0103", &format!("{path}.name"), format!("`{}` is not a subset's name", subset.name));
        }
        if let Some(policy) = &subset.traffic_policy {
            check_policy(&mut checker, &format!("{path}.trafficPolicy"), policy);
        }
    }
    let named = spec.subsets.iter().enumerate().filter(|(_, subset)| !subset.name.is_empty());
    checker.unique("subset", named.map(|(i, subset)| (format!("spec.subsets[{i}].name"), subset.name.clone())));
    checker.finish()
}

fn check_policy(checker: &mut DrChecker<'_>, path: &str, policy: &TrafficPolicy) {
    let empty = TrafficPolicy::default() == *policy;
    if empty {
        checker.error_at_key("P0115", path, "an empty `trafficPolicy` says nothing");
    }
    check_blocks(
        checker,
        path,
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
    );
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        match &port.port {
            Some(number) => checker.port(&format!("{path}.port.number"), number.number),
            None => checker.missing(&path, "port"),
        }
        check_blocks(
            checker,
            &path,
            port.load_balancer.as_ref(),
            port.connection_pool.as_ref(),
            port.outlier_detection.as_ref(),
        );
    }
}

fn check_blocks(
    checker: &mut DrChecker<'_>,
    path: &str,
    load_balancer: Option<&LoadBalancer>,
    pool: Option<&ConnectionPool>,
    outlier: Option<&OutlierDetection>,
) {
    if let Some(load_balancer) = load_balancer {
        let path = format!("{path}.loadBalancer");
        checker.word(&format!("{path}.simple"), load_balancer.simple.as_ref(), SIMPLE);
        if load_balancer.simple.is_some() && load_balancer.consistent_hash.is_some() {
            checker.error_at_key("P0102", &path, "set at most one of `simple`, `consistentHash`");
        }
    }
    if let Some(pool) = pool {
        check_pool(checker, &format!("{path}.connectionPool"), pool);
    }
    if let Some(outlier) = outlier {
        check_outlier(checker, &format!("{path}.outlierDetection"), outlier);
    }
}

fn check_pool(checker: &mut DrChecker<'_>, path: &str, pool: &ConnectionPool) {
    if pool.tcp.is_none() && pool.http.is_none() {
        checker.error_at_key("P0115", path, "an empty `connectionPool` says nothing");
        checker.label("set `tcp` or `http`");
    }
    let most = i64::from(i32::MAX);
    if let Some(tcp) = &pool.tcp {
        checker.range(&format!("{path}.tcp.maxConnections"), tcp.max_connections, 0, most);
        checker.duration(&format!("{path}.tcp.connectTimeout"), tcp.connect_timeout.as_ref(), false);
        checker.duration(&format!("{path}.tcp.idleTimeout"), tcp.idle_timeout.as_ref(), true);
        checker.duration(&format!("{path}.tcp.maxConnectionDuration"), tcp.max_connection_duration.as_ref(), false);
    }
    let Some(http) = &pool.http else { return };
    let path = format!("{path}.http");
    checker.range(&format!("{path}.http1MaxPendingRequests"), http.http1_max_pending_requests, 0, most);
    checker.range(&format!("{path}.http2MaxRequests"), http.http2_max_requests, 0, most);
    checker.range(&format!("{path}.maxRequestsPerConnection"), http.max_requests_per_connection, 0, most);
    checker.range(&format!("{path}.maxRetries"), http.max_retries, 0, most);
    checker.duration(&format!("{path}.idleTimeout"), http.idle_timeout.as_ref(), true);
    let policies = &["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"];
    checker.word(&format!("{path}.h2UpgradePolicy"), http.h2_upgrade_policy.as_ref(), policies);
}

fn check_outlier(checker: &mut DrChecker<'_>, path: &str, outlier: &OutlierDetection) {
    checker.duration(&format!("{path}.interval"), outlier.interval.as_ref(), false);
    checker.duration(&format!("{path}.baseEjectionTime"), outlier.base_ejection_time.as_ref(), false);
    if let Some(percent) = outlier.max_ejection_percent {
        checker.range(&format!("{path}.maxEjectionPercent"), percent, 0, 100);
    }
    if let Some(percent) = outlier.min_health_percent {
        checker.range(&format!("{path}.minHealthPercent"), percent, 0, 100);
    }
}
