//! [`find`]: the tokens of a request, each with the rules that look for it there.

use portolan_filter_conditions::Head;
use portolan_sdk::prelude::*;

use crate::rule::Rule;

/// A token and where it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) token: String,
    pub(crate) place: Place,
    /// Those that look there.
    pub(crate) rules: Vec<usize>,
}

/// A place of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Header(String),
    Param(String),
    Cookie(String),
}

/// All tokens, those of headers first, then parameters and cookies, in the order of the rules.
pub(crate) fn find(rules: &[Rule], request: &Request<'_>) -> Result<Vec<Found>, HostError> {
    let mut found = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        for source in &rule.headers {
            let value = request.header(&source.name)?.and_then(|value| without_prefix(value, &source.prefix));
            note(&mut found, value, || Place::Header(source.name.clone()), at);
        }
    }
    for (at, rule) in rules.iter().enumerate() {
        for name in &rule.params {
            note(&mut found, Head::query(request, name)?, || Place::Param(name.clone()), at);
        }
        for name in &rule.cookies {
            note(&mut found, request.cookie(name)?, || Place::Cookie(name.clone()), at);
        }
    }
    Ok(found)
}

/// The case of a scheme such as `Bearer` does not matter (RFC 9110, 11.1).
fn without_prefix<'a>(value: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then(|| rest.trim_ascii())
}

/// What is no text is no token, and refused as one.
fn note(found: &mut Vec<Found>, value: Option<&[u8]>, place: impl FnOnce() -> Place, rule: usize) {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return };
    let place = place();
    match found.iter_mut().find(|known| known.place == place && known.token.as_bytes() == value) {
        Some(known) => known.rules.push(rule),
        None => {
            let token = String::from_utf8_lossy(value).into_owned();
            found.push(Found { token, place, rules: vec![rule] });
        }
    }
}
