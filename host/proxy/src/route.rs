//! [`RouteEntry`]: a route of the model with its header operations, rewrite and retry policy ready to apply.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use portolan_model::filter::SplitRef;
use portolan_model::{
    Cluster, HeaderOperations, Model, Rare, Redirect, RetryPolicy, Rewrite, Route, RouteAction, RouteId, StringMatch,
    from_re2,
};
use portolan_telemetry::{Format, StreamInfo};
use regex::Regex;

use crate::handover;
use crate::hash_input::HashInput;
use crate::header_words::written;
use crate::mirror::MirrorEntry;

/// A route that is made ready when a request first takes it: of many routes most are seldom asked for.
#[derive(Clone)]
pub(crate) struct LazyRoute {
    /// One for all snapshots in which the route is the same.
    entry: Arc<OnceLock<Box<RouteEntry>>>,
    /// What is known of the request must be there when the response comes.
    pub(crate) has_response_formats: bool,
}

impl LazyRoute {
    /// Patterns are compiled at once: that takes too long for a request.
    pub(crate) fn new(route: &Route, clusters: &[Cluster]) -> Self {
        let (entry, mut has_response_formats) = (OnceLock::new(), false);
        if let RouteAction::Forward(forward) = &route.action {
            let has_pattern = forward.rewrite.as_ref().is_some_and(|rewrite| rewrite.uri_regex.is_some());
            let operations = forward.destinations.iter().map(|d| &*d.headers).chain([&*forward.headers]);
            let mut values = operations.flat_map(|o| o.response_set.iter().chain(&o.response_add));
            if has_pattern || values.any(|(_, value)| value.contains('%')) {
                let compiled = RouteEntry::compile(route, clusters);
                has_response_formats = compiled.has_response_formats();
                entry.get_or_init(|| Box::new(compiled));
            }
        }
        Self { entry: Arc::new(entry), has_response_formats }
    }

    /// The route, made ready with the model that it is of.
    pub(crate) fn get(&self, model: &Model, id: RouteId) -> Option<&RouteEntry> {
        if let Some(entry) = self.entry.get() {
            return Some(entry);
        }
        let route = model.routes.get(id as usize)?;
        Some(self.entry.get_or_init(|| Box::new(RouteEntry::compile(route, &model.clusters))))
    }

    #[cfg(test)]
    fn is_ready(&self) -> bool {
        self.entry.get().is_some()
    }
}

/// A route as the router uses it.
pub(crate) struct RouteEntry {
    pub(crate) name: Arc<str>,
    pub(crate) action: Action,
    /// The matched prefix, for rewriting; none when the whole path is replaced.
    pub(crate) prefix: Option<String>,
    pub(crate) ignore_case: bool,
    /// What `traffic-split` goes by; none for a route that does not forward.
    pub(crate) split: Option<SplitRef>,
}

pub(crate) enum Action {
    Forward(ForwardEntry),
    Redirect(Redirect, Operations),
    Direct(StatusCode, Bytes, Operations),
}

pub(crate) struct ForwardEntry {
    pub(crate) rewrite: Option<RewriteEntry>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Rare<RetryPolicy>,
    pub(crate) headers: Operations,
    /// What a consistent choice goes by: the hash policies of all destinations, as Istio puts them on the route.
    pub(crate) hash: Vec<HashInput>,
    /// By destination.
    pub(crate) destinations: Vec<DestinationEntry>,
    pub(crate) mirrors: Vec<MirrorEntry>,
}

pub(crate) struct DestinationEntry {
    pub(crate) cluster_name: Arc<str>,
    pub(crate) headers: Operations,
}

pub(crate) struct RewriteEntry {
    pub(crate) uri: Option<String>,
    pub(crate) regex: Option<(Regex, String)>,
    pub(crate) authority: Option<HeaderValue>,
}

/// Changes to a header map: remove, then set, then add.
#[derive(Default)]
pub(crate) struct HeaderChanges {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, Value)>,
    add: Vec<(HeaderName, Value)>,
    has_formats: bool,
}

/// A header's value.
enum Value {
    Plain(HeaderValue),
    /// Made of what is known of the request.
    Format(Box<Format>),
}

/// Changes to request and response headers of one scope.
#[derive(Default)]
pub(crate) struct Operations {
    pub(crate) request: HeaderChanges,
    pub(crate) response: HeaderChanges,
}

