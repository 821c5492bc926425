//! [`find`]: the tokens of a request, each with the rules that look for it there.

use std::borrow::Cow;

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
            let value = lines(request, &source.name)?;
            let token = value.as_deref().and_then(|value| after_prefix(value, &source.prefix));
            note(&mut found, token, || Place::Header(source.name.clone()), at);
        }
    }
    for (at, rule) in rules.iter().enumerate() {
        for name in &rule.params {
            let value = Head::query(request, name)?.map(decoded);
            note(&mut found, value.as_deref(), || Place::Param(name.clone()), at);
        }
        for name in &rule.cookies {
            note(&mut found, Head::cookie(request, name)?, || Place::Cookie(name.clone()), at);
        }
    }
    Ok(found)
}

/// The value of a header, of several lines joined by commas: who sends two tokens gets in with neither.
fn lines<'a>(request: &Request<'a>, name: &str) -> Result<Option<Cow<'a, [u8]>>, HostError> {
    let Some(first) = request.header(name)? else { return Ok(None) };
    let all: Vec<_> =
        request.headers()?.filter(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value).collect();
    Ok(Some(if all.len() < 2 { Cow::Borrowed(first) } else { Cow::Owned(all.join(&b',')) }))
}

/// What comes after a prefix, wherever that one is, as in Envoy.
fn after_prefix<'a>(value: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let at = (0..=value.len().checked_sub(prefix.len())?).find(|at| value[*at..].starts_with(prefix.as_bytes()))?;
    Some(value[at + prefix.len()..].trim_ascii())
}

/// A parameter without its percent-encoding.
fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'%') {
        return Cow::Borrowed(value);
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = || Some((digit(after.first()?)? << 4 | digit(after.get(1)?)?, &after[2..]));
        let (byte, after) = if *byte == b'%' { escaped().unwrap_or((b'%', after)) } else { (*byte, after) };
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

/// What is no text is no token, and refused as one; so is nothing at a place that is for a token.
fn note(found: &mut Vec<Found>, value: Option<&[u8]>, place: impl FnOnce() -> Place, rule: usize) {
    let Some(value) = value else { return };
    let place = place();
    match found.iter_mut().find(|known| known.place == place && known.token.as_bytes() == value) {
        Some(known) => known.rules.push(rule),
        None => {
            let token = String::from_utf8_lossy(value).into_owned();
            found.push(Found { token, place, rules: vec![rule] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_behind_its_prefix_in_these_letters() {
        let after = |value: &'static str, prefix| {
            after_prefix(value.as_bytes(), prefix).map(|token| String::from_utf8_lossy(token).into_owned())
        };
        assert_eq!(after("Bearer a.b.c", "Bearer ").as_deref(), Some("a.b.c"));
        assert_eq!(after("x Bearer  a ", "Bearer ").as_deref(), Some("a"));
        assert_eq!(after("a.b.c", "").as_deref(), Some("a.b.c"));
        assert_eq!((after("bearer a", "Bearer "), after("Bearer", "Bearer "), after("", "T")), (None, None, None));
    }

    #[test]
    fn a_parameter_is_decoded_where_it_is_encoded() {
        let cases: [(&[u8], &[u8]); 4] = [(b"a.b", b"a.b"), (b"a%2Eb%2e", b"a.b."), (b"%2", b"%2"), (b"%zz%", b"%zz%")];
        for (value, plain) in cases {
            assert_eq!(&*decoded(value), plain);
        }
    }
}
