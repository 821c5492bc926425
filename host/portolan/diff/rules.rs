//! Hosts and their rules: added, removed, changed, moved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_model::{
    ClusterId, MISSING_CLUSTER, Model, Route, RouteAction, RouteId, RouteMatch, StringMatch, VirtualHost,
};

use super::{Change, Field, What, fields, identity};
use crate::change::{number, same_action, short};
use crate::explain::source;
use crate::tell::{self, Told};

/// A host on a listener.
type Key = (String, String);

/// Hosts on listeners that both have, and their rules.
pub(super) fn changes(old: &Model, new: &Model) -> Vec<Change> {
    let (before, after) = (hosts(old), hosts(new));
    let mut changes = Vec::new();
    for (key, host) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        changes.push(whole(What::Added, key, host).at(String::new(), source(&host.origin).place));
    }
    for (key, host) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        changes.push(whole(What::Removed, key, host).at(source(&host.origin).place, String::new()));
    }
    // A rule of several hosts is told once, with all of them.
    let mut told: Vec<Change> = Vec::new();
    for (key, is) in &after {
        let Some(was) = before.get(key) else { continue };
        for change in of_host(old, &was.routes, new, &is.routes) {
            let name = key.1.clone();
            let same = |known: &&mut Change| Change { hosts: Vec::new(), ..(**known).clone() } == change;
            match told.iter_mut().find(same) {
                Some(known) if known.hosts.contains(&name) => {}
                Some(known) => known.hosts.push(name),
                None => told.push(Change { hosts: vec![name], ..change }),
            }
        }
    }
    changes.extend(told);
    changes
}

fn hosts(model: &Model) -> BTreeMap<Key, &VirtualHost> {
    let mut hosts = BTreeMap::new();
    for listener in &model.listeners {
        let name = identity(listener);
        // On a listener of TCP or TLS its own number is none; a chain's hosts are told with the listener, and of two chains
        // that have one of the same name the second with its server names.
        let chains = listener.filter_chains.iter().map(|chain| (chain.route_table, chain.server_names.join(" ")));
        for (table, names) in std::iter::once((listener.route_table, String::new())).chain(chains) {
            let table = model.route_tables.get(table as usize);
            for host in table.map_or(&[][..], |table| &table.virtual_hosts) {
                let key = (name.clone(), host.domain.clone());
                let key = if hosts.contains_key(&key) { (format!("{} {names}", key.0), key.1) } else { key };
                hosts.insert(key, host);
            }
        }
    }
    hosts
}

fn whole(what: What, (listener, domain): &Key, host: &VirtualHost) -> Change {
    Change::new(what, "host", format!("{domain} on {listener} ({})", number(host.routes.len(), "rule")))
}

/// A rule of a host: when it holds, and what it does.
struct Rule<'a> {
    route: &'a Route,
    when: String,
    facts: Vec<(String, String)>,
}

fn rules<'a>(model: &'a Model, ids: &[RouteId]) -> Vec<Rule<'a>> {
    let rule = |route: &'a Route| Rule { route, when: tell::conditions(&route.matches), facts: facts(model, route) };
    ids.iter().filter_map(|id| model.routes.get(*id as usize)).map(|route| rule(route)).collect()
}

/// What a route does, each fact by name.
fn facts(model: &Model, route: &Route) -> Vec<(String, String)> {
    let mut facts = vec![("name".to_owned(), route.name.clone())];
    if let RouteAction::Forward(forward) = &route.action {
        let weights = forward.destinations.iter().map(|d| (&*d.cluster_name, d.weight, d.cluster));
        facts.push(("destination".to_owned(), split(model, weights)));
        for destination in &forward.destinations {
            let own = tell::headers(&destination.headers, &[]);
            let name = format!("headers of {}", short(&destination.cluster_name));
            facts.extend(own.into_iter().map(|told| (name.clone(), told.text)));
        }
    }
    // The field's name stands before it.
    let bare = |told: Told| {
        let text = told.text.strip_prefix(&format!("{} ", told.kind)).unwrap_or(&told.text).to_owned();
        (told.kind, text)
    };
    facts.extend(tell::action(route).into_iter().map(bare));
    facts
}

