//! [`Rule`]: a rule of a VirtualService as it is served, its own or a delegate's joined with the root's.
//!
//! Semantics are those of Istio's virtualservice_controller.go: one level only; a delegate's rule stays when each of its
//! matches is narrower than one of the root's; what the delegate leaves out comes from the root.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use portolan_model::origin::Part;
use portolan_model::{Origin, Parts};

use super::binding::gateway_name;
use super::parts;
use super::visibility::Visibility;
use crate::ResourceSet;
use crate::diagnostic::Diagnostic;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{HttpMatch, HttpMatchFields, HttpRoute, HttpRouteFields, StringMatch};

/// A rule with the object whose namespace completes its names and whose lines it stands in.
#[derive(Clone)]
pub(super) struct Rule<'a> {
    pub(super) written: Cow<'a, HttpRoute>,
    pub(super) object: &'a Object<VirtualService>,
    /// Its place in the object's `http`.
    pub(super) index: usize,
    root: Option<RootRule<'a>>,
}

/// The root's part of a joined rule.
#[derive(Clone)]
struct RootRule<'a> {
    object: &'a Object<VirtualService>,
    index: usize,
    /// By match of the joined rule: the delegate's match and the root's that it is made of.
    matches: Vec<(Option<usize>, Option<usize>)>,
}

/// Rules of the VirtualServices that delegate, by index of the VirtualService.
#[derive(Default)]
pub(super) struct Delegates<'a> {
    joined: HashMap<usize, Vec<Rule<'a>>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl<'a> Rule<'a> {
    /// A rule that stands in its VirtualService as it is served.
    pub(super) fn own(object: &'a Object<VirtualService>, index: usize) -> Self {
        Self { written: Cow::Borrowed(&object.spec.http[index]), object, index, root: None }
    }

    /// Path of the rule in its object.
    pub(super) fn path(&self) -> String {
        format!("spec.http[{}]", self.index)
    }

    /// The object and the rule's place in it that give a field: the delegate's where it has it.
    pub(super) fn source(&self, has: impl Fn(&HttpRoute) -> bool) -> (&'a Object<VirtualService>, usize) {
        match &self.root {
            Some(root) if !has(&self.object.spec.http[self.index]) => (root.object, root.index),
            _ => (self.object, self.index),
        }
    }

    /// Where a match stands, or the rule when there is none; and the root's line that delegates to it.
    pub(super) fn origins(&self, condition: Option<usize>) -> (Origin, Option<Origin>) {
        let of = |object: &Object<VirtualService>, rule: usize, condition: Option<usize>| match condition {
            Some(condition) => object.origin(&format!("spec.http[{rule}].match[{condition}]")),
            None => object.origin(&format!("spec.http[{rule}]")),
        };
        let parts = Parts::new(self.lines());
        let Some(root) = &self.root else { return (of(self.object, self.index, condition).with_parts(parts), None) };
        let (own, of_root) = condition.and_then(|c| root.matches.get(c).copied()).unwrap_or_default();
        let origin = of(self.object, self.index, own).with_parts(parts);
        (origin, Some(of(root.object, root.index, of_root)))
    }

    /// Where its fields stand: of those that the delegate leaves out, in the root.
    fn lines(&self) -> Vec<Part> {
        let of = |object: &Object<VirtualService>, rule: usize| {
            object.lines(&format!("spec.http[{rule}]"), parts::of_rule(&object.spec.http[rule]))
        };
        let mut lines = of(self.object, self.index);
        let Some(root) = &self.root else { return lines };
        let field = |part: &str| part.split('.').next().unwrap_or_default().to_owned();
        let own: HashSet<String> = lines.iter().map(|(part, _, _)| field(part)).collect();
        lines.extend(of(root.object, root.index).into_iter().filter(|(part, _, _)| !own.contains(&field(part))));
        lines
    }

    /// An annotation of its object, else of the root's.
    pub(super) fn annotation(&self, name: &str) -> Option<&'a String> {
        let objects = [Some(self.object), self.root.as_ref().map(|root| root.object)];
        objects.into_iter().flatten().find_map(|object| object.meta.annotations.get(name).filter(|v| !v.is_empty()))
    }
}

