//! The bundled filter `traffic-split`: chooses one of a route's weighted destinations.
//!
//! Reads [`ROUTE_PROPERTY`], or [`SPLIT_PROPERTY`] when splits come on demand, sets [`CLUSTER_PROPERTY`], and for a new user of a sticky split [`SET_COOKIE_PROPERTY`].

mod config;
mod cookie;
mod on_demand;
pub mod splitter;

use on_demand::OnDemand;
use portolan_model::Sticky;
use portolan_model::filter::{
    CLUSTER_PROPERTY, ON_DEMAND_SCHEMA, ROUTE_PROPERTY, SET_COOKIE_PROPERTY, SPLIT_PROPERTY, SplitRef,
    TrafficSplitConfig,
};
use portolan_sdk::prelude::*;
use splitter::RouteSplit;

/// The filter.
pub enum TrafficSplit {
    /// One [`RouteSplit`] for each route.
    Whole(Vec<RouteSplit>),
    /// Those that requests have asked for.
    OnDemand(OnDemand),
}

impl Filter for TrafficSplit {
    type Config = TrafficSplitConfig;
    type Stream = ();

    fn configure(config: TrafficSplitConfig) -> Result<Self, ConfigError> {
        let seed = portolan_sdk::now().unwrap_or_default();
        if config.schema == ON_DEMAND_SCHEMA {
            return Ok(Self::OnDemand(OnDemand::new(seed)));
        }
        Ok(Self::Whole(config::read(config, seed)?))
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        match self {
            Self::Whole(routes) => {
                let id = request.property(ROUTE_PROPERTY)?.and_then(|id| id.try_into().ok()).map(u32::from_le_bytes);
                if let Some(split) = id.and_then(|id| routes.get(id as usize)) {
                    decide(split, request)?;
                }
            }
            Self::OnDemand(known) => match request.property(SPLIT_PROPERTY)?.and_then(SplitRef::from_bytes) {
                Some(SplitRef::One(cluster)) => request.set_property(CLUSTER_PROPERTY, &splitter::wire(cluster, 0))?,
                Some(SplitRef::Many(number)) => decide(&*known.split(number, request)?, request)?,
                None => {}
            },
        }
        Ok(Action::Continue)
    }
}

fn decide(split: &RouteSplit, request: &Request<'_>) -> Result<(), HostError> {
    match choose(split, request)? {
        Some(choice) => request.set_property(CLUSTER_PROPERTY, &split.wire(choice)),
        None => Ok(()),
    }
}

/// The destination's index; none for a route that does not forward.
fn choose(split: &RouteSplit, request: &Request<'_>) -> Result<Option<usize>, HostError> {
    if split.len() < 2 {
        return Ok(split.draw());
    }
    match split.sticky() {
        None => Ok(split.draw()),
        Some(Sticky::Header(name)) => Ok(match request.header(name)? {
            Some(value) => split.of_user(value),
            None => split.draw(),
        }),
        Some(Sticky::Cookie(name)) => by_cookie(split, name, request),
    }
}

fn by_cookie(split: &RouteSplit, name: &str, request: &Request<'_>) -> Result<Option<usize>, HostError> {
    // A client may send several `cookie` lines; HTTP/2 clients do.
    for (header, value) in request.headers()? {
        if header == b"cookie"
            && let Some(known) = cookie::value(value, name).and_then(|id| split.of_id(id))
        {
            return Ok(Some(known));
        }
    }
    let choice = split.draw();
    if let Some(id) = choice.and_then(|choice| split.id(choice)) {
        request.set_property(SET_COOKIE_PROPERTY, cookie::set(name, id).as_bytes())?;
    }
    Ok(choice)
}

portolan_sdk::filter! { TrafficSplit: on_request_headers }

#[cfg(test)]
mod tests;