/// `reviews v1 80 %, reviews v2 20 %`.
pub(super) fn split<'a>(model: &Model, all: impl Iterator<Item = (&'a str, u32, ClusterId)> + Clone) -> String {
    let total: u64 = all.clone().map(|(_, weight, _)| u64::from(weight)).sum();
    let several = all.clone().count() > 1;
    let one = |(name, weight, id): (&str, u32, ClusterId)| {
        let share = f64::from(weight) * 100.0 / total.max(1) as f64;
        let share = if several { format!(" {} %", (share * 10.0).round() / 10.0) } else { String::new() };
        let missing = if model.clusters.get(id as usize).is_some() { "" } else { " (does not exist)" };
        format!("{}{share}{missing}", short(name))
    };
    all.map(one).collect::<Vec<_>>().join(", ")
}

fn of_host(old: &Model, was: &[RouteId], new: &Model, is: &[RouteId]) -> Vec<Change> {
    let (was, is) = (rules(old, was), rules(new, is));
    let pairs = pairs(&was, &is);
    let mut changes = Vec::new();
    for (index, rule) in is.iter().enumerate() {
        let place = source(&rule.route.origin).place;
        let Some((from, _)) = pairs.iter().find(|(_, to)| *to == index) else {
            changes.push(Change::new(What::Added, "rule", described(rule)).at(String::new(), place));
            continue;
        };
        let before = &was[*from];
        let fields = differences(old, before, new, rule);
        if !fields.is_empty() {
            let change = Change { fields, ..Change::new(What::Changed, "rule", rule.when.clone()) };
            changes.push(change.at(source(&before.route.origin).place, place));
        }
    }
    let is_gone = |(index, _): &(usize, &Rule<'_>)| pairs.iter().all(|(from, _)| from != index);
    for (_, rule) in was.iter().enumerate().filter(is_gone) {
        let place = source(&rule.route.origin).place;
        changes.push(Change::new(What::Removed, "rule", described(rule)).at(place, String::new()));
    }
    changes.extend(moves(&was, &is, &pairs));
    changes
}

fn described(rule: &Rule<'_>) -> String {
    let does = rule.facts.iter().filter_map(|(name, text)| match name.as_str() {
        "destination" | "directResponse" => Some(text.clone()),
        "redirect" => Some(format!("redirect {text}")),
        _ => None,
    });
    format!("{} -> {}", rule.when, does.collect::<Vec<_>>().join(", "))
}

/// Which rule is which: those that hold for the same requests in order, then those that do the same.
fn pairs(was: &[Rule<'_>], is: &[Rule<'_>]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    let (mut old_free, mut new_free): (BTreeSet<usize>, BTreeSet<usize>) =
        ((0..was.len()).collect(), (0..is.len()).collect());
    let key_of_when: fn(&Rule<'_>) -> String = |rule| rule.when.clone();
    let key_of_facts: fn(&Rule<'_>) -> String = |rule| format!("{:?}", rule.facts);
    let key_of_name: fn(&Rule<'_>) -> String = |rule| rule.route.name.clone();
    for key in [key_of_when, key_of_name, key_of_facts] {
        let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for index in old_free.iter().rev() {
            by_key.entry(key(&was[*index])).or_default().push(*index);
        }
        by_key.remove("");
        for index in new_free.clone() {
            if let Some(from) = by_key.get_mut(&key(&is[index])).and_then(Vec::pop) {
                pairs.push((from, index));
                old_free.remove(&from);
                new_free.remove(&index);
            }
        }
    }
    pairs.sort_unstable();
    pairs
}

fn differences(old: &Model, was: &Rule<'_>, new: &Model, is: &Rule<'_>) -> Vec<Field> {
    let mut found = Vec::new();
    if was.when != is.when {
        found.push(Field { name: "match".to_owned(), old: was.when.clone(), new: is.when.clone() });
    }
    found.extend(fields(&was.facts, &is.facts));
    if found.is_empty() && !same_action(old, new, &was.route.action, &is.route.action) {
        found.push(Field { name: "details".to_owned(), old: String::new(), new: String::new() });
    }
    found
}

/// Rules that stand elsewhere in the order, where some request may fit both it and a rule that it has passed, and the two
/// do not do the same.
fn moves(was: &[Rule<'_>], is: &[Rule<'_>], pairs: &[(usize, usize)]) -> Vec<Change> {
    let targets: Vec<usize> = pairs.iter().map(|(_, to)| *to).collect();
    let kept = longest_increasing(&targets);
    let mut changes = Vec::new();
    for (from, to) in pairs.iter().filter(|(_, to)| !kept.contains(to)) {
        let passed = pairs.iter().filter(|(f, t)| (f < from) != (t < to));
        let matters = passed.filter(|(_, t)| {
            let (moved, other) = (&is[*to], &is[*t]);
            may_both_hold(&moved.route.matches, &other.route.matches) && moved.facts != other.facts
        });
        let others: Vec<_> = matters.map(|(_, t)| *t).collect();
        if let Some(other) = others.first() {
            let side = if other < to { "after" } else { "before" };
            let more = if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
            let subject = format!("{}, now {side} {}{more}", is[*to].when, is[*other].when);
            let places = (source(&was[*from].route.origin).place, source(&is[*to].route.origin).place);
            changes.push(Change::new(What::Moved, "rule", subject).at(places.0, places.1));
        }
    }
    changes
}

/// The members of a longest increasing subsequence: rules that keep their order.
fn longest_increasing(values: &[usize]) -> BTreeSet<usize> {
    let (mut tails, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), vec![None; values.len()]);
    for (index, value) in values.iter().enumerate() {
        let length = tails.partition_point(|tail| values[*tail] < *value);
        before[index] = length.checked_sub(1).map(|shorter| tails[shorter]);
        match tails.get_mut(length) {
            Some(tail) => *tail = index,
            None => tails.push(index),
        }
    }
    let mut at = tails.last().copied();
    let mut kept = BTreeSet::new();
    while let Some(index) = at {
        kept.insert(values[index]);
        at = before[index];
    }
    kept
}

/// False only when no request can fulfil both.
fn may_both_hold(a: &RouteMatch, b: &RouteMatch) -> bool {
    let single = [
        (a.uri.as_ref(), b.uri.as_ref()),
        (a.method.as_deref(), b.method.as_deref()),
        (a.scheme.as_deref(), b.scheme.as_deref()),
        (a.authority.as_deref(), b.authority.as_deref()),
    ];
    let ignores_case = a.ignore_uri_case || b.ignore_uri_case;
    let apart = |(a, b): (Option<&StringMatch>, Option<&StringMatch>)| match (a, b) {
        (Some(a), Some(b)) => are_apart(a, b, ignores_case),
        _ => false,
    };
    // Lines of one header are tested one by one: two of them may each fulfil one condition. The first value of a parameter
    // is the only one that counts.
    let params = a.query_params.iter().any(|one| {
        b.query_params.iter().any(|other| one.name == other.name && are_apart(&one.value, &other.value, false))
    });
    let excluded = |with: &RouteMatch, without: &RouteMatch| {
        without
            .without_headers
            .iter()
            .any(|not| not.value == StringMatch::Present && with.headers.iter().any(|header| header.name == not.name))
    };
    !single.into_iter().any(apart) && !params && !excluded(a, b) && !excluded(b, a)
}

fn are_apart(a: &StringMatch, b: &StringMatch, ignores_case: bool) -> bool {
    let case = |text: &str| if ignores_case { text.to_ascii_lowercase() } else { text.to_owned() };
    match (a, b) {
        (StringMatch::Exact(a), StringMatch::Exact(b)) => case(a) != case(b),
        (StringMatch::Exact(exact), StringMatch::Prefix(prefix))
        | (StringMatch::Prefix(prefix), StringMatch::Exact(exact)) => !case(exact).starts_with(&case(prefix)),
        (StringMatch::Prefix(a), StringMatch::Prefix(b)) => {
            let (a, b) = (case(a), case(b));
            !a.starts_with(&b) && !b.starts_with(&a)
        }
        _ => false,
    }
}

/// Cluster numbers of all routes become one, as far as the cluster exists.
pub(super) fn blank_clusters(model: &mut Model) {
    for route in &mut model.routes {
        let RouteAction::Forward(forward) = &mut Arc::make_mut(route).action else { continue };
        for destination in forward.destinations.iter_mut().filter(|d| d.cluster != MISSING_CLUSTER) {
            destination.cluster = 0;
        }
    }
}
