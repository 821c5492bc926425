//! The bundled filter `fault`: delays and aborts requests on purpose, with the semantics of Envoy's filter of this name.
//!
//! The gateway has one of its own for the `fault` of VirtualServices, configured by route with a [`FaultConfig`].

mod config;
pub mod delays;
pub mod injector;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use config::Config;
use delays::Delays;
use injector::{Abort, Dice, Injector, Plan};
use portolan_filter_conditions::ByRoute;
use portolan_model::RouteId;
use portolan_model::filter::{FAULT_PROPERTY, FaultConfig, ROUTE_PROPERTY};
use portolan_sdk::metrics::{Counter, Gauge};
use portolan_sdk::{Held, prelude::*, timer};

/// Most requests that wait in one VM, those included that are over and whose time has not come.
const MAX_WAITING: usize = 100_000;

/// The filter.
pub struct Fault {
    faults: Faults,
    max_active: Option<u64>,
    dice: Cell<Dice>,
    delays: RefCell<Delays<Held<Fault>>>,
    delayed: Counter,
    aborted: Counter,
    overflown: Counter,
    active: Gauge,
}

/// Which faults there are.
enum Faults {
    /// For all requests that the filter sees.
    One(Box<Injector>),
    /// By rising id of the route.
    ByRoute(Vec<(RouteId, Injector)>),
}

/// What a request with a fault keeps until it is over.
#[derive(Default)]
pub struct Injected {
    _active: Option<Active>,
}

/// Counts as one active fault.
struct Active(Gauge);

impl Drop for Active {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure.
        let _ = self.0.add(-1);
    }
}

impl Filter for Fault {
    type Config = ByRoute<Config, FaultConfig>;
    type Stream = Injected;

    fn configure(config: Self::Config) -> Result<Self, ConfigError> {
        let (faults, max_active) = match config {
            ByRoute::Whole(config) => {
                let (injector, max_active) = config.injector()?;
                (Faults::One(Box::new(injector)), max_active)
            }
            ByRoute::Routes(config) => (Faults::ByRoute(config::of_routes(config)?), None),
        };
        let injected = Counter::named("fault_injected_total");
        Ok(Self {
            faults,
            max_active,
            dice: Cell::new(Dice(portolan_sdk::now()?)),
            delays: RefCell::default(),
            delayed: injected.with(&[("kind", "delay")])?,
            aborted: injected.with(&[("kind", "abort")])?,
            overflown: Counter::define("fault_overflow_total")?,
            active: Gauge::define("fault_active")?,
        })
    }

    fn stream(&self) -> Injected {
        Injected::default()
    }

    fn on_request_headers(&self, injected: &mut Injected, request: &Request<'_>) -> Result<Action, HostError> {
        let Some(injector) = self.injector(request)? else { return Ok(Action::Continue) };
        let mut dice = self.dice.get();
        let plan = injector.plan(request, &mut dice)?;
        self.dice.set(dice);
        if plan == Plan::default() {
            return Ok(Action::Continue);
        }
        if self.is_full()? {
            self.overflown.increment()?;
            return Ok(Action::Continue);
        }
        self.active.add(1)?;
        injected._active = Some(Active(self.active));
        match plan {
            Plan { delay: Some(delay), abort } => {
                self.delayed.increment()?;
                request.set_property(FAULT_PROPERTY, b"DI")?;
                self.wait(request, delay, abort)?;
                Ok(Action::Pause)
            }
            Plan { delay: None, abort: Some(abort) } => self.abort(request, &abort),
            Plan { delay: None, abort: None } => Ok(Action::Continue),
        }
    }

    fn on_tick(&self) -> Result<(), HostError> {
        let due = self.delays.borrow_mut().due(portolan_sdk::now()?);
        due.into_iter().for_each(Held::resume);
        match self.delays.borrow().next(portolan_sdk::now()?) {
            Some(next) => tick_after(next),
            None => timer::stop(),
        }
    }
}

impl Fault {
    /// The faults of this request's route.
    fn injector(&self, request: &Request<'_>) -> Result<Option<&Injector>, HostError> {
        let routes = match &self.faults {
            Faults::One(injector) => return Ok(Some(injector)),
            Faults::ByRoute(routes) => routes,
        };
        let Some(route) = request.property(ROUTE_PROPERTY)?.and_then(|id| id.try_into().ok()) else { return Ok(None) };
        let at = routes.binary_search_by_key(&RouteId::from_le_bytes(route), |(known, _)| *known);
        Ok(at.ok().map(|at| &routes[at].1))
    }

    fn wait(&self, request: &Request<'_>, delay: Duration, abort: Option<Abort>) -> Result<(), HostError> {
        let held = request.hold(move |fault: &Self, _, request| match &abort {
            None => Ok(Action::Continue),
            Some(abort) => fault.abort(request, abort),
        });
        let is_first = self.delays.borrow_mut().put(portolan_sdk::now()?, delay, held);
        if is_first { tick_after(delay) } else { Ok(()) }
    }

    fn abort(&self, request: &Request<'_>, abort: &Abort) -> Result<Action, HostError> {
        self.aborted.increment()?;
        request.set_property(FAULT_PROPERTY, b"FI")?;
        let reply = LocalReply::new(abort.status).body(abort.body.as_bytes()).details("fault_filter_abort");
        request.reply(&LocalReply { grpc_status: abort.grpc_status, ..reply })
    }

    /// Workers look at the gauge and raise it one after the other: it may be passed by as many as there are.
    fn is_full(&self) -> Result<bool, HostError> {
        if self.delays.borrow().len() >= MAX_WAITING {
            return Ok(true);
        }
        match self.max_active {
            Some(max) => Ok(self.active.value()? >= max),
            None => Ok(false),
        }
    }
}

/// Ticks count whole milliseconds, and a request must not go on too early.
fn tick_after(delay: Duration) -> Result<(), HostError> {
    timer::every(delay + Duration::from_micros(999))
}

portolan_sdk::filter! { Fault: schema, stream, on_request_headers, on_tick, holds }

#[cfg(test)]
mod tests;
