//! [`RedisServer`], [`RedisCall`] and its [`RedisAnswer`].

use std::marker::PhantomData;
use std::time::Duration;

use super::resp::{self, RedisValue};
use super::{Call, Failure, Redis, TIMEOUT};
use crate::raw::scratch::Callback;
use crate::raw::{callouts, calls};
use crate::timer::millis;
use crate::{BufferType, HostError};

/// A Redis server that calls can be made to.
///
/// Only Portolan and Higress have these host functions. A filter that uses this type imports them, and other hosts,
/// Envoy and Istio among them, refuse such a module; a filter that does not is not affected.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// /// Counts requests in Redis, for all gateways together.
/// struct Count {
///     redis: RedisServer,
/// }
///
/// impl Filter for Count {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self { redis: RedisServer::new("outbound|6379||redis.test").database(2).connect()? })
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         request.call(&self.redis.command("INCR").arg("requests"), |_: &Self, _, request, answer: &RedisAnswer<'_>| {
///             match answer.value() {
///                 Some(RedisValue::Integer(count)) => request.set_header("x-count", count.to_string().as_bytes())?,
///                 _ => request.remove_header("x-count")?,
///             }
///             Ok(Action::Continue)
///         })
///     }
/// }
///
/// portolan_sdk::filter! { Count: stream, on_request_headers, redis_calls }
///
/// use portolan_sdk::testing::{TestAnswer, TestHost};
/// let host = TestHost::<Count>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.request_headers(&[]);
/// let call = &host.pending_calls()[0];
/// assert_eq!(call.command(), ["INCR", "requests"]);
/// host.answer_call(call, &TestAnswer::redis(b":7\r\n"));
/// assert_eq!(stream.request_header("x-count"), ["7"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisServer {
    upstream: String,
    username: String,
    password: String,
    database: u32,
    timeout: Duration,
}

impl RedisServer {
    /// The server of this cluster, as the user without a name, in database 0, with a timeout of 5 seconds for each command.
    pub fn new(upstream: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            username: String::new(),
            password: String::new(),
            database: 0,
            timeout: TIMEOUT,
        }
    }

    /// As this user; an empty name is the default user.
    #[must_use]
    pub fn credentials(mut self, username: &str, password: &str) -> Self {
        self.username = username.to_owned();
        self.password = password.to_owned();
        self
    }

    /// In this database. The host knows one server by one name: a second one of the same cluster in this plugin, with another
    /// database or user, takes the first one's place.
    #[must_use]
    pub fn database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Waiting this long for each reply; whole milliseconds, at least one.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the server known to the host, once, in [`configure`](crate::Filter::configure). Nothing is sent yet: a server
    /// that does not answer shows in the answers of calls.
    pub fn connect(mut self) -> Result<Self, HostError> {
        let timeout = millis(self.timeout).max(1);
        let upstream = [self.upstream.as_str(), "?db=", &self.database.to_string()].concat();
        callouts::redis_init(&upstream, &self.username, &self.password, timeout)?;
        // Of no more use, and no business of whoever prints the filter.
        self.password.clear();
        Ok(self)
    }

    /// A command without arguments.
    pub fn command(&self, name: &str) -> RedisCall<'_> {
        RedisCall { upstream: &self.upstream, words: 1, query: resp::word(Vec::new(), name.as_bytes()) }
    }
}

/// One command to a [`RedisServer`], sent with [`Request::call`](crate::Request::call),
/// [`Response::call`](crate::Response::call) or [`root::call`](crate::root::call).
#[derive(Clone, Debug)]
pub struct RedisCall<'a> {
    upstream: &'a str,
    words: usize,
    /// The words in RESP.
    query: Vec<u8>,
}

impl RedisCall<'_> {
    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.query = resp::word(self.query, argument.as_ref());
        self.words += 1;
        self
    }

    /// With one more argument, a number.
    #[must_use]
    pub fn number(self, argument: i64) -> Self {
        self.arg(argument.to_string())
    }
}

impl Call for RedisCall<'_> {
    type Kind = Redis;

    fn send(&self) -> Result<u32, HostError> {
        callouts::redis_call(self.upstream, &resp::command(self.words, &self.query))
    }
}

/// The answer to a [`RedisCall`], to be read until the continuation returns.
#[derive(Debug)]
pub struct RedisAnswer<'a> {
    value: Option<RedisValue<'a>>,
    callback: PhantomData<&'a ()>,
}

impl<'a> RedisAnswer<'a> {
    pub(crate) fn read(_callback: &'a Callback, status: u32, size: usize) -> Self {
        let reply = if status == 0 { calls::buffer(BufferType::RedisReply, 0, size).ok().flatten() } else { None };
        Self { value: reply.and_then(RedisValue::parse), callback: PhantomData }
    }

    /// The reply; none when the server could not be asked, did not answer in time, or did not speak RESP. An error that
    /// Redis itself reports is a [`RedisValue::Error`].
    pub fn value(&self) -> Option<&RedisValue<'a>> {
        self.value.as_ref()
    }

    /// Why there is no reply. The host does not say which failure it was, so this is [`Failure::Unavailable`] for all.
    pub fn failure(&self) -> Option<Failure> {
        if self.value.is_none() { Some(Failure::Unavailable) } else { None }
    }
}
