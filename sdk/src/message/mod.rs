//! What a callback sees of its stream: [`Request`], [`Response`], and what both share, [`Exchange`].

mod cookies;
mod percent;
mod properties;
mod target;
mod values;

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

pub use cookies::{Cookies, SameSite, SetCookie};
pub use percent::percent_decode;
pub use target::{Params, Segments, split_authority, split_target};
pub use values::{List, Values};

use crate::body::Whole;
use crate::call::{Call, Kind};
use crate::dispatch::{self, Flow, Makes, PerStream, Then};
use crate::pairs::{self, Headers};
use crate::raw::calls;
use crate::raw::scratch::Callback;
use crate::{Action, BufferType, HostError, LocalReply, MapType, Status};

/// More than any body; hosts add it to an offset of 32 bits, so it must not be the largest number.
const ALL: usize = (u32::MAX >> 1) as usize;

/// Which callback of a stream it is, and what the host said with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) context: u32,
    pub(crate) part: Part,
    pub(crate) body_size: usize,
    pub(crate) end_of_stream: bool,
    /// A part of the body has gone on already; unknown for filters without `stream`.
    passed: Option<bool>,
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    None,
}

impl At {
    #[inline(always)]
    pub(crate) fn new(context: u32, part: Part, body_size: usize, end_of_stream: bool) -> Self {
        Self { context, part, body_size, end_of_stream, passed: None }
    }

    pub(crate) fn with(self, flow: &Flow) -> Self {
        Self { passed: Some(flow.passed()), ..self }
    }
}

impl Part {
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Self::RequestHeaders | Self::RequestBody | Self::RequestTrailers)
    }

    pub(crate) fn is_body(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody)
    }

    /// What "the headers" are in this callback.
    #[inline(always)]
    fn map(self) -> MapType {
        match self {
            Self::RequestHeaders | Self::RequestBody | Self::None => MapType::HttpRequestHeaders,
            Self::RequestTrailers => MapType::HttpRequestTrailers,
            Self::ResponseHeaders | Self::ResponseBody => MapType::HttpResponseHeaders,
            Self::ResponseTrailers => MapType::HttpResponseTrailers,
        }
    }
}

/// One request and its response, as far as it does not matter which of both is being handled.
///
/// Values are lent for `'a`: until the callback returns. Copy what must stay longer.
#[derive(Debug)]
pub struct Exchange<'a> {
    at: At,
    call_data_size: usize,
    callback: PhantomData<&'a ()>,
}

impl<'a> Exchange<'a> {
    /// An exchange for a callback; nothing lent from it outlives `_callback`.
    #[inline(always)]
    pub(crate) fn new(_callback: &'a Callback, at: At) -> Self {
        Self { at, call_data_size: 0, callback: PhantomData }
    }

    pub(crate) fn with_call_data(callback: &'a Callback, context: u32, size: usize) -> Self {
        Self { call_data_size: size, ..Self::new(callback, At::new(context, Part::None, 0, false)) }
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
        Ok(Action::Pause)
    }
}

/// Nanoseconds since 1970 on the host's clock.
pub fn now() -> Result<u64, HostError> {
    calls::now()
}

/// The request, in its callbacks. Offers what [`Exchange`] does, too.
#[derive(Debug)]
pub struct Request<'a> {
    exchange: Exchange<'a>,
    map: MapType,
}

/// The response, in its callbacks. Offers what [`Exchange`] does, too.
#[derive(Debug)]
pub struct Response<'a> {
    exchange: Exchange<'a>,
    map: MapType,
}

