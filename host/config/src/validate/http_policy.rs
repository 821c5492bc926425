//! Checks of a rule's faults, mirrors and CORS policy.

use portolan_model::GRPC_STATUSES;

use super::checker::Checker;
use super::{headers, string_match};
use crate::resources::istio::VirtualService;
use crate::resources::istio::http_policy::{CorsPolicy, FaultAbort, FaultDelay, HttpFaultInjection, Percent};
use crate::resources::istio::virtual_service::{HttpRoute, RouteDestination};

type VsChecker<'a> = Checker<'a, VirtualService>;

/// Methods of `allowMethods`, as Istio knows them, and the word for all, which Istio's admission does not take and its Envoy
/// does.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// One rule.
pub(super) fn check(checker: &mut VsChecker<'_>, path: &str, rule: &HttpRoute) {
    if let Some(fault) = &rule.fault {
        check_fault(checker, &format!("{path}.fault"), fault);
    }
    if let Some(policy) = &rule.cors_policy {
        check_cors(checker, &format!("{path}.corsPolicy"), policy);
    }
    check_mirrors(checker, path, rule);
}

fn check_fault(checker: &mut VsChecker<'_>, path: &str, fault: &HttpFaultInjection) {
    if fault.delay.is_none() && fault.abort.is_none() {
        checker.error_at_key("P0102", path, "set `delay`, `abort` or both");
    }
    if let Some(delay) = &fault.delay {
        check_delay(checker, &format!("{path}.delay"), delay);
    }
    if let Some(abort) = &fault.abort {
        check_abort(checker, &format!("{path}.abort"), abort);
    }
}

fn check_delay(checker: &mut VsChecker<'_>, path: &str, delay: &FaultDelay) {
    check_percentage(checker, &format!("{path}.percentage"), delay.percentage);
    if let Some(percent) = delay.percent.filter(|percent| !(0..=100).contains(percent) && delay.percentage.is_none()) {
        checker.warn(
            "P0360",
            &format!("{path}.percent"),
            format!("{percent} is out of range: every request is delayed"),
        );
        checker.label("0 to 100");
    }
    checker.duration(&format!("{path}.fixedDelay"), delay.fixed_delay.as_ref(), false);
    match (&delay.fixed_delay, &delay.exponential_delay) {
        (None, Some(_)) => {
            checker.error_at_key(
                "P0120",
                &format!("{path}.exponentialDelay"),
                "only `fixedDelay` is served, as in Istio",
            );
        }
        (None, None) => {
            checker.warn_at_key("P0330", path, "without `fixedDelay` this delay happens to no request");
        }
        (Some(_), _) => {}
    }
    without_percentage(checker, path, delay.percentage.is_none() && delay.percent.is_none());
}

fn check_abort(checker: &mut VsChecker<'_>, path: &str, abort: &FaultAbort) {
    check_percentage(checker, &format!("{path}.percentage"), abort.percentage);
    match (abort.http_status, &abort.grpc_status, &abort.http2_error) {
        (Some(status), None, None) => checker.range(&format!("{path}.httpStatus"), status, 200, 599),
        (None, Some(_), None) => {
            checker.word(&format!("{path}.grpcStatus"), abort.grpc_status.as_ref(), &GRPC_STATUSES);
        }
        (None, None, Some(_)) => {
            let text = "aborts with an error of HTTP/2 are not served, as in Istio";
            checker.error_at_key("P0120", &format!("{path}.http2Error"), text);
            checker.help("use `httpStatus` or `grpcStatus`");
        }
        (None, None, None) => {
            checker.warn_at_key("P0330", path, "without `httpStatus` or `grpcStatus` this abort happens to no request");
        }
        _ => checker.error_at_key("P0102", path, "set exactly one of `httpStatus`, `grpcStatus`"),
    }
    without_percentage(checker, path, abort.percentage.is_none());
}

/// Istio takes it, and nothing happens.
fn without_percentage(checker: &mut VsChecker<'_>, path: &str, absent: bool) {
    if absent {
        checker.warn("P0330", path, "without `percentage` this fault happens to no request");
        checker.help("set `percentage: {value: 100}` for all requests");
    }
}

