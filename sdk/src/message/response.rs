//! [`Response`]: what only responses have.

use super::cookies::SetCookie;
use super::exchange::Exchange;
use crate::{HostError, MapType};

/// The response, in its callbacks. Offers what [`Exchange`] does, too.
///
/// ```
/// use portolan_sdk::prelude::*;
/// use portolan_sdk::SetCookie;
///
/// struct Writer;
///
/// impl Filter for Writer {
///     type Config = NoConfig;
///     type Stream = ();
///
///     fn configure(_: NoConfig) -> Result<Self, ConfigError> {
///         Ok(Self)
///     }
///
///     fn stream(&self) {}
///
///     fn on_response_headers(&self, _: &mut (), response: &Response<'_>) -> Result<Action, HostError> {
///         if response.status()? == 200 {
///             response.set_cookie(&SetCookie::new("seen", "1").path("/"))?;
///             response.add_to_header("vary", "Origin")?;
///             response.remove_header("content-length")?;
///         }
///         Ok(Action::Continue)
///     }
///
///     fn on_response_body(&self, _: &mut (), response: &Response<'_>) -> Result<Action, HostError> {
///         if response.end_of_stream() {
///             response.append_body(b"<!-- the end -->")?;
///         }
///         Ok(Action::Continue)
///     }
/// }
///
/// portolan_sdk::filter! { Writer: on_response_headers, on_response_body }
///
/// let host = portolan_sdk::testing::TestHost::<Writer>::start("").expect("any configuration will do");
/// let mut stream = host.stream();
/// stream.response_head(&[(":status", "200"), ("vary", "Accept, origin"), ("content-length", "2")]);
/// assert_eq!(stream.response_header("set-cookie"), ["seen=1; Path=/; Secure; HttpOnly; SameSite=Lax"]);
/// assert_eq!(stream.response_header("vary"), ["Accept, origin"]);
/// stream.response_body(b"a", false);
/// stream.response_body(b"b", true);
/// assert_eq!(stream.response_body_sent(), b"ab<!-- the end -->");
/// ```
#[derive(Debug)]
pub struct Response<'a> {
    pub(super) exchange: Exchange<'a>,
    pub(super) map: MapType,
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
