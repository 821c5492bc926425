//! The bundled filter `traffic-split`: chooses one of a route's weighted destinations.
//!
//! Reads [`ROUTE_PROPERTY`], sets [`CLUSTER_PROPERTY`], and for a new user of a sticky split [`SET_COOKIE_PROPERTY`].

mod config;
mod cookie;
pub mod splitter;

use portolan_model::Sticky;
use portolan_model::filter::{CLUSTER_PROPERTY, ROUTE_PROPERTY, SET_COOKIE_PROPERTY, TrafficSplitConfig};
use portolan_sdk::prelude::*;
use splitter::RouteSplit;

/// The filter: one [`RouteSplit`] for each route.
pub struct TrafficSplit {
    routes: Vec<RouteSplit>,
}

impl Filter for TrafficSplit {
    type Config = TrafficSplitConfig;
    type Stream = ();

    fn configure(config: TrafficSplitConfig) -> Result<Self, ConfigError> {
        let seed = portolan_sdk::now().unwrap_or_default();
        Ok(Self { routes: config::read(config, seed)? })
    }

    fn stream(&self) {}

    fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
        let Some(route) = request.property(ROUTE_PROPERTY)?.and_then(|id| id.try_into().ok()).map(u32::from_le_bytes)
        else {
            return Ok(Action::Continue);
        };
        if let Some(split) = self.routes.get(route as usize)
            && let Some(choice) = choose(split, request)?
        {
            request.set_property(CLUSTER_PROPERTY, &split.wire(choice))?;
        }
        Ok(Action::Continue)
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
