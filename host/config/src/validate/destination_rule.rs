//! Checks of a DestinationRule.

use serde_yaml::Value;

use super::checker::Checker;
use super::export_to;
use super::extension::check_faults;
use super::load_balancer;
use super::selector;
use crate::annotations;
use crate::diagnostic::Diagnostic;
use crate::hosts;
use crate::object::Object;
use crate::resources::istio::DestinationRule;
use crate::resources::istio::destination_rule::{
    ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, PortPolicy, TrafficPolicy,
};

type DrChecker<'a> = Checker<'a, DestinationRule>;

/// Checks a DestinationRule by itself.
pub fn destination_rule(object: &Object<DestinationRule>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    if spec.host.is_empty() {
        checker.missing("spec", "host");
    } else {
        checker.service("spec.host", &spec.host);
        checker.partial_wildcard("spec.host", &spec.host, "service");
    }
    if let Some(policy) = &spec.traffic_policy {
        check_policy(&mut checker, "spec.trafficPolicy", policy);
    }
    for (i, subset) in spec.subsets.iter().enumerate() {
        let path = format!("spec.subsets[{i}]");
        if subset.name.is_empty() {
            checker.missing(&path, "name");
        } else {
            checker.label_name(&format!("{path}.name"), "a subset's name", &subset.name);
        }
        checker.labels(&format!("{path}.labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            check_policy(&mut checker, &format!("{path}.trafficPolicy"), policy);
        }
    }
    let named = spec.subsets.iter().enumerate().filter(|(_, subset)| !subset.name.is_empty());
    checker.unique("subset", named.map(|(i, subset)| (format!("spec.subsets[{i}].name"), subset.name.clone())));
    export_to::check(&mut checker, &spec.export_to, false);
    let own = |entry: &String| entry == "." || *entry == object.meta.namespace;
    if spec.workload_selector.is_some() && !spec.export_to.iter().all(own) {
        let text = "a rule with `workloadSelector` is for its own namespace only";
        checker.error_at_key("P0128", "spec.exportTo", text);
    }
    check_selector(&mut checker, spec.workload_selector.as_ref());
    check_faults(&mut checker, annotations::health_check(&object.meta.annotations).1);
    checker.finish()
}

fn check_selector(checker: &mut DrChecker<'_>, written: Option<&Value>) {
    let Some(Value::Mapping(labels)) = written.and_then(|written| written.get("matchLabels")) else { return };
    let pairs = labels.iter().filter_map(|(name, value)| Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())));
    let pairs: Vec<(String, String)> = pairs.collect();
    selector::check_labels(
        checker,
        "spec.workloadSelector.matchLabels",
        pairs.iter().map(|(name, value)| (name, value)),
    );
}

/// What Istio's `validateTunnelSettings` refuses.
fn check_tunnel(checker: &mut DrChecker<'_>, path: &str, tunnel: &Value) {
    let text = |field: &str| tunnel.get(field).and_then(Value::as_str).unwrap_or_default();
    if !matches!(text("protocol"), "" | "CONNECT" | "POST") {
        checker.error("P0116", &format!("{path}.protocol"), format!("`{}` is not a way to tunnel", text("protocol")));
        checker.label("CONNECT or POST");
    }
    if hosts::fault_of(text("targetHost"), false).is_some() {
        checker.error("P0103", &format!("{path}.targetHost"), format!("`{}` is not a host", text("targetHost")));
    }
    let port = tunnel.get("targetPort").and_then(Value::as_u64).unwrap_or_default();
    checker.port(&format!("{path}.targetPort"), u32::try_from(port).unwrap_or(u32::MAX));
}

fn check_policy(checker: &mut DrChecker<'_>, path: &str, policy: &TrafficPolicy) {
    let empty = TrafficPolicy::default() == *policy;
    if empty {
        checker.error_at_key("P0115", path, "an empty `trafficPolicy` says nothing");
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        checker.error_at_key("P0120", &format!("{path}.tunnel"), "`tunnel` and `proxyProtocol` exclude each other");
    }
    if let Some(tunnel) = &policy.tunnel {
        check_tunnel(checker, &format!("{path}.tunnel"), tunnel);
    }
    check_blocks(
        checker,
        path,
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
    );
    check_tls(checker, path, policy.tls.as_ref());
    if let Some(proxy) = &policy.proxy_protocol {
        checker.word(&format!("{path}.proxyProtocol.version"), proxy.version.as_ref(), &["V1", "V2"]);
    }
    if let Some(budget) = &policy.retry_budget {
        let path = format!("{path}.retryBudget");
        if let Some(percent) = budget.percent.filter(|percent| !(0.0..=100.0).contains(&percent.value)) {
            checker.error("P0117", &format!("{path}.percent.value"), format!("{} is out of range", percent.value));
            checker.label("0 to 100");
        }
        let least = budget.min_retry_concurrency.unwrap_or(0);
        checker.range(&format!("{path}.minRetryConcurrency"), least, 0, i64::from(u32::MAX));
    }
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        match &port.port {
            Some(number) => checker.port(&format!("{path}.port.number"), number.number),
            None => checker.missing(&path, "port"),
        }
        if (PortPolicy { port: None, ..port.clone() }) == PortPolicy::default() {
            checker.error_at_key("P0115", &path, "this policy of a port says nothing");
            checker.label("set `loadBalancer`, `connectionPool`, `outlierDetection` or `tls`");
        }
        check_blocks(
            checker,
            &path,
            port.load_balancer.as_ref(),
            port.connection_pool.as_ref(),
            port.outlier_detection.as_ref(),
        );
        check_tls(checker, &path, port.tls.as_ref());
    }
}

