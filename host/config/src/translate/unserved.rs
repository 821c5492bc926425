//! What a user wrote and the gateway does not serve yet: said aloud, each with its place and with what happens instead.

use super::retries::WITHOUT_EFFECT;
use super::{conditions, headers};
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::destination_rule::{ClientTls, LoadBalancer, OutlierDetection, TrafficPolicy};
use crate::resources::istio::virtual_service::{Headers, HttpRoute, L4Match};
use crate::resources::istio::{DestinationRule, ServiceEntry, VirtualService};

/// One kind of thing: (given, field, code, what happens instead).
type Setting<'a> = (bool, &'a str, &'static str, &'static str);

/// Findings for all DestinationRules and ServiceEntries.
pub(super) fn diagnose(resources: &ResourceSet) -> Vec<Diagnostic> {
    let rules = resources.destination_rules().flat_map(of_destination_rule);
    rules.chain(resources.service_entries().flat_map(of_service_entry)).collect()
}

fn report<T>(object: &Object<T>, path: &str, settings: &[Setting<'_>], found: &mut Vec<Diagnostic>) {
    for (_, field, code, instead) in settings.iter().filter(|(given, ..)| *given) {
        let place = object.key_place(&format!("{path}.{field}"));
        found.push(Diagnostic::warning(code, place, format!("`{field}` is not served yet: {instead}")));
    }
}

/// Findings for one VirtualService. `has_tokens`: some RequestAuthentication is for this gateway.
pub(super) fn of_virtual_service(object: &Object<VirtualService>, has_tokens: bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let spec = &object.spec;
    for (i, rule) in spec.http.iter().enumerate() {
        let path = format!("spec.http[{i}]");
        of_rule(object, &path, rule, &mut found);
        if !has_tokens {
            of_claims(object, &path, rule, &mut found);
        }
    }
    for (i, rule) in spec.tcp.iter().enumerate() {
        for (j, condition) in rule.matches.iter().enumerate() {
            of_l4_match(object, &format!("spec.tcp[{i}].match[{j}]"), condition, &mut found);
        }
    }
    for (i, rule) in spec.tls.iter().enumerate() {
        for (j, condition) in rule.matches.iter().enumerate() {
            of_l4_match(object, &format!("spec.tls[{i}].match[{j}]"), &condition.l4(), &mut found);
        }
    }
    found
}

/// At a gateway Istio looks at port and gateways only.
fn of_l4_match(object: &Object<VirtualService>, path: &str, condition: &L4Match, found: &mut Vec<Diagnostic>) {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let settings = [
        (!condition.destination_subnets.is_empty(), "destinationSubnets"),
        (given(&condition.source_subnet), "sourceSubnet"),
        (!condition.source_labels.is_empty(), "sourceLabels"),
        (given(&condition.source_namespace), "sourceNamespace"),
    ];
    for (_, field) in settings.iter().filter(|(given, _)| *given) {
        let place = object.key_place(&format!("{path}.{field}"));
        let text = format!("`{field}` has no effect at a gateway: port and gateways decide, as in Istio");
        found.push(Diagnostic::warning("P0324", place, text));
    }
}

fn of_rule(object: &Object<VirtualService>, path: &str, rule: &HttpRoute, found: &mut Vec<Diagnostic>) {
    of_retries(object, path, rule, found);
    of_headers(object, path, rule.headers.as_deref(), found);
    for (i, entry) in rule.route.iter().enumerate() {
        of_headers(object, &format!("{path}.route[{i}]"), entry.headers.as_deref(), found);
    }
}

fn of_claims(object: &Object<VirtualService>, path: &str, rule: &HttpRoute, found: &mut Vec<Diagnostic>) {
    for (i, _) in rule.matches.iter().enumerate().filter(|(_, condition)| conditions::asks_for_claims(condition)) {
        let text =
            "this match asks for claims of a token, and no RequestAuthentication is for this gateway: nobody has any";
        found.push(Diagnostic::warning("P0309", object.key_place(&format!("{path}.match[{i}].headers")), text));
    }
}

/// Operators that this gateway has no value for.
fn of_headers(object: &Object<VirtualService>, path: &str, headers: Option<&Headers>, found: &mut Vec<Diagnostic>) {
    let Some(headers) = headers else { return };
    for (side, operations) in [("request", &headers.request), ("response", &headers.response)] {
        let Some(operations) = operations else { continue };
        let lists = [("set", &operations.set), ("add", &operations.add)];
        let all = lists.iter().flat_map(|(list, pairs)| pairs.iter().map(move |pair| (list, pair)));
        for (list, (name, value)) in all {
            if let Some(operator) = headers::unknown_operator(value) {
                let place = object.place(&format!("{path}.headers.{side}.{list}.{name}"));
                let text = format!("`{operator}` in a header's value is not known here: the value is sent as it is");
                found.push(Diagnostic::warning("P0329", place, text));
            }
        }
    }
}

fn of_retries(object: &Object<VirtualService>, path: &str, rule: &HttpRoute, found: &mut Vec<Diagnostic>) {
    let Some(retries) = &rule.retries else { return };
    let path = format!("{path}.retries");
    let words = retries.retry_on.iter().flat_map(|text| text.split(',')).map(str::trim);
    for word in words.filter(|word| WITHOUT_EFFECT.contains(word)) {
        let place = object.place(&format!("{path}.retryOn"));
        found.push(Diagnostic::warning("P0317", place, format!("retry condition `{word}` has no effect here")));
    }
}

fn of_destination_rule(object: &Object<DestinationRule>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let spec = &object.spec;
    let settings =
        [(spec.workload_selector.is_some(), "workloadSelector", "P0315", "the rule counts for every gateway")];
    report(object, "spec", &settings, &mut found);
    let subsets = spec.subsets.iter().enumerate();
    let of_subsets = subsets.map(|(i, subset)| (format!("spec.subsets[{i}].trafficPolicy"), &subset.traffic_policy));
    let top = ("spec.trafficPolicy".to_owned(), &spec.traffic_policy);
    for (path, policy) in std::iter::once(top).chain(of_subsets) {
        if let Some(policy) = policy {
            of_policy(object, &path, policy, &mut found);
        }
    }
    found
}

fn of_policy(object: &Object<DestinationRule>, path: &str, policy: &TrafficPolicy, found: &mut Vec<Diagnostic>) {
    of_tls(object, path, policy.tls.as_ref(), found);
    of_load_balancer(object, path, policy.load_balancer.as_ref(), found);
    of_outlier(object, path, policy.outlier_detection.as_ref(), found);
    for (i, port) in policy.port_level_settings.iter().enumerate() {
        let path = format!("{path}.portLevelSettings[{i}]");
        of_tls(object, &path, port.tls.as_ref(), found);
        of_load_balancer(object, &path, port.load_balancer.as_ref(), found);
        of_outlier(object, &path, port.outlier_detection.as_ref(), found);
    }
}

/// The certificates of the mesh are made by its control plane, which this gateway has none of.
fn of_tls(object: &Object<DestinationRule>, path: &str, tls: Option<&ClientTls>, found: &mut Vec<Diagnostic>) {
    if tls.and_then(|tls| tls.mode.as_deref()) == Some("ISTIO_MUTUAL") {
        let text = "ISTIO_MUTUAL is not served: requests go out in the clear, as to workloads without a sidecar";
        found.push(Diagnostic::warning("P0313", object.place(&format!("{path}.tls.mode")), text));
    }
}

fn of_load_balancer(
    object: &Object<DestinationRule>,
    path: &str,
    written: Option<&LoadBalancer>,
    found: &mut Vec<Diagnostic>,
) {
    let Some(written) = written else { return };
    let path = format!("{path}.loadBalancer");
    if written.simple.as_deref() == Some("PASSTHROUGH") {
        let text = "PASSTHROUGH has no meaning at a gateway, which clients do not address endpoints through: LEAST_REQUEST is used";
        found.push(Diagnostic::warning("P0312", object.place(&format!("{path}.simple")), text));
    }
}

fn of_outlier(
    object: &Object<DestinationRule>,
    path: &str,
    written: Option<&OutlierDetection>,
    found: &mut Vec<Diagnostic>,
) {
    let Some(written) = written else { return };
    let path = format!("{path}.outlierDetection");
    if written.consecutive_errors.is_some() {
        let place = object.key_place(&format!("{path}.consecutiveErrors"));
        let finding = Diagnostic::warning("P0316", place, "`consecutiveErrors` has no effect any more, as in Istio");
        found.push(finding.with_help("set `consecutiveGatewayErrors` or `consecutive5xxErrors`"));
    }
}

/// Requests name their hosts themselves: what would say it in their place counts for nothing.
fn of_dynamic(object: &Object<ServiceEntry>, found: &mut Vec<Diagnostic>) {
    let spec = &object.spec;
    let given = [("endpoints", !spec.endpoints.is_empty()), ("workloadSelector", spec.workload_selector.is_some())];
    for (field, _) in given.iter().filter(|(_, given)| *given) {
        let text = format!("`{field}` has no effect with resolution DYNAMIC_DNS: DNS is asked for each request's host");
        found.push(Diagnostic::warning("P0323", object.key_place(&format!("spec.{field}")), text));
    }
}

fn of_service_entry(object: &Object<ServiceEntry>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let resolution = object.spec.resolution.as_deref().unwrap_or("NONE");
    if resolution == "NONE" {
        let text = "resolution NONE has no address at a gateway, as in Istio: requests for these hosts get 503";
        let finding = Diagnostic::warning("P0323", object.place("spec.resolution"), text);
        found.push(finding.with_help("set `resolution: DNS`"));
    }
    if resolution == "DYNAMIC_DNS" {
        of_dynamic(object, &mut found);
    }
    found
}
