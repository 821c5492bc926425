//! Rules that can never match, since an earlier rule of the same VirtualService takes all of their requests, or since they ask
//! for what no request has.

use std::collections::HashMap;

use portolan_model::{RouteMatch, StringMatch};

use super::conditions;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{
    HttpMatch, HttpMatchFields, L4Match, StringMatch as StringMatchText, TlsRoute,
};

/// The path condition of a match, in a form that can be looked up. The flag is `ignoreUriCase`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Uri {
    Any,
    Exact(String, bool),
    Prefix(String, bool),
    Regex(String),
}

/// A match: its path, and all its other conditions as text (empty when there are none).
struct Condition {
    uri: Uri,
    others: String,
}

/// Earlier matches by what they ask, with the path of their rule.
#[derive(Default)]
struct Earlier {
    taken: HashMap<(String, Uri), (usize, String)>,
}

/// Findings for one VirtualService.
pub(super) fn diagnose(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let mut found = http(object);
    found.extend((0..object.spec.http.len()).flat_map(|rule| impossible(object, rule)));
    let conditions = |matches: &[L4Match]| matches.iter().map(|m| format!("{m:?}")).collect();
    found.extend(connections(object, "tcp", object.spec.tcp.iter().map(|rule| conditions(&rule.matches))));
    let of_tls = |rule: &TlsRoute| rule.matches.iter().map(|m| format!("{m:?}")).collect();
    found.extend(connections(object, "tls", object.spec.tls.iter().map(of_tls)));
    found
}

fn http(object: &Object<VirtualService>) -> Vec<Diagnostic> {
    let mut earlier = Earlier::default();
    let mut found = Vec::new();
    for (i, rule) in object.spec.http.iter().enumerate() {
        if rule.delegate.is_some() {
            continue;
        }
        let mut conditions: Vec<Condition> = rule.matches.iter().map(Condition::of).collect();
        if conditions.is_empty() {
            conditions.push(Condition { uri: Uri::Any, others: String::new() });
        }
        let hiding: Option<Vec<&(usize, String)>> = conditions.iter().map(|c| earlier.taking(c)).collect();
        let hidden = hiding.as_ref().and_then(|all| all.first()).map(|first| unreachable(object, i, first));
        for (j, condition) in conditions.into_iter().enumerate() {
            if let Some(first) = earlier.taking(&condition).filter(|_| hidden.is_none()) {
                found.push(ineffective(object, &format!("spec.http[{i}].match[{j}]"), first));
            }
            earlier.add(i, condition);
        }
        found.extend(hidden);
    }
    found
}

/// Matches that no request fulfils: an absent header is an empty one to `withoutHeaders`, and each value is one of `.*`.
fn impossible(object: &Object<VirtualService>, rule: usize) -> Vec<Diagnostic> {
    let matches = &object.spec.http[rule].matches;
    let takes_all = |value: &StringMatchText| value.regex.as_deref() == Some(".*");
    let name =
        |condition: &HttpMatch| Some(condition.without_headers.iter().find(|(_, value)| takes_all(value))?.0.clone());
    let names: Vec<Option<String>> = matches.iter().map(name).collect();
    let (code, text) = match names.iter().all(Option::is_some) {
        true => ("P0310", "this rule can never match"),
        false => ("P0326", "this match has no effect"),
    };
    let found = |(j, name): (usize, &Option<String>)| {
        let name = name.as_ref()?;
        let place = object.place(&format!("spec.http[{rule}].match[{j}].withoutHeaders.{name}.regex"));
        let finding = Diagnostic::warning(code, place, text);
        let finding = finding.with_label(format!("without `{name}` it counts as empty, which `.*` takes as well"));
        Some(finding.with_help(format!("write `{name}: {{}}` for requests without it")))
    };
    names.iter().enumerate().filter_map(found).collect()
}

/// One match of a rule that has others.
fn ineffective(object: &Object<VirtualService>, path: &str, (earlier, uri): &(usize, String)) -> Diagnostic {
    let by = object.origin(&format!("spec.http[{earlier}]")).place();
    let label = format!("every such request is taken earlier by {by} ({uri})");
    Diagnostic::warning("P0326", object.key_place(path), "this match has no effect").with_label(label)
}