fn check_blocks(
    checker: &mut DrChecker<'_>,
    path: &str,
    balancing: Option<&LoadBalancer>,
    pool: Option<&ConnectionPool>,
    outlier: Option<&OutlierDetection>,
) {
    if let Some(balancing) = balancing {
        load_balancer::check(checker, &format!("{path}.loadBalancer"), balancing, outlier.is_some());
    }
    if let Some(pool) = pool {
        check_pool(checker, &format!("{path}.connectionPool"), pool);
    }
    if let Some(outlier) = outlier {
        check_outlier(checker, &format!("{path}.outlierDetection"), outlier);
    }
}

/// What Istio's `validateTLS` refuses.
fn check_tls(checker: &mut DrChecker<'_>, path: &str, tls: Option<&ClientTls>) {
    let Some(tls) = tls else { return };
    let path = format!("{path}.tls");
    checker.word(&format!("{path}.mode"), tls.mode.as_ref(), &["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]);
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let (certificate, key) = (given(&tls.client_certificate), given(&tls.private_key));
    let (authorities, credential) = (given(&tls.ca_certificates), given(&tls.credential_name));
    let mode = tls.mode.as_deref().unwrap_or("DISABLE");
    let checked = authorities || !tls.subject_alt_names.is_empty() || mode == "SIMPLE" && credential;
    if tls.insecure_skip_verify == Some(true) && checked && matches!(mode, "SIMPLE" | "MUTUAL") {
        let text = "with `insecureSkipVerify` nothing is checked: leave out `caCertificates` and `subjectAltNames`";
        checker.error_at_key("P0102", &format!("{path}.insecureSkipVerify"), text);
    }
    if credential && matches!(mode, "SIMPLE" | "MUTUAL") {
        if certificate || key || authorities || given(&tls.ca_crl) {
            let text = "set either `credentialName` or files";
            checker.error_at_key("P0102", &format!("{path}.credentialName"), text);
        }
        return;
    }
    if mode == "MUTUAL" {
        if !certificate {
            checker.missing(&path, "clientCertificate");
        }
        if !key {
            checker.missing(&path, "privateKey");
        }
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
        checker.duration_or_off(&format!("{path}.tcp.idleTimeout"), tcp.idle_timeout.as_ref());
        checker.duration(&format!("{path}.tcp.maxConnectionDuration"), tcp.max_connection_duration.as_ref(), false);
    }
    if let Some(keepalive) = pool.tcp.as_ref().and_then(|tcp| tcp.tcp_keepalive.as_ref()) {
        checker.duration(&format!("{path}.tcp.tcpKeepalive.time"), keepalive.time.as_ref(), false);
        checker.duration(&format!("{path}.tcp.tcpKeepalive.interval"), keepalive.interval.as_ref(), false);
    }
    let Some(http) = &pool.http else { return };
    let path = format!("{path}.http");
    checker.range(&format!("{path}.http1MaxPendingRequests"), http.http1_max_pending_requests, 0, most);
    checker.range(&format!("{path}.http2MaxRequests"), http.http2_max_requests, 0, most);
    checker.range(&format!("{path}.maxRequestsPerConnection"), http.max_requests_per_connection, 0, most);
    checker.range(&format!("{path}.maxConcurrentStreams"), http.max_concurrent_streams.unwrap_or(0), 0, most);
    checker.range(&format!("{path}.maxRetries"), http.max_retries, 0, most);
    checker.duration(&format!("{path}.idleTimeout"), http.idle_timeout.as_ref(), false);
    let policies = &["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"];
    checker.word(&format!("{path}.h2UpgradePolicy"), http.h2_upgrade_policy.as_ref(), policies);
    if http.use_client_protocol == Some(true) && http.h2_upgrade_policy.as_deref() == Some("UPGRADE") {
        let text = "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` exclude each other";
        checker.error_at_key("P0120", &format!("{path}.useClientProtocol"), text);
    }
}

fn check_outlier(checker: &mut DrChecker<'_>, path: &str, outlier: &OutlierDetection) {
    let split = outlier.split_external_local_origin_errors == Some(true);
    if !split && outlier.consecutive_local_origin_failures.is_some_and(|count| count > 0) {
        let text = "`consecutiveLocalOriginFailures` has no meaning without `splitExternalLocalOriginErrors`";
        checker.error_at_key("P0120", &format!("{path}.consecutiveLocalOriginFailures"), text);
        checker.help("set `splitExternalLocalOriginErrors: true`");
    }
    checker.duration(&format!("{path}.interval"), outlier.interval.as_ref(), false);
    checker.duration(&format!("{path}.baseEjectionTime"), outlier.base_ejection_time.as_ref(), false);
    if let Some(percent) = outlier.max_ejection_percent {
        checker.range(&format!("{path}.maxEjectionPercent"), percent, 0, 100);
    }
    if let Some(percent) = outlier.min_health_percent {
        checker.range(&format!("{path}.minHealthPercent"), percent, 0, 100);
    }
}
