//! [`OnDemand`]: splits that come when a request first needs them. A number means one split for ever, so none of them is
//! ever out of date.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use portolan_model::filter::SPLIT_FUNCTION;
use portolan_sdk::{HostError, Request, Status};

use crate::splitter::{RouteSplit, Weyl};

/// When more are known all are forgotten, those of routes that are no more among them; who is needed comes again.
const MAX_KNOWN: usize = 65_536;

/// See the module.
pub struct OnDemand {
    /// Decides where sequences begin.
    seed: u64,
    known: RefCell<HashMap<u64, Rc<RouteSplit>>>,
}

impl OnDemand {
    /// Nothing is known yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, known: RefCell::default() }
    }

    /// The split of this number, which is that of the request's route.
    pub(crate) fn split(&self, number: u64, request: &Request<'_>) -> Result<Rc<RouteSplit>, HostError> {
        if let Some(split) = self.known.borrow().get(&number) {
            return Ok(Rc::clone(split));
        }
        let json = request.call_foreign(SPLIT_FUNCTION, &[])?;
        let unreadable = |_| HostError { call: SPLIT_FUNCTION, status: Status::ParseFailure };
        let split = serde_json::from_slice(json).map_err(unreadable)?;
        let split = Rc::new(RouteSplit::new(split, Weyl::starting_at(self.seed ^ number << 40)));
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(number, Rc::clone(&split));
        Ok(split)
    }
}
