//! What the filter accepts.

use std::collections::BTreeMap;

use portolan_filter_conditions::{HeaderName, Pattern, RequestMatch, StringMatch};
use portolan_sdk::schema::Node;
use portolan_sdk::{ConfigError, ConfigSchema};
use serde::{Deserialize, Deserializer, de};

use crate::edit::{Edits, Replacement, is_fixed};
use crate::template::{Source, Template};

/// Most rules for requests, and most for responses.
const MAX_RULES: usize = 64;
/// Most steps of one rule.
const MAX_STEPS: usize = 256;

/// `pluginConfig`.
#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Rules for requests; each that holds is done, in this order.
    #[schema(max_items = 64)]
    request: Vec<Rule>,
    /// Rules for responses, local replies included.
    #[schema(max_items = 64)]
    response: Vec<Rule>,
    /// Choose the route again when a rule has edited a request.
    clear_route_cache: bool,
}

/// When and what.
#[derive(Debug, Default, Deserialize, ConfigSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// Of the request, as it came; every request when absent.
    #[serde(rename = "match")]
    condition: RequestMatch,
    /// Of the response: `404`, `5xx`, `400-499`; one must hold. Every status when empty.
    status: Vec<StatusRange>,
    /// Headers that go.
    remove: Vec<HeaderName>,
    /// Conditions on names of headers that go.
    remove_matching: Vec<StringMatch>,
    /// Old name to new name.
    rename: BTreeMap<HeaderName, HeaderName>,
    /// Parts of values, by regular expression.
    replace: Vec<Replace>,
    /// Header to its one value.
    set: BTreeMap<HeaderName, Template>,
    /// Header to one more value.
    add: BTreeMap<HeaderName, Template>,
}

#[derive(Debug, Deserialize, ConfigSchema)]
#[serde(deny_unknown_fields)]
struct Replace {
    /// Whose values.
    header: HeaderName,
    /// The part.
    regex: Pattern,
    /// What comes in its place, with `$1` and `${name}` for groups.
    with: String,
}

/// First and last status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StatusRange(u16, u16);

/// What the filter runs with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) request: Vec<RequestRule>,
    pub(crate) response: Vec<ResponseRule>,
    pub(crate) clear_route_cache: bool,
    /// What values of responses' rules take from the request's head; each once.
    pub(crate) remembered: Vec<Source>,
}

#[derive(Debug)]
pub(crate) struct RequestRule {
    pub(crate) condition: RequestMatch,
    pub(crate) edits: Edits,
}

#[derive(Debug)]
pub(crate) struct ResponseRule {
    pub(crate) condition: RequestMatch,
    pub(crate) status: Vec<StatusRange>,
    pub(crate) edits: Edits,
}

impl Config {
    /// Checks what the types do not say.
    pub(crate) fn settings(self) -> Result<Settings, ConfigError> {
        let Self { request, response, clear_route_cache } = self;
        if request.is_empty() && response.is_empty() {
            return Err(ConfigError::new("neither `request` nor `response` holds a rule"));
        }
        let request = rules("request", request, |rule| rule.for_request())?;
        let response = rules("response", response, |rule| rule.for_response())?;
        Ok(Settings { request, remembered: remembered(&response), response, clear_route_cache })
    }
}

fn remembered(rules: &[ResponseRule]) -> Vec<Source> {
    let templates = rules.iter().flat_map(|rule| rule.edits.set.iter().chain(&rule.edits.add));
    let mut known = Vec::new();
    for source in templates.flat_map(|(_, template)| template.sources()) {
        let is_of_head = matches!(source, Source::Request(_) | Source::Query(_) | Source::Cookie(_));
        if is_of_head && !known.contains(source) {
            known.push(source.clone());
        }
    }
    known
}

/// Each rule checked, with its place before what is wrong.
fn rules<R>(list: &str, rules: Vec<Rule>, check: impl Fn(Rule) -> Result<R, String>) -> Result<Vec<R>, ConfigError> {
    if rules.len() > MAX_RULES {
        return Err(ConfigError::new(format!("{list}: {} rules are too many: at most {MAX_RULES}", rules.len())));
    }
    let check = |(i, rule)| check(rule).map_err(|reason| ConfigError::new(format!("{list}[{i}]{reason}")));
    rules.into_iter().enumerate().map(check).collect()
}

