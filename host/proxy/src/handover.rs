//! How the rules of virtual hosts, and splits, come to the decision filters: each when a request first asks for it, and
//! again only when it has changed. The VMs stay the same meanwhile, for their configuration names the hosts and no more.
//!
//! Numbers that are given out once in the life of the process tell what a VM knows. So requests of an older snapshot and
//! those of the newest one are decided by the same VM, each by its own snapshot's rules.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use portolan_model::filter::{FoundRoute, Split, SplitRef};
use portolan_model::{Model, Route, RouteAction, RouteId, RouteMatch, RouteTable, VirtualHost};
use portolan_wasm::Status;

use crate::route::LazyRoute;
use crate::snapshot::Snapshot;

/// Versions of the rules of virtual hosts, by table and host. None is 0.
pub(crate) type HostVersions = Vec<Box<[u64]>>;

/// The model's routes made ready; those of the last snapshot that are the same are taken from there, unless the clusters
/// are chosen from in other ways.
pub(crate) fn routes(model: &Model, last: Option<&Snapshot>) -> Vec<LazyRoute> {
    let hashes = |model: &Model| model.clusters.iter().map(|c| c.hash_policy.clone()).collect::<Vec<_>>();
    let last = last.filter(|last| hashes(&last.model) == hashes(model));
    let known = || last.iter().flat_map(|last| last.model.routes.iter().map(Arc::as_ptr).zip(&last.routes));
    // Most routes stand where they stood; only for the others all are to be looked through.
    let elsewhere: OnceCell<HashMap<*const Route, &LazyRoute>> = OnceCell::new();
    let entry = |(place, route): (usize, &Arc<Route>)| {
        let same_place = last.and_then(|last| last.model.routes.get(place).zip(last.routes.get(place)));
        if let Some((_, entry)) = same_place.filter(|(known, _)| Arc::ptr_eq(known, route)) {
            return entry.clone();
        }
        match elsewhere.get_or_init(|| known().collect()).get(&Arc::as_ptr(route)) {
            Some(entry) => (*entry).clone(),
            None => LazyRoute::new(route, &model.clusters),
        }
    };
    model.routes.iter().enumerate().map(entry).collect()
}

/// Versions for a model. A host in the place that it had keeps its own when no rule asks for anything else.
pub(crate) fn host_versions(model: &Model, last: Option<(&Model, &HostVersions)>) -> HostVersions {
    let table = |(id, table): (usize, &RouteTable)| {
        let known = last.and_then(|(last, versions)| Some((last, last.route_tables.get(id)?, versions.get(id)?)));
        let version = |(place, host): (usize, &VirtualHost)| match known {
            Some((last, table, versions))
                if table.virtual_hosts.get(place).is_some_and(|old| is_same(last, old, model, host)) =>
            {
                versions[place]
            }
            _ => fresh(),
        };
        table.virtual_hosts.iter().enumerate().map(version).collect()
    };
    model.route_tables.iter().enumerate().map(table).collect()
}

fn is_same(old: &Model, before: &VirtualHost, new: &Model, now: &VirtualHost) -> bool {
    let same = |(a, b): (&RouteId, &RouteId)| match (old.routes.get(*a as usize), new.routes.get(*b as usize)) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.matches == b.matches,
        _ => false,
    };
    before.domain == now.domain
        && before.routes.len() == now.routes.len()
        && before.routes.iter().zip(&now.routes).all(same)
}

/// A number that was never given out.
fn fresh() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed) + 1
}

/// How a route is split; none when it does not forward.
pub(crate) fn split(route: &Route) -> Option<SplitRef> {
    let RouteAction::Forward(forward) = &route.action else { return None };
    match &*forward.destinations {
        [] => None,
        [only] => Some(SplitRef::One(only.cluster)),
        _ => Some(SplitRef::Many(fresh())),
    }
}

/// What `route-match` gets to what it has found: `Ok` with the virtual host and the request's route, or the rules that it is
/// to look among.
pub(crate) fn found_route(
    model: &Model,
    versions: &HostVersions,
    args: &[u8],
    out: &mut Vec<u8>,
) -> Result<(u32, Option<RouteId>), Status> {
    let found = FoundRoute::from_bytes(args).ok_or(Status::BadArgument)?;
    if found.host == FoundRoute::NONE {
        return Ok((found.host, None));
    }
    let (table, place) = (found.table as usize, found.host as usize);
    let host = model.route_tables.get(table).and_then(|table| table.virtual_hosts.get(place));
    let version = versions.get(table).and_then(|versions| versions.get(place));
    let (host, version) = host.zip(version).ok_or(Status::NotFound)?;
    if *version == found.version {
        return Ok((found.host, host.routes.get(found.rank as usize).copied()));
    }
    out.extend_from_slice(&version.to_le_bytes());
    let matches: Vec<&RouteMatch> =
        host.routes.iter().filter_map(|id| model.routes.get(*id as usize)).map(|route| &route.matches).collect();
    serde_json::to_writer(out, &matches).map_err(|_| Status::InternalFailure)?;
    Ok((found.host, None))
}