impl RouteEntry {
    pub(crate) fn compile(route: &Route, clusters: &[Cluster]) -> Self {
        let action = match &route.action {
            RouteAction::Forward(forward) => Action::Forward(ForwardEntry {
                rewrite: forward.rewrite.as_deref().map(RewriteEntry::compile),
                timeout: forward.timeout_ms.map(Duration::from_millis),
                retry: forward.retry.clone(),
                headers: Operations::compile(&forward.headers),
                hash: HashInput::of(forward, clusters),
                destinations: forward
                    .destinations
                    .iter()
                    .map(|d| DestinationEntry {
                        cluster_name: d.cluster_name.clone(),
                        headers: Operations::compile(&d.headers),
                    })
                    .collect(),
                mirrors: forward
                    .mirrors
                    .iter()
                    .map(|mirror| MirrorEntry { cluster: mirror.cluster, share: mirror.share })
                    .collect(),
            }),
            RouteAction::Redirect(redirect) => {
                Action::Redirect((**redirect).clone(), Operations::compile(&redirect.headers))
            }
            RouteAction::DirectResponse(direct) => Action::Direct(
                StatusCode::from_u16(direct.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                direct.body.clone().into(),
                Operations::compile(&direct.headers),
            ),
        };
        let prefix = match &route.matches.uri {
            None => Some("/".to_owned()),
            Some(StringMatch::Prefix(prefix)) => Some(prefix.clone()),
            Some(_) => None,
        };
        Self {
            name: route.name.as_str().into(),
            action,
            prefix,
            ignore_case: route.matches.ignore_uri_case,
            split: handover::split(route),
        }
    }
}

impl RouteEntry {
    /// The route's changes to a response's headers; the destination's come first, as in Istio.
    pub(crate) fn change_response(
        &self,
        destination: Option<usize>,
        headers: &mut HeaderMap,
        known: impl Fn(&HeaderMap) -> StreamInfo,
    ) {
        match &self.action {
            Action::Forward(forward) => {
                if let Some(destination) = destination.and_then(|index| forward.destinations.get(index)) {
                    destination.headers.response.apply(headers, &known);
                }
                forward.headers.response.apply(headers, &known);
            }
            Action::Redirect(_, operations) | Action::Direct(_, _, operations) => {
                operations.response.apply(headers, &known);
            }
        }
    }

    /// True when what is known of the request must be there when the response comes.
    fn has_response_formats(&self) -> bool {
        match &self.action {
            Action::Forward(forward) => {
                let destinations = forward.destinations.iter().map(|destination| &destination.headers);
                destinations.chain([&forward.headers]).any(|operations| operations.response.has_formats)
            }
            // The request is still there.
            Action::Redirect(..) | Action::Direct(..) => false,
        }
    }
}

impl RewriteEntry {
    fn compile(rewrite: &Rewrite) -> Self {
        let regex = rewrite.uri_regex.as_ref().and_then(|(pattern, substitution)| {
            // Validation has refused bad patterns; what still fails here leaves the path as it is.
            Regex::new(&from_re2(pattern)).ok().map(|regex| (regex, dollar_groups(substitution)))
        });
        Self {
            uri: rewrite.uri.clone(),
            regex,
            authority: rewrite.authority.as_deref().and_then(|a| HeaderValue::from_str(a).ok()),
        }
    }
}

/// RE2's `\1` as the regex crate's `${1}`; `\\` is a backslash, `$` itself is doubled.
fn dollar_groups(substitution: &str) -> String {
    let mut out = String::with_capacity(substitution.len() + 8);
    let mut chars = substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => out.extend(["${", digit.encode_utf8(&mut [0; 4]), "}"]),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            other => out.push(other),
        }
    }
    out
}

impl Operations {
    fn compile(operations: &HeaderOperations) -> Self {
        Self {
            request: HeaderChanges::compile(
                &operations.request_remove,
                &operations.request_set,
                &operations.request_add,
            ),
            response: HeaderChanges::compile(
                &operations.response_remove,
                &operations.response_set,
                &operations.response_add,
            ),
        }
    }
}

