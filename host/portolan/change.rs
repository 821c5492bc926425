//! What a reload changed, in words of meaning: `+1 rule, split 80/20 -> 50/50`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use portolan_model::{Cluster, Model, Route, RouteAction, RouteId, RouteTable, VirtualHost};

/// The difference of two models, most visible parts first; "details" when it is none of those with a word of their own.
pub(crate) fn describe(old: &Model, new: &Model) -> String {
    let mut parts = Vec::new();
    listeners(old, new, &mut parts);
    hosts(old, new, &mut parts);
    rules(&of_changed_hosts(old, new), &of_changed_hosts(new, old), &mut parts);
    clusters(old, new, &mut parts);
    plugins(old, new, &mut parts);
    if old.access_logs != new.access_logs {
        let paths: Vec<&str> = new.access_logs.iter().map(|log| log.path.as_str()).collect();
        parts.push(format!("access log {}", if paths.is_empty() { "off".to_owned() } else { paths.join(", ") }));
    }
    if old.tracing != new.tracing {
        let provider = new.tracing.as_ref().map_or("off", |tracing| tracing.provider.as_str());
        parts.push(format!("traces {provider}"));
    }
    if parts.is_empty() {
        parts.push("details".to_owned());
    }
    parts.join(", ")
}

fn listeners(old: &Model, new: &Model, parts: &mut Vec<String>) {
    let names = |model: &Model| {
        let udp = model.udp_listeners.iter().map(|listener| listener.name.clone());
        model.listeners.iter().map(|listener| listener.name.clone()).chain(udp).collect::<BTreeSet<_>>()
    };
    let (old, new) = (names(old), names(new));
    parts.extend(new.difference(&old).map(|name| format!("+listener {name}")));
    parts.extend(old.difference(&new).map(|name| format!("-listener {name}")));
}

fn hosts(old: &Model, new: &Model, parts: &mut Vec<String>) {
    fn names(model: &Model) -> HashSet<&str> {
        let hosts = model.route_tables.iter().flat_map(|table| &table.virtual_hosts);
        hosts.map(|host| host.domain.as_str()).collect()
    }
    let (old, new) = (names(old), names(new));
    count(new.difference(&old).count(), old.difference(&new).count(), "host", parts);
}

/// A model with only those virtual hosts whose routes are not the same in memory in both: the others' rules are no
/// difference, however many there are.
fn of_changed_hosts(model: &Model, other: &Model) -> Model {
    fn routes<'m>(model: &'m Model, host: &'m VirtualHost) -> impl Iterator<Item = *const Route> {
        host.routes.iter().filter_map(|id| model.routes.get(*id as usize)).map(Arc::as_ptr)
    }
    let known: HashMap<_, _> = other.route_tables.iter().flat_map(named).collect();
    let mut changed = Model { clusters: model.clusters.clone(), ..Model::default() };
    let mut moved: HashMap<RouteId, RouteId> = HashMap::new();
    for table in &model.route_tables {
        let mut left = RouteTable { name: table.name.clone(), ..RouteTable::default() };
        for (name, host) in named(table) {
            if known.get(&name).is_some_and(|known| routes(other, known).eq(routes(model, host))) {
                continue;
            }
            let renumbered = host.routes.iter().filter_map(|id| {
                let route = model.routes.get(*id as usize)?;
                Some(*moved.entry(*id).or_insert_with(|| {
                    changed.routes.push(route.clone());
                    (changed.routes.len() - 1) as RouteId
                }))
            });
            left.virtual_hosts.push(VirtualHost { routes: renumbered.collect(), ..host.clone() });
        }
        changed.route_tables.push(left);
    }
    changed
}

/// The hosts of a table by what tells them apart.
fn named(table: &RouteTable) -> impl Iterator<Item = ((&str, &str), &VirtualHost)> {
    table.virtual_hosts.iter().map(|host| ((table.name.as_str(), host.domain.as_str()), host))
}

