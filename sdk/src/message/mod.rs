//! What a callback sees of its stream: [`Request`], [`Response`], and what both share, [`Exchange`].

mod at;
mod cookies;
mod exchange;
mod percent;
mod properties;
mod request;
mod response;
mod target;
mod values;

use std::ops::Deref;
use std::str::FromStr;

pub(crate) use at::{At, Part};
pub use cookies::{Cookies, SameSite, SetCookie};
pub use exchange::Exchange;
pub use percent::percent_decode;
pub use request::Request;
pub use response::Response;
pub use target::{Params, Segments, split_authority, split_target};
pub use values::{List, Values};

use crate::body::Whole;
use crate::call::{Call, Hold, Kind};
use crate::dispatch::{self, Makes, PerStream, Then};
use crate::pairs::Headers;
use crate::raw::calls;
use crate::{Action, BufferType, Held, HostError, Status};

/// More than any body; hosts add it to an offset of 32 bits, so it must not be the largest number.
const ALL: usize = (u32::MAX >> 1) as usize;

/// Nanoseconds since 1970 on the host's clock.
pub fn now() -> Result<u64, HostError> {
    calls::now()
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

            /// Holds the stream until the filter lets it go on, which `then` does. Keep what is returned, and return
            /// [`Action::Pause`]. See [`Held`].
            pub fn hold<F>(
                &self,
                then: impl for<'b> FnOnce(&F, &mut F::Stream, &$name<'b>) -> Result<Action, HostError> + 'static,
            ) -> Held<F>
            where
                F: Makes<Hold> + PerStream,
            {
                let then = Box::new(move |filter: &F, state: &mut F::Stream, message: &$name<'_>, (): &()| {
                    then(filter, state, message)
                });
                Held::new(dispatch::hold::<F>(Then::$name(self.exchange.at, then)))
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

            /// Replaces the body's bytes that the host holds. A filter that changes how long a body is removes
            /// `content-length` in its headers callback: Portolan would do so itself, Envoy does not.
            pub fn set_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, 0, ALL, value)
            }

            /// Adds bytes after those that the host holds; for `content-length` see [`set_body`](Self::set_body).
            pub fn append_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, ALL, 0, value)
            }

            /// Adds bytes before those that the host holds; for `content-length` see [`set_body`](Self::set_body).
            pub fn prepend_body(&self, value: &[u8]) -> Result<(), HostError> {
                calls::set_buffer(BufferType::$body, 0, 0, value)
            }

            /// Takes away the body's bytes that the host holds; for `content-length` see [`set_body`](Self::set_body).
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

            /// In a trailers callback: hands the last part of a body over, when the filter holds one.
            pub(crate) fn end_body(
                &self,
                hand: impl FnOnce(&Self) -> Result<Action, HostError>,
            ) -> Result<Action, HostError> {
                let body_size = self.body()?.len();
                if body_size == 0 {
                    return Ok(Action::Continue);
                }
                let at = At { part: Part::$body_part, body_size, end_of_stream: true, ..self.exchange.at };
                let last = Self::of(self.exchange.moved(at));
                let answer = hand(&last);
                self.exchange.take_answered(&last.exchange);
                answer
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
