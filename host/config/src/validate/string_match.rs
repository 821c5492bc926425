//! Checks of string matches and regular expressions.

use std::collections::BTreeMap;

use portolan_model::from_re2;
use regex::Regex;

use super::checker::Checker;
use crate::resources::istio::virtual_service::StringMatch;

/// Istio's limit on a regular expression.
const MAX_REGEX: usize = 1024;

/// One string match. `present` tells whether `{}` and regex `*` are allowed: they ask for presence.
pub(super) fn check<T>(checker: &mut Checker<'_, T>, path: &str, value: Option<&StringMatch>, present: bool) {
    let Some(value) = value else { return };
    match (&value.exact, &value.prefix, &value.regex) {
        (None, None, None) if !present => {
            checker.warn_at_key("P0102", path, "this condition asks for nothing, and every request fulfils it");
            checker.help("set one of `exact`, `prefix`, `regex`");
        }
        (None, None, None) | (Some(_), None, None) => {}
        (None, Some(prefix), None) if prefix.is_empty() => {
            checker.error("P0107", &format!("{path}.prefix"), "an empty prefix matches nothing on purpose");
            checker.help("leave the condition out to match everything");
        }
        (None, Some(_), None) => {}
        (None, None, Some(regex)) if present && regex == "*" => {}
        (None, None, Some(regex)) => self::regex(checker, &format!("{path}.regex"), regex),
        _ => checker.error_at_key("P0102", path, "set exactly one of `exact`, `prefix`, `regex`"),
    }
}

/// The condition on the path. Envoy takes an empty prefix there; it is told when rules are looked at together.
pub(super) fn check_uri<T>(checker: &mut Checker<'_, T>, path: &str, value: Option<&StringMatch>) {
    let is_empty_prefix =
        |value: &&StringMatch| value.prefix.as_deref() == Some("") && value.exact.is_none() && value.regex.is_none();
    if value.filter(is_empty_prefix).is_none() {
        check(checker, path, value, false);
    }
}

/// String matches by name.
pub(super) fn map<T>(checker: &mut Checker<'_, T>, path: &str, values: &BTreeMap<String, StringMatch>) {
    for (name, value) in values {
        let path = format!("{path}.{name}");
        if name.is_empty() {
            checker.error_at_key("P0118", &path, "a name is not empty");
        }
        check(checker, &path, Some(value), true);
    }
}

/// A regular expression in RE2's syntax.
pub(super) fn regex<T>(checker: &mut Checker<'_, T>, path: &str, text: &str) {
    if text.is_empty() {
        checker.error("P0107", path, "an empty regular expression matches nothing on purpose");
    } else if text.len() > MAX_REGEX {
        checker.error("P0106", path, format!("a regular expression of {} characters is too long", text.len()));
        checker.label(format!("at most {MAX_REGEX}"));
    } else if let Err(error) = Regex::new(&format!("^(?:{})$", from_re2(text))) {
        checker.error("P0106", path, "this regular expression cannot be read");
        checker.label(reason(&error));
    }
}

/// The last line of the parser's message, which says what is wrong; the lines before it draw the expression.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim().trim_start_matches("error: ").to_owned()
}