/// The split of a request's route, as `traffic-split` asks for it.
pub(crate) fn write_split(model: &Model, route: Option<RouteId>, out: &mut Vec<u8>) -> Status {
    let Some(route) = route.and_then(|id| model.routes.get(id as usize)) else { return Status::NotFound };
    match serde_json::to_writer(out, &Split::of(&route.action)) {
        Ok(()) => Status::Ok,
        Err(_) => Status::InternalFailure,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use portolan_model::{DirectResponse, HeaderOperations, Origin, StringMatch};
    use proptest::prelude::*;

    use super::*;

    /// Hosts by the paths of their rules.
    fn model(hosts: &[Vec<u8>]) -> Model {
        let mut model = Model { route_tables: vec![RouteTable::default()], ..Model::default() };
        for (place, paths) in hosts.iter().enumerate() {
            let first = model.routes.len() as RouteId;
            for path in paths {
                let uri = Some(StringMatch::Prefix(format!("/{path}")));
                let direct = DirectResponse { status: 200, body: Vec::new(), headers: HeaderOperations::default() };
                model.routes.push(Arc::new(Route {
                    name: String::new(),
                    matches: RouteMatch { uri, ..RouteMatch::default() },
                    action: RouteAction::DirectResponse(Box::new(direct)),
                    origin: Origin::default(),
                    delegated_from: None,
                }));
            }
            let routes = (first..model.routes.len() as RouteId).collect();
            let host = VirtualHost { domain: format!("h{place}"), routes, ..VirtualHost::default() };
            model.route_tables[0].virtual_hosts.push(host);
        }
        model
    }

    /// Finds the last rule of a host as a filter does that keeps what it was told: the route, and whether it was told
    /// anything.
    fn ask(
        known: &mut HashMap<u32, (u64, Vec<RouteMatch>)>,
        (model, versions): &(Model, HostVersions),
        host: u32,
    ) -> (Option<RouteId>, bool) {
        let mut told = false;
        loop {
            let (version, rules) = known.get(&host).cloned().unwrap_or_default();
            let rank = (rules.len() as u32).checked_sub(1).unwrap_or(FoundRoute::NONE);
            let found = FoundRoute { table: 0, host, rank, version };
            let mut answer = Vec::new();
            let (_, route) = found_route(model, versions, &found.to_bytes(), &mut answer).unwrap();
            let Some((version, json)) = answer.split_first_chunk() else { return (route, told) };
            assert!(!told, "rules that were just told are those of the snapshot");
            told = true;
            known.insert(host, (u64::from_le_bytes(*version), serde_json::from_slice(json).unwrap()));
        }
    }

    proptest! {
        #[test]
        fn whatever_changes_each_request_finds_its_own_snapshots_route_and_only_changes_are_told(
            steps in proptest::collection::vec((0usize..3, proptest::collection::vec(0u8..4, 0..4)), 1..12),
        ) {
            let mut hosts = vec![vec![1], vec![2, 3], vec![]];
            let mut known = HashMap::new();
            let first = model(&hosts);
            let mut last = (first.clone(), host_versions(&first, None));
            for (host, paths) in steps {
                let has_changed = hosts[host] != paths;
                hosts[host] = paths;
                for host in 0..3 {
                    ask(&mut known, &last, host);
                }
                let new = model(&hosts);
                let versions = host_versions(&new, Some((&last.0, &last.1)));
                let next = (new, versions);
                for place in 0..3 {
                    let (route, told) = ask(&mut known, &next, place);
                    prop_assert_eq!(route, next.0.route_tables[0].virtual_hosts[place as usize].routes.last().copied());
                    prop_assert_eq!(told, has_changed && place as usize == host);
                    let (route, _) = ask(&mut known, &last, place);
                    prop_assert_eq!(route, last.0.route_tables[0].virtual_hosts[place as usize].routes.last().copied());
                }
                last = next;
            }
        }
    }
}
