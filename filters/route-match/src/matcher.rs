//! The decision: which route a request takes. Semantics are Istio's.

use std::collections::BTreeMap;
use std::rc::Rc;

use portolan_model::{RouteId, RouteMatch, VirtualHost};

use crate::condition::{self, Subject};
pub use crate::head::Head;
use crate::hosts::{HostKind, Hosts};
use crate::index::{HostRoutes, Routes};
use crate::pattern::Pattern;

/// Regexes that are compiled, and so checked, in advance; more of them wait for the first request that needs them.
const COMPILED_IN_ADVANCE: usize = 256;

/// Hosts and routes of all tables, indexed.
#[derive(Debug)]
pub struct Matcher {
    tables: Vec<Table>,
    routes: Routes,
}

#[derive(Debug)]
struct Table {
    hosts: Hosts,
    /// By virtual host: its name and routes.
    routes: Vec<(String, Rc<HostRoutes>)>,
}

/// The virtual host that a request belongs to.
pub(crate) struct ChosenHost<'a> {
    pub(crate) domain: &'a str,
    pub(crate) kind: HostKind,
    pub(crate) rules: Rules<'a>,
}

/// The rules of one virtual host.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// By the ids that `order` has.
    pub(crate) routes: &'a Routes,
    pub(crate) order: &'a HostRoutes,
}

impl Rules<'_> {
    /// The first route whose conditions all hold.
    pub(crate) fn find(&self, head: &impl Head) -> Option<RouteId> {
        self.order.find(self.routes, head)
    }

    /// The path condition of a route as it was written.
    pub(crate) fn written_path(&self, route: RouteId) -> &[u8] {
        let conditions = self.routes.get(route as usize).map(|conditions| &**conditions).unwrap_or_default();
        let uri = conditions.iter().find(|condition| matches!(condition.subject, Subject::Uri { .. }));
        uri.map_or(b"", |condition| condition.pattern.written())
    }
}

impl Matcher {
    /// Indexes virtual hosts by table, and conditions by route.
    pub fn new(tables: Vec<Vec<VirtualHost>>, matches: Vec<RouteMatch>) -> Self {
        let routes: Routes = matches.into_iter().map(condition::of_route).collect();
        // A VirtualService brings the same routes to each of its hosts: one index serves all.
        let mut known: BTreeMap<Vec<u32>, Rc<HostRoutes>> = BTreeMap::new();
        let mut host_routes = |host: VirtualHost| {
            let shared =
                known.entry(host.routes).or_insert_with_key(|order| Rc::new(HostRoutes::new(order.clone(), &routes)));
            (host.domain, Rc::clone(shared))
        };
        let mut table = |hosts: Vec<VirtualHost>| Table {
            hosts: Hosts::new(&hosts),
            routes: hosts.into_iter().map(&mut host_routes).collect(),
        };
        let tables = tables.into_iter().map(&mut table).collect();
        Self { tables, routes }
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// The first route of the request's virtual host whose conditions all hold.
    pub fn find(&self, table: usize, head: &impl Head) -> Option<RouteId> {
        self.host(table, head)?.rules.find(head)
    }

    /// The request's virtual host.
    pub(crate) fn host(&self, table: usize, head: &impl Head) -> Option<ChosenHost<'_>> {
        let table = self.tables.get(table)?;
        let (host, kind) = table.hosts.find(head.authority())?;
        let (domain, routes) = &table.routes[host as usize];
        Some(ChosenHost { domain, kind, rules: Rules { routes: &self.routes, order: routes } })
    }

    /// Routes with a text in place of a regular expression, as far as they are checked in advance.
    pub fn broken_patterns(&self) -> Vec<(usize, &str)> {
        broken_patterns(&self.routes)
    }
}

/// See [`Matcher::broken_patterns`].
pub(crate) fn broken_patterns(routes: &Routes) -> Vec<(usize, &str)> {
    let conditions = routes.iter().enumerate().flat_map(|(route, all)| all.iter().map(move |one| (route, one)));
    let regexes = conditions.filter_map(|(route, condition)| match &condition.pattern {
        Pattern::Regex(regex) => Some((route, regex)),
        _ => None,
    });
    let broken = regexes.take(COMPILED_IN_ADVANCE).filter(|(_, regex)| !regex.compile());
    broken.map(|(route, regex)| (route, regex.source())).collect()
}

#[cfg(test)]
mod tests;