impl<'a> Delegates<'a> {
    pub(super) fn of(
        resources: &'a ResourceSet,
        virtual_services: &[&'a Object<VirtualService>],
        visibility: &Visibility,
    ) -> Self {
        let mut delegates = Self::default();
        for (i, root) in virtual_services.iter().enumerate() {
            if !root.spec.hosts.is_empty() && root.spec.http.iter().any(|rule| rule.delegate.is_some()) {
                let rules = delegates.join(resources, root, visibility);
                delegates.joined.insert(i, rules);
            }
        }
        delegates
    }

    /// The rules of a VirtualService in order.
    pub(super) fn rules(&self, index: usize, object: &'a Object<VirtualService>) -> Cow<'_, [Rule<'a>]> {
        match self.joined.get(&index) {
            Some(joined) => Cow::Borrowed(joined),
            None => Cow::Owned((0..object.spec.http.len()).map(|rule| Rule::own(object, rule)).collect()),
        }
    }

    fn join(
        &mut self,
        resources: &'a ResourceSet,
        root: &'a Object<VirtualService>,
        visibility: &Visibility,
    ) -> Vec<Rule<'a>> {
        let mut rules = Vec::new();
        for (r, rule) in root.spec.http.iter().enumerate() {
            let Some(named) = &rule.delegate else {
                rules.push(Rule::own(root, r));
                continue;
            };
            let namespace = named.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&root.meta.namespace);
            let place = || root.key_place(&format!("spec.http[{r}].delegate"));
            let found = resources.get::<VirtualService>(namespace, &named.name);
            let visible = |d: &&Object<VirtualService>| {
                visibility.sees_delegate(&d.meta, &d.spec.export_to, &root.meta.namespace)
            };
            let why = match found {
                None => "there is no such VirtualService",
                Some(delegate) if !delegate.spec.hosts.is_empty() => "a delegate has no hosts of its own",
                Some(delegate) if !visible(&delegate) => "its `exportTo` keeps this namespace out",
                Some(delegate) => {
                    for d in 0..delegate.spec.http.len() {
                        match joined((root, r), (delegate, d)) {
                            Ok(rule) => rules.push(rule),
                            Err(why) => self.diagnostics.push(not_joined(delegate, d, root, r, why)),
                        }
                    }
                    continue;
                }
            };
            let text = format!("delegate `{namespace}/{}` cannot be used: this rule is skipped", named.name);
            self.diagnostics.push(Diagnostic::warning("P0307", place(), text).with_label(why));
        }
        rules
    }
}

fn not_joined(
    delegate: &Object<VirtualService>,
    d: usize,
    root: &Object<VirtualService>,
    r: usize,
    why: &str,
) -> Diagnostic {
    let by = root.origin(&format!("spec.http[{r}]")).place();
    let text = format!("this rule is left out of the rule that delegates to it at {by}");
    Diagnostic::warning("P0307", delegate.key_place(&format!("spec.http[{d}]")), text).with_label(why)
}

