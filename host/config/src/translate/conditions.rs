//! Match conditions: from an HTTPMatchRequest to a [`RouteMatch`].

use std::collections::BTreeMap;

use portolan_model::{HeaderMatch, RouteMatch, StringMatch};

use crate::resources::istio::virtual_service::{HttpMatch, StringMatch as Written};

/// The conditions on the request itself; port, gateways and source are the caller's to decide.
pub(super) fn translate(written: &HttpMatch) -> RouteMatch {
    RouteMatch {
        uri: written.uri.as_ref().and_then(plain),
        ignore_uri_case: written.ignore_uri_case,
        scheme: written.scheme.as_deref().and_then(plain).map(Box::new),
        method: written.method.as_deref().and_then(plain).map(Box::new),
        authority: written.authority.as_deref().and_then(plain).map(Box::new),
        headers: named(&written.headers, header_name).into(),
        without_headers: named(&written.without_headers, header_name).into(),
        query_params: named(&written.query_params, str::to_owned).into(),
    }
}

/// How a name begins that stands for a claim of a token.
const CLAIMS: &str = "@request.auth.claims";

/// True when the match asks for claims of a token.
pub(super) fn asks_for_claims(written: &HttpMatch) -> bool {
    written.headers.keys().chain(written.without_headers.keys()).any(|name| claim(name).is_some())
}

/// What follows `@request.auth.claims`, whose case does not matter; that of a claim does.
fn claim(name: &str) -> Option<&str> {
    let (start, rest) = name.split_at_checked(CLAIMS.len())?;
    start.eq_ignore_ascii_case(CLAIMS).then_some(rest)
}

fn header_name(name: &str) -> String {
    claim(name).map_or_else(|| name.to_ascii_lowercase(), |rest| format!("{CLAIMS}{rest}"))
}

fn named(written: &BTreeMap<String, Written>, name: impl Fn(&str) -> String) -> Vec<HeaderMatch> {
    written.iter().map(|(key, value)| HeaderMatch { name: name(key), value: or_present(value) }).collect()
}

fn or_present(written: &Written) -> StringMatch {
    if written.regex.as_deref() == Some("*") {
        return StringMatch::Present;
    }
    plain(written).unwrap_or(StringMatch::Present)
}

fn plain(written: &Written) -> Option<StringMatch> {
    let exact = written.exact.clone().map(StringMatch::Exact);
    let prefix = || written.prefix.clone().map(StringMatch::Prefix);
    exact.or_else(prefix).or_else(|| written.regex.clone().map(StringMatch::Regex))
}
