//! [`Request`]: what only requests have.

use std::borrow::Cow;

use super::cookies::Cookies;
use super::exchange::Exchange;
use super::target::{Params, Segments, split_authority, split_target};
use crate::{HostError, MapType};

/// The request, in its callbacks. Offers what [`Exchange`] does, too.
///
/// ```
/// use portolan_sdk::prelude::*;
/// use portolan_sdk::percent_decode;
///
/// struct Reader;
///
/// impl Filter for Reader {
///     type Config = NoConfig;
///     type Stream = ();
///
///     const ON_ERROR: OnError = OnError::Fail;
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self)
///     }
///
///     fn stream(&self) {}
///
///     fn on_request_headers(&self, _: &mut (), request: &Request<'_>) -> Result<Action, HostError> {
///         assert_eq!((request.method()?, request.path()?), (b"GET".as_slice(), b"/v1/users/a%20b".as_slice()));
///         assert_eq!(percent_decode(request.segments()?.nth(2).or_fail("user")?), b"a b".as_slice());
///         assert_eq!(request.param("q")?.as_deref(), Some(b"x y".as_slice()));
///         assert_eq!(request.params()?.all("tag").count(), 2);
///         assert_eq!((request.host()?, request.port()?), (b"shop.test".as_slice(), Some(8080)));
///         assert_eq!(request.cookie("session")?, Some(b"s1".as_slice()));
///         assert_eq!(request.header_str("accept")?, Some("text/html, text/plain"));
///         assert_eq!(request.header_list("accept")?.last(), Some(b"*/*".as_slice()));
///         assert_eq!(request.header_values("accept")?.count(), 2);
///         assert_eq!(request.header_as::<u64>("content-length")?, Some(17));
///         assert_eq!(request.headers()?.count(), 9);
///         assert!(!request.add_header_if_absent("accept", b"image/png")?);
///         request.add_header("x-seen", b"1")?;
///         request.set_header("content-length", b"18")?;
///         request.remove_headers("x-debug-")?;
///         request.set_target(b"/v2")?;
///         Ok(Action::Continue)
///     }
/// }
///
/// portolan_sdk::filter! { Reader: on_request_headers }
///
/// let host = portolan_sdk::testing::TestHost::<Reader>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.request_headers(&[
///     (":method", "GET"),
///     (":path", "/v1/users/a%20b?q=x+y&tag=1&tag=2"),
///     (":authority", "shop.test:8080"),
///     ("cookie", "a=1; session=s1"),
///     ("accept", "text/html, text/plain"),
///     ("accept", "*/*"),
///     ("content-length", "17"),
///     ("x-debug-level", "9"),
///     ("x-debug-user", "me"),
/// ]);
/// assert_eq!((stream.reply(), host.logs()), (None, vec![]));
/// assert_eq!(stream.request_header(":path"), ["/v2"]);
/// assert_eq!(stream.request_header("x-debug-user"), [""; 0]);
/// ```
#[derive(Debug)]
pub struct Request<'a> {
    pub(super) exchange: Exchange<'a>,
    pub(super) map: MapType,
}

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