macro_rules! message {
    ($name:ident, $body:ident, $body_part:ident, $stream:literal) => {
        impl<'a> $name<'a> {
            #[inline(always)]
            pub(crate) fn of(exchange: Exchange<'a>) -> Self {
                let map = exchange.at.part.map();
                Self { exchange, map }
            }

            /// Asks another host, and says what happens with its answer: `then` is given the filter, the stream's
            /// state, the message, and the answer, in a later callback. Returns what the callback should return:
            /// [`Action::Pause`]. See [`call`](crate::call).
            pub fn call<C, F>(
                &self,
                call: &C,
                then: impl for<'b> FnOnce(
                    &F,
                    &mut F::Stream,
                    &$name<'b>,
                    &<C::Kind as Kind>::Answer<'b>,
                ) -> Result<Action, HostError>
                + 'static,
            ) -> Result<Action, HostError>
            where
                C: Call,
                F: Makes<C::Kind> + PerStream,
            {
                let id = call.send()?;
                dispatch::expect::<F, C::Kind>(id, Then::$name(self.exchange.at, Box::new(then)));
                Ok(Action::Pause)
            }

            /// The first value of a header; names ignore case. In the trailers callback, of a trailer. None when
            /// there is no such line.
            pub fn header(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
                calls::header(self.map, name)
            }

            /// The first value of a header as text; none also when it is not UTF-8.
            pub fn header_str(&self, name: &str) -> Result<Option<&'a str>, HostError> {
                Ok(self.header(name)?.and_then(|value| std::str::from_utf8(value).ok()))
            }

            /// All header lines in their order, pseudo headers too.
            pub fn headers(&self) -> Result<Headers<'a>, HostError> {
                Ok(Headers::new(calls::header_pairs(self.map)?))
            }

            /// The first value of a header as a number, or as anything else that text can be parsed to; none also when it
            /// is none.
            pub fn header_as<T: FromStr>(&self, name: &str) -> Result<Option<T>, HostError> {
                Ok(self.header_str(name)?.and_then(|value| value.trim_ascii().parse().ok()))
            }

            /// All values of a header, one for each line.
            pub fn header_values<'n>(&self, name: &'n str) -> Result<Values<'a, 'n>, HostError> {
                Ok(Values::of(self.headers()?, name))
            }

            /// The elements of a header that is a list, of all its lines.
            pub fn header_list<'n>(&self, name: &'n str) -> Result<List<'a, 'n>, HostError> {
                self.header_values(name).map(List::of)
            }

            /// Replaces all values of a header by this one.
            pub fn set_header(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                calls::set_header(self.map, name, value)
            }

            /// Adds a header line.
            pub fn add_header(&self, name: &str, value: &[u8]) -> Result<(), HostError> {
                calls::add_header(self.map, name, value)
            }

            /// Adds a header line unless there is one; true when it was added.
            pub fn add_header_if_absent(&self, name: &str, value: &[u8]) -> Result<bool, HostError> {
                let absent = self.header(name)?.is_none();
                if absent {
                    self.add_header(name, value)?;
                }
                Ok(absent)
            }

            /// Adds an element to a header that is a list, unless it has it (in any case of letters).
            pub fn add_to_header(&self, name: &str, element: &str) -> Result<(), HostError> {
                if self.header_list(name)?.any(|known| known.eq_ignore_ascii_case(element.as_bytes())) {
                    return Ok(());
                }
                self.add_header(name, element.as_bytes())
            }

            /// Removes all headers whose names begin so, in any case of letters; pseudo headers stay.
            pub fn remove_headers(&self, prefix: &str) -> Result<(), HostError> {
                for (name, _) in self.headers()? {
                    let begins =
                        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
                    if begins
                        && !name.starts_with(b":")
                        && let Ok(name) = std::str::from_utf8(name)
                    {
                        self.remove_header(name)?;
                    }
                }
                Ok(())
            }

            /// Removes all lines of a header; fine when there is none.
            pub fn remove_header(&self, name: &str) -> Result<(), HostError> {
                calls::remove_header(self.map, name)
            }

            /// Bytes of the body that the host holds; 0 outside of the body callback.
            pub fn body_size(&self) -> usize {
                self.exchange.at.body_size
            }

            /// The body's bytes that the host holds: what has come since the last part that went on.
            pub fn body(&self) -> Result<&'a [u8], HostError> {
                self.body_part(0, ALL)
            }

            /// At most `max` bytes of the body that the host holds, from `start` on; fewer where it ends.
            pub fn body_part(&self, start: usize, max: usize) -> Result<&'a [u8], HostError> {
                Ok(calls::buffer(BufferType::$body, start, max)?.unwrap_or_default())
            }

            /// Replaces the body's bytes that the host holds.
            pub fn set_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, 0, ALL, value)
            }

            /// Adds bytes after those that the host holds.
            pub fn append_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, ALL, 0, value)
            }

            /// Adds bytes before those that the host holds.
            pub fn prepend_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, 0, 0, value)
            }

            /// Takes away the body's bytes that the host holds.
            pub fn drop_body(&self) -> Result<(), HostError> {
                self.set_body(b"")
            }

            /// The body as a whole, when it has at most `limit` bytes. For body callbacks of filters that list `stream`;
            /// elsewhere an error. See [`Whole`] for what to do with each answer, and for a body's end.
            pub fn whole_body(&self, limit: usize) -> Result<Whole<'a>, HostError> {
                let At { part, body_size, end_of_stream, passed, .. } = self.exchange.at;
                match passed.filter(|_| part.is_body()) {
                    None => Err(HostError { call: "whole_body", status: Status::BadArgument }),
                    Some(passed) if passed || body_size > limit => Ok(Whole::TooLarge),
                    Some(_) if !end_of_stream => Ok(Whole::Waiting),
                    Some(_) => Ok(Whole::Complete(self.body()?)),
                }
            }

            /// In a trailers callback: the last part of a body that the filter holds; none when it holds none.
            pub(crate) fn last_of_body(&self) -> Result<Option<Self>, HostError> {
                let at = self.exchange.at;
                let body_size = self.body()?.len();
                let at = At { part: Part::$body_part, body_size, end_of_stream: true, ..at };
                let exchange = Exchange { at, call_data_size: 0, callback: PhantomData };
                Ok((body_size > 0).then(|| Self::of(exchange)))
            }

            /// Lets a paused message go on.
            pub fn resume(&self) -> Result<(), HostError> {
                calls::continue_stream($stream)
            }
        }

        impl<'a> Deref for $name<'a> {
            type Target = Exchange<'a>;

            fn deref(&self) -> &Exchange<'a> {
                &self.exchange
            }
        }
    };
}

