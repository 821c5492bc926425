//! Checks of a RequestAuthentication.

use super::checker::Checker;
use super::selector;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::RequestAuthentication;
use crate::resources::istio::request_authentication::JwtRule;

/// Checks a RequestAuthentication by itself.
pub fn request_authentication(object: &Object<RequestAuthentication>) -> Vec<Diagnostic> {
    let mut checker = Checker::new(object);
    let spec = &object.spec;
    selector::check(&mut checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    for (i, rule) in spec.jwt_rules.iter().enumerate() {
        check_rule(&mut checker, &format!("spec.jwtRules[{i}]"), rule);
    }
    checker.finish()
}

fn check_rule(checker: &mut Checker<'_, RequestAuthentication>, path: &str, rule: &JwtRule) {
    if rule.issuer.is_empty() && rule.jwks_uri.as_ref().is_none_or(String::is_empty) {
        checker.missing(path, "issuer");
    }
    if let Some(uri) = rule.jwks_uri.as_ref().filter(|uri| !uri.is_empty() && !is_uri(uri)) {
        checker.error("P0252", &format!("{path}.jwksUri"), format!("`{uri}` is no address of keys"));
        checker.label("`https://HOST[:PORT]/PATH`");
    }
    if let Some(text) = rule.jwks.as_ref().filter(|text| !text.is_empty())
        && let Some(reason) = fault_of_keys(text)
    {
        checker.error("P0252", &format!("{path}.jwks"), format!("`jwks` is no set of keys: {reason}"));
    }
    let lists =
        [("audiences", &rule.audiences), ("fromParams", &rule.from_params), ("fromCookies", &rule.from_cookies)];
    for (field, values) in lists {
        for (i, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            checker.error("P0252", &format!("{path}.{field}[{i}]"), "an empty name finds nothing");
        }
    }
    for (i, header) in rule.from_headers.iter().enumerate() {
        header_name(checker, &format!("{path}.fromHeaders[{i}]"), "name", &header.name);
    }
    for (i, output) in rule.output_claim_to_headers.iter().enumerate() {
        let path = format!("{path}.outputClaimToHeaders[{i}]");
        header_name(checker, &path, "header", &output.header);
        // Istio knows fewer letters here than HTTP.
        if output.header.bytes().any(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(&byte)) {
            checker.error(
                "P0252",
                &format!("{path}.header"),
                format!("`{}` has more than letters, digits, `-` and `_`", output.header),
            );
        }
        if output.claim.is_empty() {
            checker.missing(&path, "claim");
        }
    }
    if let Some(name) = rule.output_payload_to_header.as_ref().filter(|name| !name.is_empty()) {
        header_name(checker, path, "outputPayloadToHeader", name);
    }
    checker.duration(&format!("{path}.timeout"), rule.timeout.as_ref(), false);
}

fn header_name(checker: &mut Checker<'_, RequestAuthentication>, path: &str, field: &str, name: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() {
        checker.missing(path, field);
    } else if !name.bytes().all(is_token) {
        checker.error("P0252", &format!("{path}.{field}"), format!("`{name}` is not a header name"));
    }
}

fn is_uri(uri: &str) -> bool {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        !authority.is_empty() && !authority.contains('@') && rest.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// What the filter would refuse; single keys that are of no use it only skips.
fn fault_of_keys(text: &str) -> Option<&'static str> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Err(_) => Some("it is not JSON"),
        Ok(set) => match set.get("keys").and_then(serde_json::Value::as_array) {
            None => Some("it has no list `keys`"),
            Some(keys) if keys.is_empty() => Some("`keys` is empty"),
            Some(_) => None,
        },
    }
}