fn check_percentage(checker: &mut VsChecker<'_>, path: &str, percentage: Option<Percent>) {
    let Some(Percent { value }) = percentage else { return };
    if value != 0.0 && !(0.0001..=100.0).contains(&value) {
        checker.error("P0117", &format!("{path}.value"), format!("{value} is out of range"));
        checker.label("0, or 0.0001 to 100");
    }
}

/// Of mirrors: any part of a percent.
fn check_share(checker: &mut VsChecker<'_>, path: &str, percentage: Option<Percent>) {
    if let Some(Percent { value }) = percentage.filter(|percentage| !(0.0..=100.0).contains(&percentage.value)) {
        checker.error("P0117", &format!("{path}.value"), format!("{value} is out of range"));
        checker.label("0 to 100");
    }
}

fn check_mirrors(checker: &mut VsChecker<'_>, path: &str, rule: &HttpRoute) {
    if rule.mirror.is_some() && !rule.mirrors.is_empty() {
        checker.error_at_key("P0120", &format!("{path}.mirrors"), "`mirror` and `mirrors` exclude each other");
    }
    check_share(checker, &format!("{path}.mirrorPercentage"), rule.mirror_percentage);
    if let Some(percent) = rule.mirror_percent {
        checker.range(&format!("{path}.mirrorPercent"), percent, 0, 100);
    }
    if let Some(mirror) = &rule.mirror {
        check_destination(checker, &format!("{path}.mirror"), mirror);
    }
    for (i, mirror) in rule.mirrors.iter().enumerate() {
        let path = format!("{path}.mirrors[{i}]");
        check_share(checker, &format!("{path}.percentage"), mirror.percentage);
        match &mirror.destination {
            Some(destination) => check_destination(checker, &format!("{path}.destination"), destination),
            None => checker.missing(&path, "destination"),
        }
    }
}

fn check_destination(checker: &mut VsChecker<'_>, path: &str, destination: &RouteDestination) {
    if destination.host.is_empty() {
        checker.missing(path, "host");
    } else if destination.host == "*" {
        checker.error("P0103", &format!("{path}.host"), "`*` is not the name of a service");
    } else {
        checker.service(&format!("{path}.host"), &destination.host);
    }
    if let Some(port) = &destination.port {
        checker.port(&format!("{path}.port.number"), port.number);
    }
    if let Some(subset) = destination.subset.as_ref().filter(|subset| !subset.is_empty()) {
        checker.label_name(&format!("{path}.subset"), "a subset's name", subset);
    }
}

fn check_cors(checker: &mut VsChecker<'_>, path: &str, policy: &CorsPolicy) {
    for (i, origin) in policy.allow_origins.iter().enumerate() {
        let path = format!("{path}.allowOrigins[{i}]");
        if origin.exact.is_none() && origin.prefix.is_none() && origin.regex.is_none() {
            checker.error_at_key("P0102", &path, "set one of `exact`, `prefix`, `regex`");
        } else {
            string_match::check(checker, &path, Some(origin), false);
        }
        if origin.exact.as_deref() == Some("") {
            checker.error("P0107", &format!("{path}.exact"), "an empty origin is nobody's");
        }
    }
    for (i, method) in policy.allow_methods.iter().enumerate() {
        checker.word(&format!("{path}.allowMethods[{i}]"), Some(method), METHODS);
    }
    for (field, names) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)] {
        for (i, name) in names.iter().enumerate().filter(|(_, name)| !headers::is_token(name)) {
            checker.error("P0118", &format!("{path}.{field}[{i}]"), format!("`{name}` is not a header's name"));
        }
    }
    checker.duration(&format!("{path}.maxAge"), policy.max_age.as_ref(), false);
    let ms = policy.max_age.as_deref().and_then(crate::duration::parse_ms);
    if ms.is_some_and(|ms| ms % 1000 != 0) {
        checker.error("P0105", &format!("{path}.maxAge"), "browsers count `maxAge` in whole seconds");
    }
    let words = &["UNSPECIFIED", "FORWARD", "IGNORE"];
    checker.word(&format!("{path}.unmatchedPreflights"), policy.unmatched_preflights.as_ref(), words);
}