message!(Request, HttpRequestBody, RequestBody, 0);
message!(Response, HttpResponseBody, ResponseBody, 1);

impl<'a> Request<'a> {
    /// Path and query as the client sent them, after normalisation; `*` for a server-wide OPTIONS.
    pub fn target(&self) -> Result<&'a [u8], HostError> {
        Ok(self.header(":path")?.unwrap_or_default())
    }

    /// The path without the query.
    pub fn path(&self) -> Result<&'a [u8], HostError> {
        Ok(split_target(self.target()?).0)
    }

    /// What follows the first `?`; none without one.
    pub fn query(&self) -> Result<Option<&'a [u8]>, HostError> {
        Ok(split_target(self.target()?).1)
    }

    /// The segments of the path, as they are written.
    pub fn segments(&self) -> Result<Segments<'a>, HostError> {
        Ok(Segments::of(self.path()?))
    }

    /// The parameters of the query, decoded, in their order.
    pub fn params(&self) -> Result<Params<'a>, HostError> {
        Ok(Params::of(self.query()?.unwrap_or_default()))
    }

    /// The first value of a parameter of the query, decoded.
    pub fn param(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>, HostError> {
        Ok(self.params()?.first(name))
    }

    /// Sets path and query. Which route a request takes is decided already; [`clear_route_cache`](Self::clear_route_cache)
    /// decides anew.
    pub fn set_target(&self, target: &[u8]) -> Result<(), HostError> {
        self.set_header(":path", target)
    }

    /// Chooses the route anew, after a change of what routes look at.
    pub fn clear_route_cache(&self) -> Result<(), HostError> {
        self.call_foreign("clear_route_cache", b"").map(drop)
    }

    /// The first cookie of this name, as the client sent it.
    pub fn cookie(&self, name: &str) -> Result<Option<&'a [u8]>, HostError> {
        Ok(self.cookies()?.find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value))
    }

    /// All cookies, of all `cookie` lines.
    pub fn cookies(&self) -> Result<Cookies<'a>, HostError> {
        Ok(Cookies::of(self.headers()?))
    }

    /// The host that the client named, without a port.
    pub fn host(&self) -> Result<&'a [u8], HostError> {
        Ok(split_authority(self.authority()?).0)
    }

    /// The port that the client named.
    pub fn port(&self) -> Result<Option<u16>, HostError> {
        Ok(split_authority(self.authority()?).1)
    }

    /// Host, and port when the client named one.
    pub fn authority(&self) -> Result<&'a [u8], HostError> {
        Ok(self.header(":authority")?.unwrap_or_default())
    }

    /// The method, upper case by custom.
    pub fn method(&self) -> Result<&'a [u8], HostError> {
        Ok(self.header(":method")?.unwrap_or_default())
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Result<&'a [u8], HostError> {
        Ok(self.header(":scheme")?.unwrap_or_default())
    }
}

impl Response<'_> {
    /// Adds a cookie for the client.
    pub fn set_cookie(&self, cookie: &SetCookie<'_>) -> Result<(), HostError> {
        self.add_header("set-cookie", cookie.to_header()?.as_bytes())
    }

    /// The status; 0 when the host gave none.
    pub fn status(&self) -> Result<u16, HostError> {
        let digits = self.header(":status")?.unwrap_or_default();
        let digit = |status: u16, byte: &u8| match byte {
            b'0'..=b'9' => status.checked_mul(10)?.checked_add(u16::from(byte - b'0')),
            _ => None,
        };
        Ok(digits.iter().try_fold(0, digit).unwrap_or_default())
    }
}
