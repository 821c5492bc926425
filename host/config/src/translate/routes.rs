//! Routes of one VirtualService for one Gateway and port, in order, up to its catch-all.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::{Route, RouteAction, RouteId, RouteMatch};

use super::TranslateOptions;
use super::actions::{self, Reference};
use super::binding::{Bindings, gateway_name};
use super::conditions;
use super::delegates::{Delegates, Rule};
use super::destinations::Destinations;
use super::fits;
use super::memo::{List, Made, Memo, Served, address};
use super::tables::Routing;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{HttpMatch, HttpRoute};

/// One rule and match of a VirtualService; the port only where the action depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Part {
    rule: usize,
    condition: Option<usize>,
    port: Option<u16>,
}

/// Makes routes when they are first asked for, so that virtual hosts share them by id.
pub(super) struct RouteBuilder<'a> {
    bindings: &'a Bindings<'a>,
    delegates: &'a Delegates<'a>,
    destinations: &'a Destinations<'a>,
    options: &'a TranslateOptions,
    memo: &'a Memo,
    /// By VirtualService: what has become of it so far.
    drafts: Vec<Option<Draft>>,
    pub(super) routes: Vec<Arc<Route>>,
    /// By route: Istio moves catch-alls behind the other routes of a host.
    pub(super) catch_all: Vec<bool>,
}

/// What becomes of a VirtualService.
#[derive(Default)]
pub(super) struct Draft {
    /// The same of the last translation, of which it takes everything.
    pub(super) known: Option<Arc<Served>>,
    /// By route in the order in which they were made; of a known one, none until it is asked for.
    pub(super) ids: Vec<Option<RouteId>>,
    made: HashMap<Part, Option<usize>>,
    pub(super) lists: Vec<List>,
    pub(super) references: Vec<Arc<Reference>>,
}

impl<'a> RouteBuilder<'a> {
    pub(super) fn new(routing: &Routing<'a>) -> Self {
        let Routing { bindings, delegates, destinations, options, memo } = *routing;
        let mut drafts = Vec::new();
        drafts.resize_with(bindings.virtual_services.len(), || None);
        Self { bindings, delegates, destinations, options, memo, drafts, routes: Vec::new(), catch_all: Vec::new() }
    }

    /// The clusters that all routes need.
    pub(super) fn references(&self) -> Vec<Arc<Reference>> {
        let mut references = Vec::new();
        for draft in self.drafts.iter().flatten() {
            references.extend(draft.known.iter().flat_map(|known| known.references.iter()).cloned());
            references.extend(draft.references.iter().cloned());
        }
        references
    }

    /// What has become of each VirtualService that is served, by its address.
    pub(super) fn drafts(&mut self) -> Vec<(usize, Draft)> {
        let drafts = std::mem::take(&mut self.drafts).into_iter().zip(&self.bindings.virtual_services);
        drafts.filter_map(|(draft, object)| Some((address(object), draft?))).collect()
    }

    /// The routes of a VirtualService on a Gateway's port, in order. A catch-all ends them.
    pub(super) fn routes_of(&mut self, virtual_service: usize, gateway: &str, port: u16) -> Vec<RouteId> {
        let object = self.bindings.virtual_services[virtual_service];
        let mut draft = self.drafts[virtual_service].take().unwrap_or_else(|| Draft::of(self.memo.served(object)));
        let known = draft.known.clone().and_then(|known| self.known_list(&mut draft.ids, &known, gateway, port));
        let ids = known.unwrap_or_else(|| {
            let list = self.list(virtual_service, &mut draft, gateway, port);
            let ids = list.iter().filter_map(|made| draft.ids[*made]).collect();
            draft.lists.push(List { gateway: gateway.into(), port, routes: list.into() });
            ids
        });
        self.drafts[virtual_service] = Some(draft);
        ids
    }

    /// The routes that the last translation has made for a Gateway's port.
    fn known_list(
        &mut self,
        ids: &mut [Option<RouteId>],
        known: &Served,
        gateway: &str,
        port: u16,
    ) -> Option<Vec<RouteId>> {
        let list = known.lists.iter().find(|list| *list.gateway == *gateway && list.port == port)?;
        let id = |made: &usize| {
            let Made { route, is_catch_all } = &known.routes[*made];
            *ids[*made].get_or_insert_with(|| self.add(route.clone(), *is_catch_all))
        };
        Some(list.routes.iter().map(id).collect())
    }

