//! [`Exchange`]: what requests and responses have in common.

use std::cell::Cell;
use std::marker::PhantomData;

use super::at::{At, Part};
use crate::pairs;
use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::{Action, BufferType, HostError, LocalReply};

/// One request and its response, as far as it does not matter which of both is being handled.
///
/// Values are lent for `'a`: until the callback returns. Copy what must stay longer.
///
/// ```
/// use portolan_sdk::prelude::*;
///
/// struct Access;
///
/// impl Filter for Access {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self)
///     }
///
///     fn stream(&self) {}
///
///     fn on_log(&self, _: &mut (), exchange: &Exchange<'_>) -> Result<(), HostError> {
///         let ip = exchange.source_ip()?.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string());
///         let code = exchange.response_code()?.unwrap_or_default();
///         let route = exchange.route_name()?.unwrap_or("none");
///         exchange.set_property("access.summary", format!("{ip} {code} {route} {}", exchange.is_tls()?).as_bytes())
///     }
/// }
///
/// portolan_sdk::filter! { Access: on_log }
///
/// let host = portolan_sdk::testing::TestHost::<Access>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.set_property("source\0address", b"[::1]:4711");
/// stream.set_property("response\0code", &404_i64.to_le_bytes());
/// stream.log();
/// assert_eq!(stream.property("access.summary").as_deref(), Some(b"::1 404 none false".as_slice()));
/// ```
#[derive(Debug)]
pub struct Exchange<'a> {
    pub(super) at: At,
    call_data_size: usize,
    /// The filter has answered the request.
    answered: Cell<bool>,
    callback: PhantomData<&'a ()>,
}

impl<'a> Exchange<'a> {
    /// An exchange for a callback; nothing lent from it outlives `_callback`.
    #[inline(always)]
    pub(crate) fn new(_callback: &'a Callback, at: At) -> Self {
        Self { at, call_data_size: 0, answered: Cell::new(false), callback: PhantomData }
    }

    pub(crate) fn with_call_data(callback: &'a Callback, context: u32, size: usize) -> Self {
        Self { call_data_size: size, ..Self::new(callback, At::new(context, Part::None, 0, false)) }
    }

    /// The same callback, as if it were another.
    pub(super) fn moved(&self, at: At) -> Self {
        Self { at, call_data_size: 0, answered: Cell::new(false), callback: PhantomData }
    }

    pub(super) fn take_answered(&self, other: &Self) {
        self.answered.set(self.is_answered() || other.is_answered());
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.answered.get()
    }

    /// True when nothing follows in this direction: in a header callback, no body; in a body callback, the last part.
    pub fn end_of_stream(&self) -> bool {
        self.at.end_of_stream
    }

    /// A property; none when the host does not know it. The parts of a path are joined with NUL:
    /// `request.property("source\0address")`.
    pub fn property(&self, key: &str) -> Result<Option<&'a [u8]>, HostError> {
        calls::property(key)
    }

    /// Sets a property of the stream: later filters read it under the same name, and an access log's format as
    /// `%FILTER_STATE(wasm.NAME:PLAIN)%`, where the host has such formats (Envoy). Names are the filter's own; those of
    /// attributes are refused.
    pub fn set_property(&self, key: &str, value: &[u8]) -> Result<(), HostError> {
        calls::set_property(key, value)
    }

    /// Calls a function that this host offers besides the ABI.
    pub fn call_foreign(&self, name: &str, arguments: &[u8]) -> Result<&'a [u8], HostError> {
        calls::call_foreign(name, arguments)
    }

    /// The bytes that came with [`on_foreign_function`](crate::Filter::on_foreign_function); empty in other callbacks.
    pub fn call_data(&self) -> Result<&'a [u8], HostError> {
        if self.call_data_size == 0 {
            return Ok(&[]);
        }
        Ok(calls::buffer(BufferType::CallData, 0, self.call_data_size)?.unwrap_or_default())
    }

    /// Answers the request; nothing is sent upstream. Returns what the callback should return: [`Action::Pause`].
    pub fn reply(&self, reply: &LocalReply<'_>) -> Result<Action, HostError> {
        let headers = pairs::encode(&reply.headers);
        calls::send_local_response(reply.status, reply.details, reply.body, &headers, reply.grpc_status.unwrap_or(-1))?;
        self.answered.set(true);
        Ok(Action::Pause)
    }
}
