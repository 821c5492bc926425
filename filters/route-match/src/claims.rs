//! Claims of a token, which a match asks for as if they were headers: `@request.auth.claims.NAME` or
//! `@request.auth.claims[NAME][NAME]`.

use serde_json::{Map, Value};

/// How such names begin.
const START: &str = "@request.auth.claims";

/// Where the filter `jwt-auth` leaves the claims of a token that it has found good, as JSON.
pub(crate) const PAYLOAD_PROPERTY: &str = "jwt_auth.payload";

/// Claims whose text is a list of words, as Istio has Envoy take them.
const WORDS: [&str; 2] = ["scope", "permission"];

/// True for the name of a claim.
pub(crate) fn is_claim(name: &str) -> bool {
    name.starts_with(START)
}

/// True when `holds` says so for the claim's text, or for one of the texts in its list, which are tried in order.
pub(crate) fn any_value(claims: &Map<String, Value>, name: &str, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let path = path(name);
    let Some((first, rest)) = path.split_first() else { return false };
    let value = rest.iter().try_fold(claims.get(*first), |value, name| Some(value?.as_object()?.get(*name)));
    match value.flatten() {
        Some(Value::String(text)) if rest.is_empty() && WORDS.contains(first) => {
            text.split(' ').any(|word| holds(word.as_bytes()))
        }
        Some(Value::String(text)) => holds(text.as_bytes()),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).any(|text| holds(text.as_bytes())),
        _ => false,
    }
}

/// Names within brackets may have dots.
fn path(name: &str) -> Vec<&str> {
    let rest = name.strip_prefix(START).unwrap_or_default();
    match rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.split("][").collect(),
        None => rest.strip_prefix('.').map(|rest| rest.split('.').collect()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_claim_is_found_by_its_path_and_a_list_by_its_members() {
        let json =
            r#"{"sub": "ada", "groups": ["dev", 7, "ops"], "scope": "read write", "a": {"b": {"c.d": "x"}}, "n": 1}"#;
        let claims: Map<String, Value> = serde_json::from_str(json).unwrap();
        let values = |name: &str| {
            let mut values = Vec::new();
            any_value(&claims, &format!("@request.auth.claims{name}"), &mut |value| {
                values.push(String::from_utf8_lossy(value).into_owned());
                false
            });
            values.join(" ")
        };
        assert_eq!((values(".sub").as_str(), values("[sub]").as_str()), ("ada", "ada"));
        assert_eq!((values(".groups").as_str(), values(".scope").as_str()), ("dev ops", "read write"));
        assert_eq!((values("[a][b][c.d]").as_str(), values(".a.b.c.d").as_str()), ("x", ""));
        assert_eq!(["", ".", ".n", ".a", ".none", "[sub"].map(values), [""; 6]);
    }
}