/// Rules are told apart by where they apply and what they match; with the same match, what they do is compared.
fn rules(old: &Model, new: &Model, parts: &mut Vec<String>) {
    let (before, after) = (by_match(old), by_match(new));
    let total = |rules: &BTreeMap<String, Vec<&Route>>, other: &BTreeMap<String, Vec<&Route>>| {
        let extra =
            |(key, routes): (&String, &Vec<&Route>)| routes.len().saturating_sub(other.get(key).map_or(0, Vec::len));
        rules.iter().map(extra).sum::<usize>()
    };
    let (added, removed) = (total(&after, &before), total(&before, &after));
    count(added, removed, "rule", parts);
    let mut changed = 0;
    let mut splits = Vec::new();
    for (key, routes) in &after {
        let pairs = before.get(key).into_iter().flatten().zip(routes);
        for (was, is) in pairs.filter(|(was, is)| !same_action(old, new, &was.action, &is.action)) {
            match split_change(&was.action, &is.action) {
                Some(text) => splits.push(text),
                None => changed += 1,
            }
        }
    }
    splits.dedup();
    parts.append(&mut splits);
    if changed > 0 {
        parts.push(format!("{} changed", number(changed, "rule")));
    }
    if added + removed + changed == 0 && before.keys().eq(after.keys()) && order(old) != order(new) {
        parts.push("rules reordered".to_owned());
    }
}

fn by_match(model: &Model) -> BTreeMap<String, Vec<&Route>> {
    let mut rules: BTreeMap<String, Vec<&Route>> = BTreeMap::new();
    for (key, route) in order(model).into_iter().zip(&model.routes) {
        rules.entry(key).or_default().push(&**route);
    }
    rules
}

/// For each route the hosts that have it and its match, as text.
fn order(model: &Model) -> Vec<String> {
    let mut hosts: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for table in &model.route_tables {
        for host in &table.virtual_hosts {
            for route in &host.routes {
                hosts.entry(*route).or_default().insert(format!("{}/{}", table.name, host.domain));
            }
        }
    }
    let key = |(id, route): (u32, &Arc<Route>)| format!("{:?} {:?}", hosts.get(&id), route.matches);
    (0..).zip(&model.routes).map(key).collect()
}

/// Equality of actions over two models: a cluster's number means nothing, its name does.
pub(crate) fn same_action(old: &Model, new: &Model, was: &RouteAction, is: &RouteAction) -> bool {
    let (RouteAction::Forward(was), RouteAction::Forward(is)) = (was, is) else { return was == is };
    let mut was = was.clone();
    for (was, is) in was.destinations.iter_mut().zip(&is.destinations) {
        let exists = |model: &Model, id: u32| model.clusters.get(id as usize).is_some();
        if was.cluster_name == is.cluster_name && exists(old, was.cluster) == exists(new, is.cluster) {
            was.cluster = is.cluster;
        }
    }
    was == *is
}

/// `split 80/20 -> 50/50` when both send to the same clusters and the weights differ.
fn split_change(was: &RouteAction, is: &RouteAction) -> Option<String> {
    let (RouteAction::Forward(was), RouteAction::Forward(is)) = (was, is) else { return None };
    let names = |f: &portolan_model::Forward| f.destinations.iter().map(|d| d.cluster_name.clone()).collect::<Vec<_>>();
    let weights =
        |f: &portolan_model::Forward| f.destinations.iter().map(|d| d.weight.to_string()).collect::<Vec<_>>().join("/");
    let several = was.destinations.len() > 1 || is.destinations.len() > 1;
    let shares = weights(was) != weights(is) || names(was) != names(is);
    (several && shares).then(|| format!("split {} -> {}", weights(was), weights(is)))
}

fn clusters(old: &Model, new: &Model, parts: &mut Vec<String>) {
    let by_name =
        |model: &Model| model.clusters.iter().map(|c| (c.name.clone(), c.clone())).collect::<BTreeMap<_, _>>();
    let (old, new) = (by_name(old), by_name(new));
    let missing = |from: &BTreeMap<String, Cluster>, to: &BTreeMap<String, Cluster>| {
        from.keys().filter(|name| !to.contains_key(*name)).count()
    };
    count(missing(&new, &old), missing(&old, &new), "cluster", parts);
    for (name, is) in &new {
        let Some(was) = old.get(name).filter(|was| *was != is) else { continue };
        if was.endpoints != is.endpoints {
            parts.push(format!("{} endpoints {} -> {}", short(name), was.endpoints.len(), is.endpoints.len()));
        } else {
            parts.push(format!("policy of {}", short(name)));
        }
    }
}