/// The delegate's rule with what it leaves out from the root's; the reason when they do not fit.
fn joined<'a>(
    (root, r): (&'a Object<VirtualService>, usize),
    (delegate, d): (&'a Object<VirtualService>, usize),
) -> Result<Rule<'a>, &'static str> {
    let (outer, inner) = (&root.spec.http[r], &delegate.spec.http[d]);
    if inner.delegate.is_some() {
        return Err("a delegate cannot delegate in turn");
    }
    let (matches, sources) = join_matches((root, outer), (delegate, inner))?;
    let both = HttpRouteFields {
        name: joined_name(outer.name.as_deref(), inner.name.as_deref()),
        rewrite: inner.rewrite.clone().or_else(|| outer.rewrite.clone()),
        direct_response: inner.direct_response.clone().or_else(|| outer.direct_response.clone()),
        timeout: inner.timeout.clone().or_else(|| outer.timeout.clone()),
        retries: inner.retries.clone().or_else(|| outer.retries.clone()),
        fault: inner.fault.clone().or_else(|| outer.fault.clone()),
        mirror: inner.mirror.clone().or_else(|| outer.mirror.clone()),
        mirrors: if inner.mirrors.is_empty() { &outer.mirrors } else { &inner.mirrors }.clone(),
        mirror_percent: inner.mirror_percent.or(outer.mirror_percent),
        mirror_percentage: inner.mirror_percentage.or(outer.mirror_percentage),
        cors_policy: inner.cors_policy.clone().or_else(|| outer.cors_policy.clone()),
        headers: inner.headers.clone().or_else(|| outer.headers.clone()),
        ..HttpRouteFields::clone(inner)
    };
    let written = HttpRoute::new(matches, inner.route.clone(), both);
    let root = RootRule { object: root, index: r, matches: sources };
    Ok(Rule { written: Cow::Owned(written), object: delegate, index: d, root: Some(root) })
}

type Joined = (Vec<HttpMatch>, Vec<(Option<usize>, Option<usize>)>);

fn join_matches(
    (root, outer): (&Object<VirtualService>, &HttpRoute),
    (delegate, inner): (&Object<VirtualService>, &HttpRoute),
) -> Result<Joined, &'static str> {
    let full = |condition: &HttpMatch, object: &Object<VirtualService>| {
        let gateways = condition.gateways.iter().map(|name| gateway_name(name, &object.meta.namespace)).collect();
        let others = HttpMatchFields { gateways, ..HttpMatchFields::clone(condition) };
        HttpMatch::new(condition.uri.clone(), condition.ignore_uri_case, others)
    };
    let outer: Vec<HttpMatch> = outer.matches.iter().map(|condition| full(condition, root)).collect();
    let inner: Vec<HttpMatch> = inner.matches.iter().map(|condition| full(condition, delegate)).collect();
    if outer.is_empty() {
        let sources = (0..inner.len()).map(|j| (Some(j), None)).collect();
        return Ok((inner, sources));
    }
    if inner.is_empty() {
        let sources = (0..outer.len()).map(|k| (None, Some(k))).collect();
        return Ok((outer, sources));
    }
    let mut all = Joined::default();
    for (j, leaf) in inner.iter().enumerate() {
        let before = all.0.len();
        for (k, wide) in outer.iter().enumerate().filter(|(_, wide)| !conflict(wide, leaf)) {
            all.0.push(join_match(wide, leaf));
            all.1.push((Some(j), Some(k)));
        }
        if all.0.len() == before {
            return Err("one of its matches is not narrower than a match of that rule");
        }
    }
    Ok(all)
}

fn joined_name(root: Option<&str>, own: Option<&str>) -> Option<String> {
    let names: Vec<&str> = [root, own].into_iter().flatten().filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then(|| names.join("-"))
}

fn join_match(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let others = HttpMatchFields {
        name: joined_name(root.name.as_deref(), leaf.name.as_deref()),
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: both(&root.headers, &leaf.headers),
        port: leaf.port.or(root.port),
        source_labels: both(&root.source_labels, &leaf.source_labels),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        query_params: both(&root.query_params, &leaf.query_params),
        without_headers: both(&root.without_headers, &leaf.without_headers),
        source_namespace: leaf.source_namespace.clone().or_else(|| root.source_namespace.clone()),
        stat_prefix: leaf.stat_prefix.clone().or_else(|| root.stat_prefix.clone()),
        ..HttpMatchFields::default()
    };
    HttpMatch::new(leaf.uri.clone().or_else(|| root.uri.clone()), leaf.ignore_uri_case, others)
}

