//! The head of a callout from the pairs that a filter gives: pseudo headers taken out, the rest validated.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, Uri, request};

use crate::abi::Status;
use crate::headers::{Pair, append, header_name, header_value, is_framing};

/// The head of an HTTP callout. `:method`, `:path` and `:authority` (or `host`) must be there: BAD_ARGUMENT without, as
/// in Envoy. `:scheme` is the gateway's. Framing headers are left out: the length of the body is the gateway's to say.
pub(crate) fn request(pairs: &[Pair<'_>]) -> Result<request::Parts, Status> {
    let (mut parts, ()) = Request::new(()).into_parts();
    let (mut method, mut path, mut authority) = (None, None, None);
    for (name, value) in pairs {
        match *name {
            b":method" => method = Some(call_method(value)?),
            b":path" => path = Some(call_path(value)?),
            b":authority" => authority = Some(host(value)?),
            name if name.eq_ignore_ascii_case(b"host") => authority = Some(host(value)?),
            b":scheme" => {}
            _ => plain(&mut parts.headers, name, value)?,
        }
    }
    parts.method = method.ok_or(Status::BadArgument)?;
    parts.uri = Uri::from(path.ok_or(Status::BadArgument)?);
    parts.headers.insert(header::HOST, authority.ok_or(Status::BadArgument)?);
    Ok(parts)
}

/// Trailers, or gRPC metadata: no pseudo headers. Framing headers are left out.
pub(crate) fn fields(pairs: &[Pair<'_>]) -> Result<HeaderMap, Status> {
    let mut map = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        plain(&mut map, name, value)?;
    }
    Ok(map)
}

/// Bytes of a list's names and values.
pub(crate) fn size(pairs: &[Pair<'_>]) -> usize {
    pairs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

fn plain(map: &mut HeaderMap, name: &[u8], value: &[u8]) -> Result<(), Status> {
    let name = header_name(name)?;
    let value = header_value(value)?;
    if is_framing(&name) || name == header::TRAILER {
        return Ok(());
    }
    append(map, name, value)
}

fn call_method(value: &[u8]) -> Result<Method, Status> {
    Method::from_bytes(value).ok().filter(|method| *method != Method::CONNECT).ok_or(Status::BadArgument)
}

fn call_path(value: &[u8]) -> Result<PathAndQuery, Status> {
    PathAndQuery::try_from(value).ok().filter(|path| path.as_str().starts_with('/')).ok_or(Status::BadArgument)
}

fn host(value: &[u8]) -> Result<HeaderValue, Status> {
    let authority = Authority::try_from(value).map_err(|_| Status::BadArgument)?;
    HeaderValue::from_str(authority.as_str()).map_err(|_| Status::BadArgument)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const WHOLE: [Pair<'static>; 3] = [(b":method", b"POST"), (b":path", b"/a?b"), (b":authority", b"auth.test:80")];

    fn with(name: &'static [u8], value: &'static [u8]) -> Result<request::Parts, Status> {
        request(&[WHOLE.as_slice(), &[(name, value)]].concat())
    }

    #[test]
    fn pseudo_headers_become_the_head_and_framing_is_left_out() {
        let mut pairs = WHOLE.to_vec();
        pairs.extend([
            (&b"X-One"[..], &b"1"[..]),
            (b"x-one", b"2"),
            (b":scheme", b"https"),
            (b"content-length", b"7"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"close"),
        ]);
        let parts = request(&pairs).unwrap();
        assert_eq!((parts.method, parts.uri.to_string()), (Method::POST, "/a?b".to_owned()));
        assert_eq!(parts.headers["host"], "auth.test:80");
        assert_eq!(parts.headers.get_all("x-one").iter().count(), 2);
        assert_eq!(parts.headers.len(), 3);
    }

    #[test]
    fn what_is_required_must_be_there() {
        for missing in 0..3 {
            let mut pairs = WHOLE.to_vec();
            pairs.remove(missing);
            assert_eq!(request(&pairs).unwrap_err(), Status::BadArgument);
        }
        let host: [Pair<'_>; 3] = [WHOLE[0], WHOLE[1], (b"Host", b"a")];
        assert!(request(&host).is_ok());
    }

    #[test]
    fn text_that_http_forbids_is_refused() {
        let bad: [Pair<'static>; 11] = [
            (b"x-a", b"b\r\nx-c: d"),
            (b"x-a", b"b\0"),
            (b"x a", b"b"),
            (b"", b"b"),
            (b"x-a\r\n", b"b"),
            (b":status", b"200"),
            (b":path", b"relative"),
            (b":path", b"/a b\r\n"),
            (b":method", b"GE T"),
            (b":method", b"CONNECT"),
            (b":authority", b"a\r\nb"),
        ];
        for (name, value) in bad {
            assert_eq!(with(name, value).unwrap_err(), Status::BadArgument, "{name:?}: {value:?}");
        }
    }
}
