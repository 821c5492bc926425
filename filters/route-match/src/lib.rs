//! The bundled filter `route-match`: finds the virtual host and the route of a request.
//!
//! Sets [`ROUTE_PROPERTY`], or tells the host by a call when rules come on demand; nothing when no route fits. Reads [`ROUTE_TABLE_PROPERTY`] when there are several tables,
//! and of the request only what the candidate routes ask for. Answers 400 to a path that a lenient reader could take
//! for one of another route.

mod claims;
mod condition;
mod config;
mod explain;
mod guard;
mod hash;
mod head;
mod hosts;
mod index;
pub mod matcher;
mod on_demand;
mod pattern;
mod trie;

use matcher::{Matcher, Rules};
use on_demand::OnDemand;
use portolan_model::RouteId;
use portolan_model::filter::{
    EXPLAIN_PROPERTY, ON_DEMAND_SCHEMA, ROUTE_PROPERTY, ROUTE_TABLE_PROPERTY, RouteMatchConfig,
};
use portolan_sdk::prelude::*;

use crate::head::RequestHead;

/// The filter.
pub struct RouteMatch {
    hosts: VirtualHosts,
    refuse_ambiguous: bool,
    explain: bool,
}

enum VirtualHosts {
    Whole(Matcher),
    OnDemand(OnDemand),
}

impl Filter for RouteMatch {
    type Config = RouteMatchConfig;
    type Stream = ();

    fn configure(config: RouteMatchConfig) -> Result<Self, ConfigError> {
        let (refuse_ambiguous, explain) = (config.refuse_ambiguous, config.explain);
        let hosts = match config.schema {
            ON_DEMAND_SCHEMA => VirtualHosts::OnDemand(OnDemand::new(&config.tables)),
            _ => VirtualHosts::Whole(config::read(config)?),
        };
        Ok(Self { hosts, refuse_ambiguous, explain })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Some(table) = self.table(request)? else { return Ok(Action::Continue) };
        let head = RequestHead::read(request)?;
        match &self.hosts {
            VirtualHosts::Whole(matcher) => self.decide(matcher, table, &head, request),
            VirtualHosts::OnDemand(known) => {
                let found = known.decide(request, table, &head)?;
                if let Some((rules, route)) = found
                    && self.is_refused(rules.view(), &head, route)?
                {
                    OnDemand::undecide(request, table)?;
                    return refuse(request);
                }
                Ok(Action::Continue)
            }
        }
    }
}

impl RouteMatch {
    fn decide(
        &self,
        matcher: &Matcher,
        table: usize,
        head: &RequestHead<'_>,
        request: &Request<'_>,
    ) -> Result<Action, HostError> {
        let host = matcher.host(table, head);
        let route = host.as_ref().and_then(|host| host.rules.find(head));
        if self.explain {
            let explanation = explain::explain(matcher, table, head);
            request.set_property(EXPLAIN_PROPERTY, &serde_json::to_vec(&explanation).unwrap_or_default())?;
        }
        head.outcome()?;
        let Some((host, route)) = host.zip(route) else { return Ok(Action::Continue) };
        if self.is_refused(host.rules, head, route)? {
            return refuse(request);
        }
        request.set_property(ROUTE_PROPERTY, &route.to_le_bytes())?;
        Ok(Action::Continue)
    }

    fn is_refused(&self, rules: Rules<'_>, head: &RequestHead<'_>, route: RouteId) -> Result<bool, HostError> {
        let refused = self.refuse_ambiguous && guard::is_ambiguous(rules, head, route);
        head.outcome().map(|()| refused)
    }

    /// The request's route table; none when there are several and the host does not say which.
    fn table(&self, request: &Request<'_>) -> Result<Option<usize>, HostError> {
        let tables = match &self.hosts {
            VirtualHosts::Whole(matcher) => matcher.tables(),
            VirtualHosts::OnDemand(known) => known.tables(),
        };
        if tables == 1 {
            return Ok(Some(0));
        }
        let id = request.property(ROUTE_TABLE_PROPERTY)?.and_then(|id| id.try_into().ok());
        Ok(id.map(|id| u32::from_le_bytes(id) as usize))
    }
}

fn refuse(request: &Request<'_>) -> Result<Action, HostError> {
    request.reply(&LocalReply::new(400).details("path_ambiguous"))
}

portolan_sdk::filter! { RouteMatch: on_request_headers }

#[cfg(test)]
mod tests;
