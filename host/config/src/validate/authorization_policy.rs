//! Checks of an AuthorizationPolicy.

use std::net::IpAddr;

use super::checker::Checker;
use super::{dry_run, selector};
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::AuthorizationPolicy;
use crate::resources::istio::authorization_policy::{Condition, Operation, Rule, Source};

/// Values of `action`.
const ACTIONS: &[&str] = &["ALLOW", "DENY", "AUDIT", "CUSTOM"];

/// Attributes that stand for themselves.
const ATTRIBUTES: &[&str] = &[
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

/// Attributes with names in brackets.
const IN_BRACKETS: &[&str] = &["request.headers", "request.auth.claims", EXPERIMENTAL];

/// Attributes of Envoy's own, which Istio takes as they are.
pub(crate) const EXPERIMENTAL: &str = "experimental.envoy.filters.";

/// Checks an AuthorizationPolicy by itself.
pub fn authorization_policy(object: &Object<AuthorizationPolicy>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    selector::check(&mut checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    checker.word("spec.action", spec.action.as_ref(), ACTIONS);
    let action = spec.action.as_deref().unwrap_or("ALLOW");
    if matches!(action, "DENY" | "CUSTOM") && spec.rules.is_empty() {
        checker.missing("spec.action", "rules");
        checker.help("without rules nothing is ever refused: an empty rule, `- {}`, fits every request");
    }
    let provider = spec.provider.as_ref().map(|provider| provider.name.as_str());
    match (action, provider) {
        ("CUSTOM", None | Some("")) => checker.missing("spec.action", "provider.name"),
        ("CUSTOM", _) | (_, None) => {}
        (_, Some(_)) => {
            checker.error_at_key("P0250", "spec.provider", "`provider` belongs to action CUSTOM");
        }
    }
    for (i, rule) in spec.rules.iter().enumerate() {
        check_rule(&mut checker, &format!("spec.rules[{i}]"), rule, action == "CUSTOM");
    }
    dry_run::check(&mut checker, object, action);
    checker.finish()
}

fn check_rule(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, rule: &Rule, custom: bool) {
    for (i, from) in rule.from.iter().enumerate() {
        match &from.source {
            Some(source) if *source != Source::default() => {
                check_source(checker, &format!("{path}.from[{i}].source"), source, custom);
            }
            _ => checker.missing(&format!("{path}.from[{i}]"), "source"),
        }
    }
    for (i, to) in rule.to.iter().enumerate() {
        match &to.operation {
            Some(operation) if *operation != Operation::default() => {
                check_operation(checker, &format!("{path}.to[{i}].operation"), operation);
            }
            _ => checker.missing(&format!("{path}.to[{i}]"), "operation"),
        }
    }
    for (i, condition) in rule.when.iter().enumerate() {
        check_condition(checker, &format!("{path}.when[{i}]"), condition, custom);
    }
}

fn check_source(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, source: &Source, custom: bool) {
    let identities = [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
    ];
    for (field, values) in identities {
        let path = format!("{path}.{field}");
        filled(checker, &path, values);
        if custom && !values.is_empty() {
            checker.error_at_key("P0250", &path, format!("`{field}` cannot be used with action CUSTOM"));
        }
    }
    let addresses = [
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
    ];
    for (field, values) in addresses {
        blocks(checker, &format!("{path}.{field}"), values);
    }
    for (field, values) in &identities[6..] {
        accounts(checker, &format!("{path}.{field}"), values);
    }
    let has_accounts = identities[6..].iter().any(|(_, values)| !values.is_empty());
    let others = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if has_accounts && others.iter().any(|values| !values.is_empty()) {
        let text = "service accounts exclude `principals` and `namespaces`";
        checker.error_at_key("P0250", &format!("{path}.serviceAccounts"), text);
    }
}

fn check_operation(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, operation: &Operation) {
    let fields = [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ];
    for (field, values) in fields {
        filled(checker, &format!("{path}.{field}"), values);
    }
    for (field, values) in &fields[4..] {
        for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_path(value)) {
            checker.error("P0250", &format!("{path}.{field}[{i}]"), format!("`{value}` is no template of paths"));
            checker.label("`{*}` and `{**}` are whole segments, `{**}` the last of them, and no `*` is beside them");
        }
    }
    ports(checker, &format!("{path}.ports"), &operation.ports);
    ports(checker, &format!("{path}.notPorts"), &operation.not_ports);
}

/// A path, or a template that Envoy takes. Without a star in braces they are letters like any other.
fn is_path(value: &str) -> bool {
    let mut is_over = false;
    let is_template = value.contains("{*}") || value.contains("{**}");
    !is_template
        || value.trim_matches('/').split('/').all(|segment| {
            let fits = match segment {
                "{*}" | "{**}" => !is_over,
                literal => !literal.contains(['{', '}', '*']),
            };
            is_over |= segment == "{**}";
            fits
        })
}

fn check_condition(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, condition: &Condition, custom: bool) {
    let key = condition.key.as_str();
    if key.is_empty() {
        return checker.missing(path, "key");
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        checker.missing(path, "values");
    }
    let has_name = key.find('[').is_some_and(|open| key.ends_with(']') && open + 2 < key.len());
    let is_named = |start: &str| key.starts_with(start) && has_name;
    if !ATTRIBUTES.contains(&key) && !IN_BRACKETS.iter().any(|start| is_named(start)) {
        checker.error("P0250", &format!("{path}.key"), format!("`{key}` is no attribute"));
        checker.label(format!("known: {}, request.headers[NAME], request.auth.claims[NAME]", ATTRIBUTES.join(", ")));
    }
    if custom && (key.starts_with("request.auth.") || matches!(key, "source.namespace" | "source.principal")) {
        checker.error("P0250", &format!("{path}.key"), format!("`{key}` cannot be used with action CUSTOM"));
    }
    for (field, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        let path = format!("{path}.{field}");
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => blocks(checker, &path, values),
            "destination.port" => ports(checker, &path, values),
            _ => filled(checker, &path, values),
        }
    }
}

fn filled(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, values: &[String]) {
    for (i, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
        checker.error("P0250", &format!("{path}[{i}]"), "an empty value fits nothing");
    }
}

fn ports(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, values: &[String]) {
    let is_port = |value: &String| value.parse::<u16>().is_ok();
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_port(value)) {
        checker.error("P0104", &format!("{path}[{i}]"), format!("`{value}` is not a port number"));
    }
}

fn accounts(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, values: &[String]) {
    let is_account = |value: &String| !value.contains('*') && value.split('/').count() <= 2 && !value.ends_with('/');
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_account(value) || value.starts_with('/')) {
        checker.error("P0250", &format!("{path}[{i}]"), format!("`{value}` is not a service account"));
        checker.label("`name` or `namespace/name`");
    }
}

fn blocks(checker: &mut Checker<'_, AuthorizationPolicy>, path: &str, values: &[String]) {
    for (i, value) in values.iter().enumerate().filter(|(_, value)| !is_block(value)) {
        checker.error("P0250", &format!("{path}[{i}]"), format!("`{value}` is neither an address nor a range"));
        checker.label("`192.0.2.1`, `192.0.2.0/24`, `2001:db8::/32`");
    }
}

fn is_block(value: &str) -> bool {
    let (address, prefix) = value.split_once('/').map_or((value, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|bits| bits <= longest))
}
