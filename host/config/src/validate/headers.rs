//! Checks of header operations.

use super::checker::Checker;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{HeaderOperations, Headers};

/// Those that a match may ask for.
const PSEUDO_HEADERS: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];

/// Operations on request and response.
pub(super) fn check(checker: &mut Checker<'_, VirtualService>, path: &str, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    for (side, operations) in [("request", &headers.request), ("response", &headers.response)] {
        if let Some(operations) = operations {
            check_operations(checker, &format!("{path}.{side}"), operations, side == "request");
        }
    }
}

/// How often the authority is set.
pub(super) fn authorities(headers: Option<&Headers>) -> usize {
    let request = headers.and_then(|h| h.request.as_ref());
    request.map_or(0, |r| r.set.keys().chain(r.add.keys()).filter(|name| is_authority(name)).count())
}

fn check_operations(
    checker: &mut Checker<'_, VirtualService>,
    path: &str,
    operations: &HeaderOperations,
    of_request: bool,
) {
    for (field, pairs) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in pairs {
            let path = format!("{path}.{field}.{name}");
            if is_authority(name) && !of_request {
                checker.error_at_key("P0118", &path, format!("a response has no `{name}`"));
            } else {
                check_name(checker, &path, name);
            }
            if value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
                checker.error("P0118", &path, "a header's value has no line breaks or control characters");
            }
            // Istio counts them, and leaves what is between them to Envoy.
            if value.bytes().filter(|b| *b == b'%').count() % 2 != 0 {
                checker.error("P0118", &path, "a single `%` in a header's value: `%` begins and ends an operator");
                checker.help("write `%%` for a percent sign");
            }
        }
    }
    for (i, name) in operations.remove.iter().enumerate() {
        let path = format!("{path}.remove[{i}]");
        if is_authority(name) || name.starts_with(':') {
            checker.error("P0118", &path, format!("`{name}` cannot be removed"));
        } else {
            check_name(checker, &path, name);
        }
    }
}

/// Names of headers that a match asks for: pseudo headers and claims of a token too.
pub(super) fn check_matched(checker: &mut Checker<'_, VirtualService>, path: &str, name: &str) {
    let is_known = match name.starts_with(':') {
        true => PSEUDO_HEADERS.contains(&name),
        false => is_claim(name) || is_token(name),
    };
    if !name.is_empty() && !is_known {
        checker.error_at_key("P0118", path, format!("`{name}` is not a header's name"));
    }
}

/// A claim of a token, in any case as Istio has it.
pub(super) fn is_claim(name: &str) -> bool {
    name.to_ascii_lowercase().starts_with("@request.auth.claims")
}

fn is_name(name: &str) -> bool {
    is_token(name.strip_prefix(':').unwrap_or(name))
}

/// A name as HTTP has it.
pub(super) fn is_token(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

fn check_name(checker: &mut Checker<'_, VirtualService>, path: &str, name: &str) {
    if !is_name(name) {
        checker.error_at_key("P0118", path, format!("`{name}` is not a header's name"));
    } else if name.starts_with(':') && !is_authority(name) {
        checker.error_at_key("P0118", path, format!("`{name}` cannot be changed by header operations"));
        checker.help("use `rewrite`");
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}
