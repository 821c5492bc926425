//! Calls of the filter itself, which belong to no stream.
//!
//! ```
//! use std::cell::RefCell;
//! use std::time::Duration;
//! use portolan_sdk::{prelude::*, root, timer};
//!
//! /// Keeps a copy of a key set.
//! struct Keys {
//!     json: RefCell<Vec<u8>>,
//! }
//!
//! impl Filter for Keys {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         timer::every(Duration::from_millis(1))?;
//!         Ok(Self { json: RefCell::default() })
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_tick(&self) -> Result<(), HostError> {
//!         timer::every(Duration::from_secs(300))?;
//!         root::call(&HttpCall::get("outbound|443||issuer.test", "/jwks.json"), |keys: &Self, answer: &Answer<'_>| {
//!             if answer.status() == 200 {
//!                 keys.json.replace(answer.body()?.to_vec());
//!             }
//!             Ok(())
//!         })
//!     }
//! }
//!
//! portolan_sdk::filter! { Keys: on_tick, http_calls }
//!
//! use portolan_sdk::testing::{TestAnswer, TestHost};
//! let host = TestHost::<Keys>::start("").expect("any configuration will do");
//! host.tick();
//! host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).body(b"{}"));
//! ```

use crate::HostError;
use crate::call::{Call, Kind};
use crate::dispatch::{self, Makes, Then};

/// Asks another host for the filter itself: from [`on_tick`](crate::Filter::on_tick), `configure`, or any other callback.
/// `then` is given the filter and the answer, also when the stream that was the reason is over by then. To send something
/// and not care, give it nothing to do.
///
/// From `configure` it is the filter that `configure` makes who hears the answer. Portolan sends such calls when a worker
/// has taken the VM; Envoy may not know its clusters yet and refuse them: call from the first tick where that matters.
pub fn call<C, F>(
    call: &C,
    then: impl for<'a> FnOnce(&F, &<C::Kind as Kind>::Answer<'a>) -> Result<(), HostError> + 'static,
) -> Result<(), HostError>
where
    C: Call,
    F: Makes<C::Kind>,
{
    let id = call.send()?;
    dispatch::expect::<F, C::Kind>(id, Then::Plugin(Box::new(then)));
    Ok(())
}