/// Rules of connections, each with its matches as text; none takes every connection.
fn connections(
    object: &Object<VirtualService>,
    field: &str,
    rules: impl Iterator<Item = Vec<String>>,
) -> Vec<Diagnostic> {
    let mut earlier: HashMap<String, usize> = HashMap::new();
    let mut all = None;
    let mut found = Vec::new();
    for (i, matches) in rules.enumerate() {
        let taken = |text: &String| all.or_else(|| earlier.get(text).copied());
        let first = match matches.is_empty() {
            true => all,
            false => matches.iter().map(taken).collect::<Option<Vec<_>>>().and_then(|by| by.first().copied()),
        };
        if let Some(first) = first {
            let by = object.origin(&format!("spec.{field}[{first}]")).place();
            let place = object.key_place(&format!("spec.{field}[{i}]"));
            let label = format!("every such connection is taken earlier by {by}");
            found.push(Diagnostic::warning("P0310", place, "this rule can never match").with_label(label));
        }
        all = all.or(matches.is_empty().then_some(i));
        for text in matches {
            earlier.entry(text).or_insert(i);
        }
    }
    found
}

fn unreachable(object: &Object<VirtualService>, rule: usize, (earlier, uri): &(usize, String)) -> Diagnostic {
    let path = format!("spec.http[{rule}]");
    let with_match = !object.spec.http[rule].matches.is_empty();
    let place = object.key_place(&if with_match { format!("{path}.match") } else { path });
    let by = object.origin(&format!("spec.http[{earlier}]")).place();
    let label = format!("every such request is taken earlier by {by} ({uri})");
    Diagnostic::warning("P0310", place, "this rule can never match").with_label(label)
}

impl Condition {
    fn of(written: &HttpMatch) -> Self {
        let RouteMatch { uri, ignore_uri_case, .. } = conditions::translate(written);
        let fold = |text: String| if ignore_uri_case { text.to_ascii_lowercase() } else { text };
        let uri = match uri {
            None | Some(StringMatch::Present) => Uri::Any,
            Some(StringMatch::Prefix(prefix)) if prefix == "/" || prefix.is_empty() => Uri::Any,
            Some(StringMatch::Regex(regex)) if regex == ".*" => Uri::Any,
            Some(StringMatch::Exact(path)) => Uri::Exact(fold(path), ignore_uri_case),
            Some(StringMatch::Prefix(prefix)) => Uri::Prefix(fold(prefix), ignore_uri_case),
            Some(StringMatch::Regex(regex)) => Uri::Regex(regex),
        };
        let bare = HttpMatchFields { name: None, stat_prefix: None, ..HttpMatchFields::clone(written) };
        let others = if bare == HttpMatchFields::default() { String::new() } else { format!("{bare:?}") };
        Self { uri, others }
    }
}

impl Uri {
    /// How the path is asked for, in words.
    fn text(&self) -> String {
        match self {
            Self::Any => "any path".into(),
            Self::Exact(path, _) => format!("exact {path}"),
            Self::Prefix(prefix, _) => format!("prefix {prefix}"),
            Self::Regex(regex) => format!("regex {regex}"),
        }
    }

    /// Every path condition that takes all that this one takes, widest first.
    fn wider(&self) -> Vec<Self> {
        let mut wider = vec![Self::Any];
        let (text, ignores) = match self {
            Self::Any => return wider,
            Self::Regex(_) => {
                wider.push(self.clone());
                return wider;
            }
            Self::Exact(text, ignores) | Self::Prefix(text, ignores) => (text, *ignores),
        };
        let folded = text.to_ascii_lowercase();
        for end in text.char_indices().map(|(i, c)| i + c.len_utf8()) {
            wider.push(Self::Prefix(folded[..end].to_owned(), true));
            if !ignores {
                wider.push(Self::Prefix(text[..end].to_owned(), false));
            }
        }
        if matches!(self, Self::Exact(..)) {
            wider.push(Self::Exact(folded, true));
            wider.push(self.clone());
        }
        wider
    }
}

impl Earlier {
    fn add(&mut self, rule: usize, condition: Condition) {
        let text = condition.uri.text();
        self.taken.entry((condition.others, condition.uri)).or_insert((rule, text));
    }

    /// The earlier match that takes all requests of this one: a wider path and no condition that this one lacks.
    fn taking(&self, condition: &Condition) -> Option<&(usize, String)> {
        let wider = condition.uri.wider();
        let find = |others: &str| wider.iter().find_map(|uri| self.taken.get(&(others.to_owned(), uri.clone())));
        find("").or_else(|| find(&condition.others))
    }
}
