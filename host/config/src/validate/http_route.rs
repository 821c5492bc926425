//! Checks of one rule of a VirtualService.

use std::collections::BTreeMap;

use base64::Engine;

use super::checker::Checker;
use super::{headers, http_policy, route_destination, string_match, virtual_service};
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{
    HttpDirectResponse, HttpMatch, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute,
};

/// Words of `retryOn`, HTTP first, then gRPC.
const RETRY_WORDS: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "retriable-status-codes",
    "reset-before-request",
    "envoy-ratelimited",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Largest body of a direct response, as Istio's.
const MAX_BODY: usize = 1 << 20;

/// From here on Istio warns of a body.
const LARGE_BODY: usize = 100 << 10;

type VsChecker<'a> = Checker<'a, VirtualService>;

/// One rule.
pub(super) fn check(checker: &mut VsChecker<'_>, path: &str, rule: &HttpRoute) {
    for (i, condition) in rule.matches.iter().enumerate() {
        check_match(checker, &format!("{path}.match[{i}]"), condition);
    }
    check_action(checker, path, rule);
    let destinations = rule.route.iter().map(|entry| (entry.destination.as_ref(), entry.weight));
    route_destination::check(checker, path, destinations);
    for (i, entry) in rule.route.iter().enumerate() {
        headers::check(checker, &format!("{path}.route[{i}].headers"), entry.headers.as_deref());
    }
    checker.duration(&format!("{path}.timeout"), rule.timeout.as_ref(), false);
    if let Some(retries) = &rule.retries {
        check_retries(checker, &format!("{path}.retries"), retries);
    }
    if let Some(rewrite) = &rule.rewrite {
        check_rewrite(checker, &format!("{path}.rewrite"), rewrite);
    }
    headers::check(checker, &format!("{path}.headers"), rule.headers.as_deref());
    let authorities = usize::from(rule.rewrite.as_ref().is_some_and(|r| is_given(&r.authority)))
        + headers::authorities(rule.headers.as_deref());
    if authorities > 1 {
        checker.error_at_key("P0118", &format!("{path}.headers"), "the authority is set twice");
        checker.help("use either `rewrite.authority` or a `Host` header");
    }
    http_policy::check(checker, path, rule);
}

fn check_match(checker: &mut VsChecker<'_>, path: &str, condition: &HttpMatch) {
    string_match::check_uri(checker, &format!("{path}.uri"), condition.uri.as_ref());
    string_match::check(checker, &format!("{path}.scheme"), condition.scheme.as_deref(), false);
    string_match::check(checker, &format!("{path}.method"), condition.method.as_deref(), false);
    string_match::check(checker, &format!("{path}.authority"), condition.authority.as_deref(), false);
    for (field, values) in [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)] {
        string_match::map(checker, &format!("{path}.{field}"), values);
        for name in values.keys() {
            headers::check_matched(checker, &format!("{path}.{field}.{name}"), name);
        }
    }
    string_match::map(checker, &format!("{path}.queryParams"), &condition.query_params);
    if let Some(port) = condition.port {
        checker.port(&format!("{path}.port"), port);
    }
    check_source(checker, path, &condition.source_labels, condition.source_namespace.as_deref());
    virtual_service::check_gateways(checker, path, &condition.gateways);
}

/// Whom a match is for, among sidecars.
pub(super) fn check_source(
    checker: &mut VsChecker<'_>,
    path: &str,
    labels: &BTreeMap<String, String>,
    namespace: Option<&str>,
) {
    checker.labels(&format!("{path}.sourceLabels"), labels);
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        checker.label_name(&format!("{path}.sourceNamespace"), "a namespace's name", namespace);
    }
}

fn check_action(checker: &mut VsChecker<'_>, path: &str, rule: &HttpRoute) {
    let actions = [
        ("route", !rule.route.is_empty()),
        ("redirect", rule.redirect.is_some()),
        ("directResponse", rule.direct_response.is_some()),
        ("delegate", rule.delegate.is_some()),
    ];
    let mut given: Vec<&str> = actions.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    // The rules of a delegate inherit it.
    given.retain(|name| *name != "directResponse" || rule.delegate.is_none());
    if given.is_empty() {
        checker.error_at_key("P0108", path, "this rule does nothing");
        checker.label("set exactly one of `route`, `redirect`, `directResponse`, `delegate`");
    } else if given.len() > 1 {
        let text = format!("`{}` excludes `{}` in one rule", given[0], given[1]);
        checker.error_at_key("P0108", &format!("{path}.{}", given[1]), text);
    }
    let forwards_not = rule.redirect.is_some() || rule.direct_response.is_some();
    if forwards_not && (rule.fault.is_some() || rule.rewrite.is_some()) {
        let field = if rule.rewrite.is_some() { "rewrite" } else { "fault" };
        let text = format!("`{field}` has no meaning in a rule that does not forward");
        checker.error_at_key("P0120", &format!("{path}.{field}"), text);
    }
    if rule.delegate.as_ref().is_some_and(|delegate| delegate.name.is_empty()) {
        checker.missing(&format!("{path}.delegate"), "name");
    }
    if let Some(redirect) = &rule.redirect {
        check_redirect(checker, &format!("{path}.redirect"), redirect);
    }
    if let Some(response) = &rule.direct_response {
        check_direct_response(checker, &format!("{path}.directResponse"), response);
    }
}

