//! The bundled filter `route-match`: finds the virtual host and the route of a request.
//!
//! Sets [`ROUTE_PROPERTY`]; nothing when no route fits. Reads [`ROUTE_TABLE_PROPERTY`] when there are several tables,
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
mod pattern;
mod trie;

use matcher::Matcher;
use portolan_model::filter::{EXPLAIN_PROPERTY, ROUTE_PROPERTY, ROUTE_TABLE_PROPERTY, RouteMatchConfig};
use portolan_sdk::prelude::*;

use crate::head::RequestHead;

/// The filter.
pub struct RouteMatch {
    matcher: Matcher,
    refuse_ambiguous: bool,
    explain: bool,
}

impl Filter for RouteMatch {
    type Config = RouteMatchConfig;
    type Stream = ();

    fn configure(config: RouteMatchConfig) -> Result<Self, ConfigError> {
        let (refuse_ambiguous, explain) = (config.refuse_ambiguous, config.explain);
        Ok(Self { matcher: config::read(config)?, refuse_ambiguous, explain })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Some(table) = self.table(request)? else { return Ok(Action::Continue) };
        let head = RequestHead::read(request)?;
        let route = self.matcher.find(table, &head);
        if self.explain {
            let explanation = explain::explain(&self.matcher, table, &head);
            request.set_property(EXPLAIN_PROPERTY, &serde_json::to_vec(&explanation).unwrap_or_default())?;
        }
        head.outcome()?;
        if let Some(route) = route.filter(|_| self.refuse_ambiguous)
            && guard::is_ambiguous(&self.matcher, table, &head, route)
        {
            head.outcome()?;
            return request.reply(&LocalReply::new(400).details("path_ambiguous"));
        }
        if let Some(route) = route {
            request.set_property(ROUTE_PROPERTY, &route.to_le_bytes())?;
        }
        Ok(Action::Continue)
    }
}

impl RouteMatch {
    /// The request's route table; none when there are several and the host does not say which.
    fn table(&self, request: &Request<'_>) -> Result<Option<usize>, HostError> {
        if self.matcher.tables() == 1 {
            return Ok(Some(0));
        }
        let id = request.property(ROUTE_TABLE_PROPERTY)?.and_then(|id| id.try_into().ok());
        Ok(id.map(|id| u32::from_le_bytes(id) as usize))
    }
}

portolan_sdk::filter! { RouteMatch: on_request_headers }

#[cfg(test)]
mod tests;
