//! [`OnDemand`]: virtual hosts whose rules come when a request first asks for them, and again when they have changed.
//!
//! The filter looks among the rules that it knows and tells the host what it has found and by which version. A request
//! whose snapshot has another version is answered with that one's rules: one that began before a change finds its route
//! among the old rules, one that began after it among the new, in the same VM.

use std::cell::{Ref, RefCell};
use std::rc::Rc;

use portolan_model::filter::{FOUND_ROUTE_FUNCTION, FoundRoute};
use portolan_model::{RouteId, RouteMatch, VirtualHost};
use portolan_sdk::{HostError, Request, Status, log};

use crate::condition;
use crate::head::{Head, RequestHead};
use crate::hosts::Hosts;
use crate::index::{HostRoutes, Routes};
use crate::matcher::{Rules, broken_patterns};

/// When more rules are known all are forgotten; those that are needed come again.
const MAX_RULES: usize = 400_000;

/// See the module.
pub(crate) struct OnDemand {
    tables: Vec<Hosts>,
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    /// By table and virtual host.
    hosts: Vec<Vec<Option<Rc<HostRules>>>>,
    /// How many rules they have together.
    rules: usize,
}

/// The rules of a virtual host as one version has them. Route ids are their places.
pub(crate) struct HostRules {
    version: u64,
    routes: Routes,
    order: HostRoutes,
}

impl OnDemand {
    pub(crate) fn new(tables: &[Vec<VirtualHost>]) -> Self {
        let hosts = tables.iter().map(|hosts| vec![None; hosts.len()]).collect();
        let known = RefCell::new(Known { hosts, rules: 0 });
        Self { tables: tables.iter().map(|hosts| Hosts::new(hosts)).collect(), known }
    }

    /// Number of tables.
    pub(crate) fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Tells the host the request's route. Returns it with the rules that it was found by; none when none fits.
    pub(crate) fn decide(
        &self,
        request: &Request<'_>,
        table: usize,
        head: &RequestHead<'_>,
    ) -> Result<Option<(Rc<HostRules>, RouteId)>, HostError> {
        let Some((host, _)) = self.tables.get(table).and_then(|hosts| hosts.find(head.authority())) else {
            return Ok(None);
        };
        let mut rules = self.known(table, host).clone();
        // Rules that the host has just given are those that it wants.
        for _ in 0..2 {
            let rank = rules.as_ref().and_then(|rules| rules.view().find(head));
            head.outcome()?;
            let version = rules.as_ref().map_or(0, |rules| rules.version);
            let found = FoundRoute { table: table as u32, host, rank: rank.unwrap_or(FoundRoute::NONE), version };
            let answer = request.call_foreign(FOUND_ROUTE_FUNCTION, &found.to_bytes())?;
            if answer.is_empty() {
                return Ok(rules.zip(rank));
            }
            let new = Rc::new(HostRules::read(answer)?);
            self.keep(table, host, &new);
            rules = Some(new);
        }
        Err(HostError { call: FOUND_ROUTE_FUNCTION, status: Status::InternalFailure })
    }

    /// Takes the route back that was told before.
    pub(crate) fn undecide(request: &Request<'_>, table: usize) -> Result<(), HostError> {
        let none = FoundRoute { table: table as u32, host: u32::MAX, rank: FoundRoute::NONE, version: 0 };
        request.call_foreign(FOUND_ROUTE_FUNCTION, &none.to_bytes()).map(|_| ())
    }

    fn known(&self, table: usize, host: u32) -> Ref<'_, Option<Rc<HostRules>>> {
        Ref::map(self.known.borrow(), |known| &known.hosts[table][host as usize])
    }

    /// Keeps the newer of two versions: requests of the older one become fewer.
    fn keep(&self, table: usize, host: u32, new: &Rc<HostRules>) {
        let known = &mut *self.known.borrow_mut();
        let length = |rules: &Option<Rc<HostRules>>| rules.as_ref().map_or(0, |rules| rules.routes.len());
        if known.rules + new.routes.len() > MAX_RULES {
            known.hosts.iter_mut().flatten().for_each(|rules| *rules = None);
            known.rules = 0;
        }
        let place = &mut known.hosts[table][host as usize];
        if place.as_ref().is_none_or(|old| old.version < new.version) {
            known.rules = known.rules - length(place) + new.routes.len();
            *place = Some(Rc::clone(new));
        }
    }
}

impl HostRules {
    fn read(answer: &[u8]) -> Result<Self, HostError> {
        let unreadable = || HostError { call: FOUND_ROUTE_FUNCTION, status: Status::ParseFailure };
        let (version, json) = answer.split_first_chunk().ok_or_else(unreadable)?;
        let matches: Vec<RouteMatch> = serde_json::from_slice(json).map_err(|_| unreadable())?;
        let routes: Routes = matches.into_iter().map(condition::of_route).collect();
        for (rank, regex) in broken_patterns(&routes) {
            log::error(&format!(
                "rule {rank} of a host never matches: `{regex}` is no regular expression that this filter knows"
            ));
        }
        let order = HostRoutes::new((0..).take(routes.len()).collect(), &routes);
        Ok(Self { version: u64::from_le_bytes(*version), routes, order })
    }

    pub(crate) fn view(&self) -> Rules<'_> {
        Rules { routes: &self.routes, order: &self.order }
    }
}

#[cfg(test)]
mod tests;
