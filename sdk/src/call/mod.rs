//! Calls to other hosts: [`HttpCall`], [`GrpcCall`] and [`RedisCall`], each answered in a continuation.
//!
//! A callback makes a call, says what happens with the answer, and returns [`Action::Pause`](crate::Action::Pause).
//! When the answer is there, the continuation is given the filter, the stream's state, the message and the answer, and
//! returns what a callback returns: `Continue` lets the stream go on, `reply` answers it, another `call` goes on waiting.
//!
//! ```
//! use std::time::Duration;
//! use portolan_sdk::prelude::*;
//!
//! /// Asks who somebody is, then whether they may come in.
//! struct Door;
//!
//! impl Filter for Door {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     const ON_ERROR: OnError = OnError::Fail;
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         Ok(Self)
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
//!         let token = request.header("authorization")?.unwrap_or_default();
//!         let who = HttpCall::get("outbound|80||who.test", "/").header("authorization", token);
//!         request.call(&who.timeout(Duration::from_millis(200)), Self::on_user)
//!     }
//! }
//!
//! impl Door {
//!     fn on_user(&self, _: &mut (), request: &Request<'_>, answer: &Answer<'_>) -> Result<Action, HostError> {
//!         let Some(user) = answer.header_str("x-user")?.filter(|_| answer.status() == 200) else {
//!             return request.reply(&LocalReply::new(401));
//!         };
//!         let user = user.to_owned();
//!         let path = format!("/may/{user}");
//!         request.call(&HttpCall::get("outbound|80||policy.test", &path), move |_: &Self, _, request, answer| {
//!             match answer.status() {
//!                 200 => request.set_header("x-user", user.as_bytes())?,
//!                 _ => return request.reply(&LocalReply::new(403)),
//!             }
//!             Ok(Action::Continue)
//!         })
//!     }
//! }
//!
//! // Each kind of call is listed, and `stream`, since a call must know when its stream ends.
//! portolan_sdk::filter! { Door: stream, on_request_headers, http_calls }
//!
//! use portolan_sdk::testing::{TestAnswer, TestHost};
//! let host = TestHost::<Door>::start("").expect("any configuration will do");
//! let mut stream = host.stream();
//! assert_eq!(stream.request_headers(&[("authorization", "t")]), Action::Pause);
//! host.answer_call(&host.pending_calls()[0], &TestAnswer::new(200).header("x-user", "ada"));
//! let second = &host.pending_calls()[0];
//! assert_eq!(second.path, "/may/ada");
//! host.answer_call(second, &TestAnswer::new(200));
//! assert!(!stream.is_paused());
//! assert_eq!(stream.request_header("x-user"), ["ada"]);
//! ```
//!
//! A filter that forgets to list one does not compile:
//!
//! ```compile_fail,E0277
//! use portolan_sdk::prelude::*;
//!
//! struct Deaf;
//!
//! impl Filter for Deaf {
//!     type Config = NoConfig;
//!     type Stream = ();
//!
//!     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
//!         Ok(Self)
//!     }
//!
//!     fn stream(&self) {}
//!
//!     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
//!         request.call(&HttpCall::get("outbound|80||a.test", "/"), |_: &Self, _, _, _| Ok(Action::Continue))
//!     }
//! }
//!
//! portolan_sdk::filter! { Deaf: stream, on_request_headers }
//! ```
//!
//! - **A call that fails** is an answer too: [`Answer::failure`] says so, and `status` is 503 or 504. A call that cannot
//!   even be made is an `Err` of `call` at once, which `?` hands to [`ON_ERROR`](crate::Filter::ON_ERROR).
//! - **A stream that ends** meanwhile drops its continuations unrun, with what they captured.
//! - **Meanwhile** no callback of the same direction runs: parts of a body, and trailers, that come while a stream waits
//!   are given to the filter after the continuation has said `Continue`. Callbacks of the other direction run.
//! - **Several calls at once**: the stream goes on when the last continuation has run and says `Continue`; the first
//!   `reply` answers it. Calls that a stream need not wait for are made with [`root::call`](crate::root::call).
//! - **In every phase**: continuations of a call from a body or trailers callback read and change what that callback could.
//! - **Bounds**: the route's timeout and the host's limit for paused streams (15 s in Portolan) go on counting; Portolan has
//!   1,000 calls in flight for each VM, then `call` is an `Err`.

mod grpc;
mod http;
mod redis;
mod resp;

use std::time::Duration;

pub use grpc::{GrpcAnswer, GrpcCall};
pub use http::{Answer, HttpCall};
pub use redis::{RedisAnswer, RedisCall, RedisServer};
pub use resp::RedisValue;

use crate::dispatch::{Pending, Plugin};
use crate::{Filter, HostError};

/// How long a call waits for its answer unless it says otherwise.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Something that can be asked of another host. Only the SDK's own calls are.
pub trait Call {
    /// Which kind it is, and so what its answer looks like.
    type Kind: Kind;

    /// Sends it; the host's id.
    #[doc(hidden)]
    fn send(&self) -> Result<u32, HostError>;
}

/// A kind of call: [`Http`], [`Grpc`] or [`Redis`]; or [`Hold`].
pub trait Kind: Sized + 'static {
    /// What a continuation is given.
    type Answer<'a>;

    /// Who waits for answers of this kind.
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "nobody else can make a kind, nor call this")]
    fn pending<F: Filter>(plugin: &Plugin<F>) -> &Pending<F, Self>;
}

/// Calls of HTTP.
#[derive(Debug)]
pub enum Http {}

/// Calls of gRPC.
#[derive(Debug)]
pub enum Grpc {}

/// Calls of Redis.
#[derive(Debug)]
pub enum Redis {}

impl Kind for Http {
    type Answer<'a> = Answer<'a>;

    #[expect(private_interfaces, reason = "as in the trait")]
    fn pending<F: Filter>(plugin: &Plugin<F>) -> &Pending<F, Self> {
        &plugin.http
    }
}

impl Kind for Grpc {
    type Answer<'a> = GrpcAnswer<'a>;

    #[expect(private_interfaces, reason = "as in the trait")]
    fn pending<F: Filter>(plugin: &Plugin<F>) -> &Pending<F, Self> {
        &plugin.grpc
    }
}

impl Kind for Redis {
    type Answer<'a> = RedisAnswer<'a>;

    #[expect(private_interfaces, reason = "as in the trait")]
    fn pending<F: Filter>(plugin: &Plugin<F>) -> &Pending<F, Self> {
        &plugin.redis
    }
}

/// No call, but a stream that waits for the filter itself: see [`Held`](crate::Held).
#[derive(Debug)]
pub enum Hold {}

impl Kind for Hold {
    type Answer<'a> = ();

    #[expect(private_interfaces, reason = "as in the trait")]
    fn pending<F: Filter>(plugin: &Plugin<F>) -> &Pending<F, Self> {
        &plugin.holds
    }
}

/// Why a call has no answer that is worth reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or nobody could be reached.
    Unavailable,
    /// Nobody answered in time.
    TimedOut,
}