impl HeaderChanges {
    /// Host and pseudo names cannot be removed; `:authority` means Host; names that HTTP forbids have been refused by
    /// validation and are left out.
    fn compile(remove: &[String], set: &[(String, String)], add: &[(String, String)]) -> Self {
        let name = |name: &str| match name {
            ":authority" => Some(http::header::HOST),
            name => HeaderName::from_bytes(name.as_bytes()).ok(),
        };
        let pairs = |list: &[(String, String)]| {
            list.iter().filter_map(|(n, v)| Some((name(n)?, Value::compile(v)?))).collect::<Vec<_>>()
        };
        let remove = remove.iter().filter(|n| !n.starts_with(':') && *n != "host");
        let (set, add) = (pairs(set), pairs(add));
        let has_formats = set.iter().chain(&add).any(|(_, value)| matches!(value, Value::Format(_)));
        Self { remove: remove.filter_map(|n| name(n)).collect(), set, add, has_formats }
    }

    /// True when nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// `known` is asked once, when values are formats: all see the headers as they are after removing.
    pub(crate) fn apply(&self, headers: &mut HeaderMap, known: impl FnOnce(&HeaderMap) -> StreamInfo) {
        for name in &self.remove {
            headers.remove(name);
        }
        let info = self.has_formats.then(|| known(headers));
        for (name, value) in &self.set {
            if let Some(value) = value.on(info.as_ref()) {
                headers.insert(name.clone(), value);
            }
        }
        for (name, value) in &self.add {
            if let Some(value) = value.on(info.as_ref()) {
                headers.append(name.clone(), value);
            }
        }
    }
}

impl Value {
    /// None for an empty value: Envoy does nothing then, nor does it replace what is there. A format that is none is a
    /// text, as `check` says.
    fn compile(text: &str) -> Option<Self> {
        let plain = text.replace("%%", "");
        let format = if plain.contains('%') { Format::compile(text).ok() } else { None };
        if let Some(format) = format {
            return Some(Self::Format(Box::new(format)));
        }
        HeaderValue::from_bytes(text.replace("%%", "%").as_bytes())
            .ok()
            .filter(|value| !value.is_empty())
            .map(Self::Plain)
    }

    fn on(&self, info: Option<&StreamInfo>) -> Option<HeaderValue> {
        match self {
            Self::Plain(value) => Some(value.clone()),
            Self::Format(format) => written(format, info?),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_route_is_made_ready_once_for_all_snapshots_and_at_once_when_it_has_patterns() {
        let route = |rewrite: Rewrite| {
            Arc::new(Route {
                name: "r".to_owned(),
                matches: portolan_model::RouteMatch::default(),
                action: RouteAction::Forward(Box::new(portolan_model::Forward {
                    rewrite: Some(Box::new(rewrite)),
                    ..portolan_model::Forward::default()
                })),
                origin: portolan_model::Origin::default(),
                delegated_from: None,
            })
        };
        let plain = route(Rewrite { uri: Some("/b".to_owned()), ..Rewrite::default() });
        let pattern = route(Rewrite { uri_regex: Some(("a".to_owned(), "b".to_owned())), ..Rewrite::default() });
        let model = Model { routes: vec![plain, pattern], ..Model::default() };
        let routes = handover::routes(&model, None);
        let later = routes.clone();
        assert_eq!(routes.iter().map(LazyRoute::is_ready).collect::<Vec<_>>(), [false, true]);
        let first = routes[0].get(&model, 0).unwrap();
        assert_eq!(&*first.name, "r");
        assert!(std::ptr::eq(first, later[0].get(&model, 0).unwrap()));
    }

    #[test]
    fn re2_groups_become_the_regex_crates() {
        assert_eq!(dollar_groups(r"/x/\2-\1$\\"), r"/x/${2}-${1}$$\");
    }

    #[test]
    fn changes_remove_then_set_then_add_and_leave_the_host() {
        let changes = HeaderChanges::compile(
            &["a".to_owned(), "host".to_owned()],
            &[("a".to_owned(), "1".to_owned())],
            &[("a".to_owned(), "2".to_owned())],
        );
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_static("0"));
        headers.insert("host", HeaderValue::from_static("h"));
        changes.apply(&mut headers, |_| StreamInfo::default());
        let values: Vec<_> = headers.get_all("a").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(headers["host"], "h");
    }
}