fn check_retries(checker: &mut VsChecker<'_>, path: &str, retries: &HttpRetry) {
    checker.range(&format!("{path}.attempts"), retries.attempts, 0, i64::from(u32::MAX) - 1);
    checker.duration(&format!("{path}.perTryTimeout"), retries.per_try_timeout.as_ref(), false);
    checker.duration(&format!("{path}.backoff"), retries.backoff.as_ref(), false);
    let rest =
        retries.per_try_timeout.is_some() || is_given(&retries.retry_on) || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && rest {
        checker.error_at_key("P0120", path, "`attempts` is 0: retries are off, and the rest has no meaning");
        checker.help("set `attempts`, or leave the rest out");
    }
    let written = retries.retry_on.iter().filter(|text| !text.is_empty());
    for word in written.flat_map(|text| text.split(',')) {
        if word.parse().is_ok_and(is_status) || RETRY_WORDS.contains(&word) {
            continue;
        }
        checker.error("P0121", &format!("{path}.retryOn"), format!("`{word}` is not a retry condition"));
        checker.label(format!("a status code, or one of {}", RETRY_WORDS[..7].join(", ")));
        if word.trim() != word {
            checker.help("write the list without spaces");
        } else if let Some(near) = crate::suggest::nearest(word, RETRY_WORDS.iter().copied()) {
            checker.help(format!("did you mean `{near}`?"));
        }
    }
}

/// A status with a name of its own, which is what Istio's admission goes by.
fn is_status(code: u16) -> bool {
    matches!(code, 100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451 | 500..=508 | 510 | 511)
}

fn check_rewrite(checker: &mut VsChecker<'_>, path: &str, rewrite: &HttpRewrite) {
    if !is_given(&rewrite.uri) && !is_given(&rewrite.authority) && rewrite.uri_regex_rewrite.is_none() {
        checker.error_at_key("P0110", path, "this rewrite changes nothing");
        checker.label("set `uri`, `uriRegexRewrite` or `authority`");
    }
    let Some(regex) = &rewrite.uri_regex_rewrite else { return };
    if is_given(&rewrite.uri) {
        checker.error_at_key("P0110", path, "set at most one of `uri`, `uriRegexRewrite`");
    }
    string_match::regex(checker, &format!("{path}.uriRegexRewrite.match"), &regex.pattern);
    if regex.rewrite.is_empty() {
        checker.missing(&format!("{path}.uriRegexRewrite"), "rewrite");
    }
}

fn check_redirect(checker: &mut VsChecker<'_>, path: &str, redirect: &HttpRedirect) {
    let texts = [&redirect.uri, &redirect.prefix_rewrite, &redirect.authority, &redirect.scheme];
    let nothing = !texts.into_iter().any(is_given) && redirect.port.is_none() && redirect.derive_port.is_none();
    if nothing {
        checker.error_at_key("P0110", path, "this redirect changes nothing: clients would go in circles");
        checker.label("set `uri`, `authority`, `scheme` or `port`");
    }
    if let Some(code) = redirect.redirect_code.filter(|code| *code != 0) {
        check_redirect_code(checker, &format!("{path}.redirectCode"), code);
    }
    if let Some(port) = redirect.port {
        checker.port(&format!("{path}.port"), port);
        if redirect.derive_port.is_some() {
            checker.error_at_key("P0102", path, "set at most one of `port`, `derivePort`");
        }
    }
    if redirect.uri.is_some() && redirect.prefix_rewrite.is_some() {
        checker.error_at_key("P0102", path, "set at most one of `uri`, `prefixRewrite`");
    }
    let ports = &["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"];
    checker.word(&format!("{path}.derivePort"), redirect.derive_port.as_ref(), ports);
    if let Some(scheme) = &redirect.scheme
        && !matches!(scheme.as_str(), "" | "http" | "https")
    {
        checker.error("P0116", &format!("{path}.scheme"), format!("`{scheme}` is not a scheme for a redirect"));
        checker.label("`http` or `https`");
    }
}

/// Istio's admission takes all of 3xx, and its Envoy refuses routes with another than these five.
fn check_redirect_code(checker: &mut VsChecker<'_>, path: &str, code: u32) {
    match code {
        301 | 302 | 303 | 307 | 308 => {}
        300..=399 => {
            checker.warn("P0111", path, format!("{code} is no status to redirect with: 301 is sent"));
            checker.help("write 301, 302, 303, 307 or 308");
        }
        _ => {
            checker.error("P0111", path, format!("{code} is not a redirect's status"));
            checker.label("301, 302, 303, 307 or 308");
        }
    }
}

fn check_direct_response(checker: &mut VsChecker<'_>, path: &str, response: &HttpDirectResponse) {
    if !(200..600).contains(&response.status) {
        checker.error(
            "P0112",
            &format!("{path}.status"),
            format!("{} is not a status to answer with", response.status),
        );
        checker.label("200 to 599");
    }
    let Some(body) = &response.body else { return };
    let path = format!("{path}.body");
    let size = match (&body.string, &body.bytes) {
        (Some(text), None) => text.len(),
        (None, Some(text)) => match base64::engine::general_purpose::STANDARD.decode(text).ok() {
            Some(bytes) => bytes.len(),
            None => return checker.error("P0112", &format!("{path}.bytes"), "this is not base64"),
        },
        _ => return checker.error_at_key("P0102", &path, "set exactly one of `string`, `bytes`"),
    };
    if size > MAX_BODY {
        checker.error("P0112", &path, format!("a body of {size} bytes is too long"));
        checker.label("at most 1048576");
    } else if size > LARGE_BODY {
        checker.warn("P0112", &path, format!("a body of {size} bytes is long for a configuration"));
        checker.help("serve it from a backend");
    }
}

/// An empty text counts as absent, as in protobuf.
fn is_given(text: &Option<String>) -> bool {
    text.as_ref().is_some_and(|text| !text.is_empty())
}