    fn list(&mut self, virtual_service: usize, draft: &mut Draft, gateway: &str, port: u16) -> Vec<usize> {
        let object = self.bindings.virtual_services[virtual_service];
        let mut list = Vec::new();
        for (number, rule) in self.delegates.rules(virtual_service, object).iter().enumerate() {
            for condition in alternatives(&rule.written) {
                let asked = condition.map(|c| &rule.written.matches[c]);
                if asked.is_some_and(|asked| !self.applies(rule.object, asked, gateway, port)) {
                    continue;
                }
                let Some((made, is_catch_all)) = self.route(draft, (number, rule), condition, port) else { continue };
                list.push(made);
                if is_catch_all {
                    return list;
                }
            }
        }
        list
    }

    /// Whether a match is for this Gateway, port and caller. Gateways in a match replace the caller's conditions.
    fn applies(&self, object: &Object<VirtualService>, asked: &HttpMatch, gateway: &str, port: u16) -> bool {
        let own_port = asked.port.is_none_or(|asked| asked == u32::from(port));
        let here = if asked.gateways.is_empty() {
            fits(&asked.source_labels, &self.options.labels)
                && asked.source_namespace.as_deref().is_none_or(|n| n.is_empty() || n == self.options.namespace)
        } else {
            asked.gateways.iter().any(|name| gateway_name(name, &object.meta.namespace) == gateway)
        };
        own_port && here
    }

    fn route(
        &mut self,
        draft: &mut Draft,
        (number, rule): (usize, &Rule<'_>),
        condition: Option<usize>,
        port: u16,
    ) -> Option<(usize, bool)> {
        let port_matters = actions::depends_on_listener(&rule.written);
        let part = Part { rule: number, condition, port: port_matters.then_some(port) };
        let made = match draft.made.get(&part) {
            Some(made) => *made,
            None => {
                let made =
                    self.make(rule, condition, port).map(|(route, references)| self.take(draft, route, references));
                draft.made.insert(part, made);
                made
            }
        };
        let made = made?;
        Some((made, self.catch_all[draft.ids[made]? as usize]))
    }

    fn take(&mut self, draft: &mut Draft, route: Route, references: Vec<Arc<Reference>>) -> usize {
        draft.ids.push(Some(self.push(route)));
        draft.references.extend(references);
        draft.ids.len() - 1
    }

    fn make(&self, rule: &Rule<'_>, condition: Option<usize>, port: u16) -> Option<(Route, Vec<Arc<Reference>>)> {
        let (mut action, references) = actions::translate(rule, self.destinations, port)?;
        let asked = condition.map(|c| &rule.written.matches[c]);
        if let RouteAction::Forward(forward) = &mut action {
            forward.stat_prefix = asked.and_then(stat_prefix).map(Box::from);
        }
        let matches = asked.map_or_else(RouteMatch::default, conditions::translate);
        let (origin, delegated_from) = rule.origins(condition);
        let delegated_from = delegated_from.map(Box::new);
        Some((Route { name: name(&rule.written, asked), matches, action, origin, delegated_from }, references))
    }

    /// Adds a route that was made just now.
    pub(super) fn push(&mut self, route: Route) -> RouteId {
        let is_catch_all = route.matches.is_catch_all();
        self.add(Arc::new(route), is_catch_all)
    }

    fn add(&mut self, route: Arc<Route>, is_catch_all: bool) -> RouteId {
        self.catch_all.push(is_catch_all);
        self.routes.push(route);
        (self.routes.len() - 1) as RouteId
    }
}

impl Draft {
    fn of(known: Option<Arc<Served>>) -> Self {
        let ids = vec![None; known.as_ref().map_or(0, |known| known.routes.len())];
        Self { known, ids, ..Self::default() }
    }

    /// Of the routes that it takes from the last translation.
    pub(super) fn known_ids(&self) -> impl Iterator<Item = RouteId> {
        let known = self.known.as_ref().map_or(0, |known| known.routes.len());
        self.ids.iter().take(known).filter_map(|id| *id)
    }
}

/// Each match of a rule, or none once when it has none.
fn alternatives(rule: &HttpRoute) -> impl Iterator<Item = Option<usize>> {
    let bare = rule.matches.is_empty().then_some(None);
    (0..rule.matches.len()).map(Some).chain(bare)
}

fn stat_prefix(condition: &HttpMatch) -> Option<&str> {
    condition.stat_prefix.as_deref().filter(|prefix| !prefix.is_empty())
}

/// As Istio makes it: empty without names, which logs show as `-`.
fn name(rule: &HttpRoute, condition: Option<&HttpMatch>) -> String {
    let own = rule.name.as_deref().unwrap_or_default();
    match condition.and_then(|c| c.name.as_deref()).filter(|name| !name.is_empty()) {
        Some(name) => format!("{own}.{name}"),
        None => own.to_owned(),
    }
}
