//! Route tables: the virtual hosts of each listener, merged as Istio merges them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use portolan_model::{
    HeaderOperations, Origin, Redirect, Route, RouteAction, RouteId, RouteMatch, RouteTable, StringMatch, VirtualHost,
};

use super::TranslateOptions;
use super::actions::Reference;
use super::binding::Bindings;
use super::delegates::Delegates;
use super::destinations::Destinations;
use super::gateways::{Gateways, KnownGateway, KnownServer};
use super::listeners::{Listeners, TableServers};
use super::memo::Memo;
use super::routes::{Draft, RouteBuilder};
use crate::hosts;

/// Tables with their routes, and the clusters that the routes need.
pub(super) struct Tables {
    pub(super) tables: Vec<RouteTable>,
    pub(super) routes: Vec<Arc<Route>>,
    /// By route: all others of a host come before it.
    pub(super) catch_all: Vec<bool>,
    pub(super) references: Vec<Arc<Reference>>,
    /// By address of the VirtualService.
    pub(super) drafts: Vec<(usize, Draft)>,
}

/// What routes are made of.
pub(super) struct Routing<'a> {
    pub(super) bindings: &'a Bindings<'a>,
    pub(super) delegates: &'a Delegates<'a>,
    pub(super) destinations: &'a Destinations<'a>,
    pub(super) options: &'a TranslateOptions,
    pub(super) memo: &'a Memo,
}

pub(super) fn translate(
    gateways: &Gateways<'_>,
    listeners: &Listeners,
    routing: &Routing<'_>,
    behind_proxies: bool,
) -> Tables {
    let bindings = routing.bindings;
    let mut builder = RouteBuilder::new(routing);
    let mut tables = Vec::new();
    for table in &listeners.tables {
        let mut draft = TableDraft { behind_proxies, ..TableDraft::default() };
        for &(g, s) in &table.servers {
            let gateway = &gateways.all[g];
            draft.add_server(gateway, &gateway.servers[s], &bindings.by_gateway[g], bindings, &mut builder);
        }
        tables.push(draft.finish(table, &builder.catch_all));
    }
    let (references, drafts) = (builder.references(), builder.drafts());
    Tables { tables, routes: builder.routes, catch_all: builder.catch_all, references, drafts }
}

/// A route table in the making.
#[derive(Default)]
struct TableDraft {
    /// Trusted proxies say what clients speak: some requests of a plain listener are https.
    behind_proxies: bool,
    by_domain: BTreeMap<String, HostDraft>,
}

/// A virtual host in the making.
#[derive(Default)]
struct HostDraft {
    routes: Vec<RouteId>,
    /// Two servers with overlapping hosts bring the same routes twice: those of `routes` as soon as others come.
    seen: HashSet<RouteId>,
    /// Everything goes to https, whatever the routes say.
    https_redirect: Option<RouteId>,
    origin: Option<Origin>,
}

impl TableDraft {
    fn add_server(
        &mut self,
        gateway: &KnownGateway<'_>,
        server: &KnownServer,
        bound: &[usize],
        bindings: &Bindings<'_>,
        builder: &mut RouteBuilder<'_>,
    ) {
        let redirect =
            server.https_redirect.then(|| builder.push(https_redirect(gateway, server, self.behind_proxies)));
        for &index in bound {
            let object = bindings.virtual_services[index];
            let mut routes = None;
            for (h, written) in object.spec.hosts.iter().enumerate() {
                let host = hosts::complete(written, &object.meta.namespace);
                for domain in server.hosts.meet(&host, &object.meta.namespace) {
                    let routes = routes.get_or_insert_with(|| builder.routes_of(index, &gateway.name, server.port));
                    if routes.is_empty() {
                        continue;
                    }
                    let draft = self.by_domain.entry(domain).or_default();
                    draft.origin.get_or_insert_with(|| object.origin(&format!("spec.hosts[{h}]")));
                    draft.add(routes, redirect);
                }
            }
        }
        for domain in server.hosts.hosts().filter(|_| redirect.is_some()) {
            let draft = self.by_domain.entry(domain.to_owned()).or_default();
            draft.origin.get_or_insert_with(|| gateway.object.origin(&format!("{}.hosts", server.path)));
            draft.add(&[], redirect);
        }
    }

    fn finish(self, table: &TableServers, catch_all: &[bool]) -> RouteTable {
        let port = table.port;
        let virtual_hosts = self.by_domain.into_iter().map(|(domain, draft)| VirtualHost {
            name: format!("{domain}:{port}"),
            domain,
            routes: match draft.https_redirect {
                None => in_order(draft.routes, catch_all),
                Some(redirect) if !self.behind_proxies => vec![redirect],
                Some(redirect) => [vec![redirect], in_order(draft.routes, catch_all)].concat(),
            },
            origin: draft.origin.unwrap_or_default(),
        });
        let (name, grpc_web) = (table.name.clone(), table.grpc_web);
        RouteTable { name, grpc_web, connect: table.connect, virtual_hosts: virtual_hosts.collect() }
    }
}

impl HostDraft {
    fn add(&mut self, routes: &[RouteId], redirect: Option<RouteId>) {
        self.https_redirect = self.https_redirect.or(redirect);
        if self.routes.is_empty() {
            // One VirtualService has each of its routes once.
            return self.routes.extend(routes);
        }
        if self.seen.is_empty() {
            self.seen.extend(&self.routes);
        }
        self.routes.extend(routes.iter().filter(|id| self.seen.insert(**id)));
    }
}

/// Catch-alls of all resources behind the other routes; the order is kept otherwise.
fn in_order(routes: Vec<RouteId>, catch_all: &[bool]) -> Vec<RouteId> {
    if routes.is_sorted_by_key(|id| catch_all[*id as usize]) {
        return routes;
    }
    let (last, first): (Vec<_>, Vec<_>) = routes.into_iter().partition(|id| catch_all[*id as usize]);
    [first, last].concat()
}

fn https_redirect(gateway: &KnownGateway<'_>, server: &KnownServer, behind_proxies: bool) -> Route {
    let redirect = Redirect {
        uri: None,
        prefix_rewrite: None,
        authority: None,
        port: None,
        port_from_request: false,
        scheme: Some("https".to_owned()),
        keep_port: true,
        status: 301,
        headers: HeaderOperations::default(),
    };
    Route {
        name: String::new(),
        matches: RouteMatch {
            scheme: behind_proxies.then(|| Box::new(StringMatch::Exact("http".to_owned()))),
            ..RouteMatch::default()
        },
        action: RouteAction::Redirect(Box::new(redirect)),
        origin: gateway.object.origin(&format!("{}.tls.httpsRedirect", server.path)),
        delegated_from: None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::in_order;

    proptest! {
        /// Merging loses nothing, keeps the order of equals, and puts every catch-all behind every other route.
        #[test]
        fn catch_alls_go_last_and_order_is_kept(catch_all in proptest::collection::vec(any::<bool>(), 0..40)) {
            let ids: Vec<u32> = (0..catch_all.len() as u32).collect();
            let merged = in_order(ids.clone(), &catch_all);
            let mut sorted = merged.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, ids);
            let keys: Vec<(bool, u32)> = merged.iter().map(|id| (catch_all[*id as usize], *id)).collect();
            prop_assert!(keys.is_sorted());
        }
    }
}