/// The leaf's value where both have one.
fn both<T: Clone>(root: &BTreeMap<String, T>, leaf: &BTreeMap<String, T>) -> BTreeMap<String, T> {
    let mut all = root.clone();
    all.extend(leaf.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// True when requests could fulfil the leaf's match and not the root's.
fn conflict(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let single = [
        (root.uri.as_ref(), leaf.uri.as_ref()),
        (root.scheme.as_deref(), leaf.scheme.as_deref()),
        (root.method.as_deref(), leaf.method.as_deref()),
        (root.authority.as_deref(), leaf.authority.as_deref()),
    ];
    let maps = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let in_maps = |(root, leaf): &(&BTreeMap<String, StringMatch>, &BTreeMap<String, StringMatch>)| {
        leaf.iter().any(|(name, value)| root.get(name).is_some_and(|wide| !is_narrower(value, wide)))
    };
    let namespace = root.source_namespace.as_deref().unwrap_or_default();
    let labels = |(name, value): (&String, &String)| root.source_labels.get(name).is_some_and(|wide| wide != value);
    single.iter().any(|(wide, value)| matches!((wide, value), (Some(w), Some(v)) if !is_narrower(v, w)))
        || maps.iter().any(in_maps)
        || root.ignore_uri_case != leaf.ignore_uri_case
        || matches!((root.port, leaf.port), (Some(wide), Some(port)) if wide != port)
        || !namespace.is_empty() && leaf.source_namespace.as_deref() != Some(namespace)
        || leaf.source_labels.iter().any(labels)
        || !root.gateways.is_empty() && leaf.gateways.iter().any(|gateway| !root.gateways.contains(gateway))
}

/// Regular expressions are never narrower than anything, nor is anything narrower than they are.
fn is_narrower(leaf: &StringMatch, root: &StringMatch) -> bool {
    let given = |text: &'_ Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    if given(&leaf.regex).is_some() || given(&root.regex).is_some() {
        return false;
    }
    match (given(&root.exact), given(&root.prefix)) {
        (Some(exact), _) => given(&leaf.prefix).is_none() && given(&leaf.exact) == Some(exact),
        (None, Some(prefix)) => {
            given(&leaf.prefix).or_else(|| given(&leaf.exact)).is_some_and(|t| t.starts_with(&prefix))
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> HttpMatch {
        serde_yaml::from_str(text).unwrap_or_default()
    }

    #[test]
    fn a_leaf_must_be_narrower_than_its_root() {
        for (root, leaf, fits) in [
            ("uri: {prefix: /a}", "uri: {prefix: /a/b}", true),
            ("uri: {prefix: /a}", "uri: {exact: /ab}", true),
            ("uri: {prefix: /a/b}", "uri: {prefix: /a}", false),
            ("uri: {exact: /a}", "uri: {exact: /a}", true),
            ("uri: {exact: /a}", "uri: {prefix: /a}", false),
            ("uri: {regex: /a.*}", "uri: {prefix: /ab}", false),
            ("uri: {prefix: /a}", "uri: {regex: /ab}", false),
            ("uri: {regex: /a.*}", "method: {exact: GET}", true),
            ("headers: {x: {exact: a}}", "headers: {y: {exact: b}}", true),
            ("headers: {x: {exact: a}}", "headers: {x: {exact: b}}", false),
            ("headers: {x: {}}", "headers: {x: {exact: b}}", false),
            ("withoutHeaders: {x: {exact: a}}", "withoutHeaders: {x: {exact: a}}", true),
            ("queryParams: {x: {prefix: a}}", "queryParams: {x: {prefix: ab}}", true),
            ("{uri: {prefix: /a}, ignoreUriCase: true}", "uri: {prefix: /a}", false),
            ("port: 80", "port: 80", true),
            ("port: 80", "port: 81", false),
            ("sourceNamespace: a", "{}", false),
            ("sourceLabels: {a: b}", "sourceLabels: {a: c}", false),
            ("gateways: [a/x, a/y]", "gateways: [a/y]", true),
            ("gateways: [a/x]", "gateways: [a/y]", false),
        ] {
            assert_eq!(!conflict(&condition(root), &condition(leaf)), fits, "{root} | {leaf}");
        }
    }

    #[test]
    fn names_are_joined_by_a_dash() {
        assert_eq!(joined_name(Some("root"), Some("own")).as_deref(), Some("root-own"));
        assert_eq!(joined_name(None, Some("own")).as_deref(), Some("own"));
        assert_eq!(joined_name(Some("root"), Some("")).as_deref(), Some("root"));
        assert_eq!(joined_name(None, None), None);
    }
}