/// `reviews v1` of `outbound|80|v1|reviews.default.svc.cluster.local`.
pub(crate) fn short(cluster: &str) -> String {
    let mut parts = cluster.splitn(4, '|').skip(2);
    let (Some(subset), Some(host)) = (parts.next(), parts.next()) else { return cluster.to_owned() };
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    let host = host.strip_suffix(".default").unwrap_or(host);
    if subset.is_empty() { host.to_owned() } else { format!("{host} {subset}") }
}

fn plugins(old: &Model, new: &Model, parts: &mut Vec<String>) {
    let by_name = |model: &Model| model.plugins.iter().map(|p| (p.name.clone(), p.clone())).collect::<BTreeMap<_, _>>();
    let (before, after) = (by_name(old), by_name(new));
    parts.extend(after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("+plugin {name}")));
    parts.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("-plugin {name}")));
    let changed = after.iter().filter(|(name, is)| before.get(*name).is_some_and(|was| was != *is));
    parts.extend(changed.map(|(name, _)| format!("plugin {name}")));
}

fn count(added: usize, removed: usize, noun: &str, parts: &mut Vec<String>) {
    if added > 0 {
        parts.push(format!("+{}", number(added, noun)));
    }
    if removed > 0 {
        parts.push(format!("-{}", number(removed, noun)));
    }
}

/// `1 rule`, `2 rules`.
pub(crate) fn number(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use portolan_model::{Destination, Forward, RouteMatch, StringMatch};

    use super::*;

    fn route(prefix: &str, weights: &[u32]) -> Route {
        let destination = |(i, weight): (u32, &u32)| Destination {
            cluster: i,
            cluster_name: format!("outbound|80|v{}|app.default.svc.cluster.local", i + 1).into(),
            weight: *weight,
            headers: Default::default(),
            origin: Default::default(),
        };
        let destinations = (0..).zip(weights).map(destination).collect();
        Route {
            name: "default".to_owned(),
            matches: RouteMatch { uri: Some(StringMatch::Prefix(prefix.to_owned())), ..Default::default() },
            action: RouteAction::Forward(Box::new(Forward { destinations, ..Default::default() })),
            origin: Default::default(),
            delegated_from: None,
        }
    }

    fn model(routes: Vec<Route>) -> Model {
        let host =
            VirtualHost { domain: "*".to_owned(), routes: (0..).take(routes.len()).collect(), ..Default::default() };
        let table = RouteTable { name: "http.80".to_owned(), virtual_hosts: vec![host], ..RouteTable::default() };
        Model { route_tables: vec![table], routes: routes.into_iter().map(Arc::new).collect(), ..Default::default() }
    }

    #[test]
    fn names_added_rules_and_changed_splits() {
        let old = model(vec![route("/", &[80, 20])]);
        let new = model(vec![route("/api", &[1]), route("/", &[50, 50])]);
        assert_eq!(describe(&old, &new), "+1 rule, split 80/20 -> 50/50");
        assert_eq!(describe(&new, &old), "-1 rule, split 50/50 -> 80/20");
    }

    #[test]
    fn names_a_new_order_and_a_changed_rule() {
        let (a, b) = (route("/a", &[1]), route("/b", &[1]));
        assert_eq!(describe(&model(vec![a.clone(), b.clone()]), &model(vec![b, a.clone()])), "rules reordered");
        let mut slow = a.clone();
        if let RouteAction::Forward(forward) = &mut slow.action {
            forward.timeout_ms = Some(5000);
        }
        assert_eq!(describe(&model(vec![a]), &model(vec![slow])), "1 rule changed");
    }

    #[test]
    fn a_renumbered_cluster_is_no_changed_rule() {
        let old = model(vec![route("/", &[1])]);
        let mut new = old.clone();
        if let RouteAction::Forward(forward) = &mut Arc::make_mut(&mut new.routes[0]).action {
            forward.destinations[0].cluster = 7;
        }
        let log = portolan_model::AccessLog {
            path: "/dev/stdout".to_owned(),
            format: portolan_model::AccessLogFormat::Default,
            omit_empty_values: false,
            filter: None,
            origin: portolan_model::Origin::default(),
        };
        new.access_logs = vec![log];
        assert_eq!(describe(&old, &new), "access log /dev/stdout");
    }

    #[test]
    fn clusters_have_short_names() {
        assert_eq!(short("outbound|80|v1|app.default.svc.cluster.local"), "app v1");
        assert_eq!(short("outbound|80||shop.example.com"), "shop.example.com");
        assert_eq!(short("odd"), "odd");
    }
}
