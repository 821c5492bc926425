//! Routes of one VirtualService for one Gateway and port, in order, up to its catch-all.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_model::{Route, RouteId, RouteMatch};

use super::TranslateOptions;
use super::actions::{self, Reference};
use super::binding::{Bindings, gateway_name};
use super::conditions;
use super::delegates::{Delegates, Rule};
use super::destinations::Destinations;
use super::fits;
use super::memo::{Made, Memo, Record, address};
use super::tables::Routing;
use crate::object::Object;
use crate::resources::istio::VirtualService;
use crate::resources::istio::virtual_service::{HttpMatch, HttpRoute};

/// One rule and match of a VirtualService; the port only where the action depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
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
    made: HashMap<(usize, Part), Option<RouteId>>,
    /// By VirtualService: how many of its routes were made.
    counts: Vec<usize>,
    pub(super) routes: Vec<Arc<Route>>,
    /// By route: Istio moves catch-alls behind the other routes of a host.
    pub(super) catch_all: Vec<bool>,
    /// Which routes may be taken over by the next translation, and what all of them need.
    pub(super) records: Vec<Record>,
    pub(super) references: Vec<Arc<[Reference]>>,
}

impl<'a> RouteBuilder<'a> {
    pub(super) fn new(routing: &Routing<'a>) -> Self {
        let Routing { bindings, delegates, destinations, options, memo } = *routing;
        Self {
            bindings,
            delegates,
            destinations,
            options,
            memo,
            made: HashMap::new(),
            counts: vec![0; bindings.virtual_services.len()],
            routes: Vec::new(),
            catch_all: Vec::new(),
            records: Vec::new(),
            references: Vec::new(),
        }
    }

    /// The routes of a VirtualService on a Gateway's port, in order. A catch-all ends them.
    pub(super) fn routes_of(&mut self, virtual_service: usize, gateway: &str, port: u16) -> Vec<RouteId> {
        let object = self.bindings.virtual_services[virtual_service];
        let mut ids = Vec::new();
        for (number, rule) in self.delegates.rules(virtual_service, object).iter().enumerate() {
            for condition in alternatives(&rule.written) {
                let asked = condition.map(|c| &rule.written.matches[c]);
                if asked.is_some_and(|asked| !self.applies(rule.object, asked, gateway, port)) {
                    continue;
                }
                let Some(id) = self.route(virtual_service, (number, rule), condition, port) else { continue };
                ids.push(id);
                if self.catch_all[id as usize] {
                    return ids;
                }
            }
        }
        ids
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
        virtual_service: usize,
        (number, rule): (usize, &Rule<'_>),
        condition: Option<usize>,
        port: u16,
    ) -> Option<RouteId> {
        let port_matters = actions::depends_on_listener(&rule.written);
        let part = Part { rule: number, condition, port: port_matters.then_some(port) };
        if let Some(made) = self.made.get(&(virtual_service, part)) {
            return *made;
        }
        let object = self.bindings.virtual_services[virtual_service];
        let known = self.memo.route(object, self.counts[virtual_service], part).filter(|_| !delegates(object));
        let made = known.cloned().or_else(|| self.make(rule, condition, port));
        let id = made.map(|made| self.take(virtual_service, part, made));
        self.made.insert((virtual_service, part), id);
        id
    }

    fn take(&mut self, virtual_service: usize, part: Part, made: Made) -> RouteId {
        self.counts[virtual_service] += 1;
        let Made { route, is_catch_all, references } = made;
        let id = self.add(route, is_catch_all);
        self.references.push(references.clone());
        let service = address(self.bindings.virtual_services[virtual_service]);
        self.records.push(Record { service, part, id, is_catch_all, references });
        id
    }

    fn make(&self, rule: &Rule<'_>, condition: Option<usize>, port: u16) -> Option<Made> {
        let (action, references) = actions::translate(rule, self.destinations, port)?;
        let asked = condition.map(|c| &rule.written.matches[c]);
        let matches = asked.map_or_else(RouteMatch::default, conditions::translate);
        let (origin, delegated_from) = rule.origins(condition);
        let is_catch_all = matches.is_catch_all();
        let delegated_from = delegated_from.map(Box::new);
        let route = Route { name: name(&rule.written, asked), matches, action, origin, delegated_from };
        Some(Made { route: Arc::new(route), is_catch_all, references: references.into() })
    }

    /// Adds a route that comes from no rule.
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

/// Whether other VirtualServices have a part in its routes.
fn delegates(object: &Object<VirtualService>) -> bool {
    object.spec.http.iter().any(|rule| rule.delegate.is_some())
}

/// Each match of a rule, or none once when it has none.
fn alternatives(rule: &HttpRoute) -> impl Iterator<Item = Option<usize>> {
    let bare = rule.matches.is_empty().then_some(None);
    (0..rule.matches.len()).map(Some).chain(bare)
}

/// As Istio makes it: empty without names, which logs show as `-`.
fn name(rule: &HttpRoute, condition: Option<&HttpMatch>) -> String {
    let own = rule.name.as_deref().unwrap_or_default();
    match condition.and_then(|c| c.name.as_deref()).filter(|name| !name.is_empty()) {
        Some(name) => format!("{own}.{name}"),
        None => own.to_owned(),
    }
}