impl Rule {
    fn for_request(self) -> Result<RequestRule, String> {
        if !self.status.is_empty() {
            return Err(".status: a request has no status yet".to_owned());
        }
        let late = |(name, template): &(&HeaderName, &Template)| template.needs_response().then(|| name.to_string());
        if let Some(name) =
            self.set.iter().find_map(|entry| late(&entry)).or(self.add.iter().find_map(|entry| late(&entry)))
        {
            return Err(format!(": the value of `{name}` asks for the response, which is not there yet"));
        }
        let (condition, _, edits) = self.edits(|name| [":path", ":authority", ":method"].contains(&name))?;
        Ok(RequestRule { condition, edits })
    }

    fn for_response(self) -> Result<ResponseRule, String> {
        let (condition, status, edits) = self.edits(|_| false)?;
        Ok(ResponseRule { condition, status, edits })
    }

    /// `may_set` says which pseudo headers may get another value.
    fn edits(self, may_set: impl Fn(&str) -> bool) -> Result<(RequestMatch, Vec<StatusRange>, Edits), String> {
        let Self { condition, status, remove, remove_matching, rename, replace, set, add } = self;
        let steps = remove.len() + remove_matching.len() + rename.len() + replace.len() + set.len() + add.len();
        if steps == 0 {
            return Err(": the rule does nothing".to_owned());
        }
        if steps > MAX_STEPS {
            return Err(format!(": {steps} steps are too many: at most {MAX_STEPS}"));
        }
        let valued = set.keys().chain(replace.iter().map(|step| &step.header));
        let bare = remove.iter().chain(rename.keys()).chain(rename.values()).chain(add.keys());
        let fixed = bare.filter(|name| is_fixed(name.as_str().as_bytes()));
        let fixed = fixed.chain(valued.filter(|name| is_fixed(name.as_str().as_bytes()) && !may_set(name.as_str())));
        if let Some(name) = fixed.map(HeaderName::as_str).next() {
            return Err(format!(": `{name}` says where the message ends or goes, and cannot be edited so"));
        }
        if let Some(step) = replace.iter().find(|step| step.with.bytes().any(|byte| byte.is_ascii_control())) {
            return Err(format!(": what replaces a part of `{}` holds a control character", step.header));
        }
        let replace =
            replace.into_iter().map(|Replace { header, regex, with }| Replacement { header, pattern: regex, with });
        let edits = Edits {
            remove,
            remove_matching,
            rename: rename.into_iter().collect(),
            replace: replace.collect(),
            set: set.into_iter().collect(),
            add: add.into_iter().collect(),
        };
        Ok((condition, status, edits))
    }
}

impl StatusRange {
    pub(crate) fn holds(self, status: u16) -> bool {
        (self.0..=self.1).contains(&status)
    }

    fn read(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|status| (100..=599).contains(status));
        if let Some(class) = text.strip_suffix("xx") {
            let first = number(&format!("{class}00"))?;
            return Some(Self(first, first + 99));
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Some(Self(number(low)?, number(high)?)).filter(|range| range.0 <= range.1)
    }
}

/// As it is written.
#[derive(Deserialize, ConfigSchema)]
#[serde(untagged)]
enum Written {
    Number(u16),
    Text(String),
}

impl ConfigSchema for StatusRange {
    const SCHEMA: Node = <Written as ConfigSchema>::SCHEMA;
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        Self::read(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is no status: `404`, `5xx` or `400-499`")))
    }
}

#[cfg(test)]
mod tests {
    use super::StatusRange;

    #[test]
    fn statuses_are_numbers_classes_and_ranges() {
        assert_eq!(StatusRange::read("404"), Some(StatusRange(404, 404)));
        assert_eq!(StatusRange::read("5xx"), Some(StatusRange(500, 599)));
        assert_eq!(StatusRange::read("400-404"), Some(StatusRange(400, 404)));
        for text in ["", "99", "600", "6xx", "xx", "404-400", "abc", "40x"] {
            assert_eq!(StatusRange::read(text), None, "{text}");
        }
    }
}
