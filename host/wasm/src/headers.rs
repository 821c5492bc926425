//! Header maps as filters see them: with pseudo headers, in the phases where they are there, and validated when
//! written.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, StatusCode, Uri};

use crate::abi::{MapKind, Status};
use crate::context::Phase;
use crate::guest::Answer;
use crate::stream::StreamState;

/// Longest value that a filter may write, in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// Most values of one map that filters may add up to.
const MAX_VALUES: usize = 1024;

/// A pair as it is on the wire.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// True when the map can be read in this phase and is there.
#[inline]
pub(crate) fn readable<H>(stream: &StreamState<H>, kind: MapKind, phase: Phase) -> bool {
    use Phase::{
        End, Foreign, RequestBody, RequestHeaders, RequestTrailers, ResponseBody, ResponseHeaders, ResponseTrailers,
    };
    let in_phase = match kind {
        MapKind::RequestHeaders => {
            matches!(phase, RequestHeaders | RequestBody { .. } | RequestTrailers | Foreign | End)
        }
        MapKind::RequestTrailers => matches!(phase, RequestBody { end_of_stream: true } | RequestTrailers | End),
        MapKind::ResponseHeaders => matches!(phase, ResponseHeaders | ResponseBody { .. } | ResponseTrailers | End),
        MapKind::ResponseTrailers => matches!(phase, ResponseBody { end_of_stream: true } | ResponseTrailers | End),
        _ => false,
    };
    in_phase && map(stream, kind).is_some()
}

/// True when the map can be written in this phase. Trailers may be added at the end of the body.
pub(crate) fn writable(kind: MapKind, phase: Phase) -> bool {
    match kind {
        MapKind::RequestHeaders => phase == Phase::RequestHeaders,
        MapKind::RequestTrailers => {
            matches!(phase, Phase::RequestBody { end_of_stream: true } | Phase::RequestTrailers)
        }
        MapKind::ResponseHeaders => phase == Phase::ResponseHeaders,
        MapKind::ResponseTrailers => {
            matches!(phase, Phase::ResponseBody { end_of_stream: true } | Phase::ResponseTrailers)
        }
        _ => false,
    }
}

/// The first value of this name, pseudo headers included.
pub(crate) fn value<'a, H>(stream: &'a StreamState<H>, kind: MapKind, name: &[u8]) -> Option<&'a [u8]> {
    if name.first() == Some(&b':') {
        return pseudo(stream, kind, name).map(str::as_bytes);
    }
    let name = std::str::from_utf8(name).ok()?;
    map(stream, kind)?.get(name).map(HeaderValue::as_bytes)
}

/// All pairs: pseudo headers first, as HTTP/2 wants them.
pub(crate) fn pairs<H>(stream: &StreamState<H>, kind: MapKind) -> Vec<Pair<'_>> {
    let Some(map) = map(stream, kind) else { return Vec::new() };
    let names: &[&'static str] = match kind {
        MapKind::RequestHeaders => &[":authority", ":path", ":method", ":scheme"],
        MapKind::ResponseHeaders => &[":status"],
        _ => &[],
    };
    let mut pairs: Vec<Pair<'_>> = Vec::with_capacity(names.len() + map.len());
    for name in names {
        if let Some(value) = pseudo(stream, kind, name.as_bytes()) {
            pairs.push((name.as_bytes(), value.as_bytes()));
        }
    }
    let is_authority = |name: &HeaderName| kind == MapKind::RequestHeaders && *name == header::HOST;
    let plain = map.iter().filter(|(name, _)| !is_authority(name));
    pairs.extend(plain.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    pairs
}

/// Adds a value; a pseudo header has only one, which is replaced.
pub(crate) fn add<H>(stream: &mut StreamState<H>, kind: MapKind, name: &[u8], new: &[u8]) -> Answer {
    if is_pseudo(kind, name) {
        return set_pseudo(stream, kind, name, new);
    }
    let (name, new) = (free_name(name)?, header_value(new)?);
    append(map_mut(stream, kind)?, name, new)
}

/// Replaces all values of a name by one, or adds it.
pub(crate) fn replace<H>(stream: &mut StreamState<H>, kind: MapKind, name: &[u8], new: &[u8]) -> Answer {
    if is_pseudo(kind, name) {
        return set_pseudo(stream, kind, name, new);
    }
    let (name, new) = (free_name(name)?, header_value(new)?);
    let map = map_mut(stream, kind)?;
    if map.len() >= MAX_VALUES && !map.contains_key(&name) {
        return Err(Status::BadArgument);
    }
    map.try_insert(name, new).map_err(|_| Status::BadArgument)?;
    Ok(())
}

/// Removes all values of a name; an absent one is fine. Pseudo headers stay. `content-length` may go: a filter that
/// changes the body has to remove it.
pub(crate) fn remove<H>(stream: &mut StreamState<H>, kind: MapKind, name: &[u8]) -> Answer {
    if is_pseudo(kind, name) {
        return Err(Status::BadArgument);
    }
    let map = map_mut(stream, kind)?;
    if let Ok(name) = std::str::from_utf8(name) {
        map.remove(name);
    }
    Ok(())
}

/// Replaces the whole map. Pseudo headers which are not in the list stay as they are. Framing headers in the list
/// keep the values that they have: a filter sends them back as it got them, along with what it has changed.
pub(crate) fn set_pairs<H>(stream: &mut StreamState<H>, kind: MapKind, pairs: &[Pair<'_>]) -> Answer {
    let mut new = HeaderMap::with_capacity(pairs.len());
    let old = map_mut(stream, kind)?;
    for (name, value) in pairs.iter().filter(|(name, _)| !is_pseudo(kind, name)) {
        let name = header_name(name)?;
        if !is_framing(&name) {
            append(&mut new, name, header_value(value)?)?;
        } else if !new.contains_key(&name) {
            for value in old.get_all(&name) {
                append(&mut new, name.clone(), value.clone())?;
            }
        }
    }
    if let Some(host) = old.get(header::HOST).filter(|_| kind == MapKind::RequestHeaders) {
        append(&mut new, header::HOST, host.clone())?;
    }
    for (name, value) in pairs.iter().filter(|(name, _)| is_pseudo(kind, name)) {
        if pseudo(stream, kind, name).is_none_or(|old| old.as_bytes() != *value) {
            set_pseudo(stream, kind, name, value)?;
            if let Some(host) = stream.request.headers.get(header::HOST).filter(|_| kind == MapKind::RequestHeaders) {
                new.insert(header::HOST, host.clone());
            }
        }
    }
    *map_mut(stream, kind)? = new;
    Ok(())
}

/// The headers of a local reply. Framing headers are left out, since the gateway writes its own.
pub(crate) fn reply_headers(pairs: &[Pair<'_>]) -> Result<HeaderMap, Status> {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs.iter().filter(|(name, _)| *name != b":status") {
        let name = header_name(name)?;
        if !is_framing(&name) {
            append(&mut headers, name, header_value(value)?)?;
        }
    }
    Ok(headers)
}

/// A status that a filter may answer with: 1xx are no final answers.
pub(crate) fn reply_status(code: u32) -> Result<StatusCode, Status> {
    let code = u16::try_from(code).ok().filter(|code| (200..=599).contains(code)).ok_or(Status::BadArgument)?;
    StatusCode::from_u16(code).map_err(|_| Status::BadArgument)
}

fn map<H>(stream: &StreamState<H>, kind: MapKind) -> Option<&HeaderMap> {
    match kind {
        MapKind::RequestHeaders => Some(&stream.request.headers),
        MapKind::RequestTrailers => stream.request_trailers.as_ref(),
        MapKind::ResponseHeaders => stream.response.as_ref().map(|response| &response.headers),
        MapKind::ResponseTrailers => stream.response_trailers.as_ref(),
        _ => None,
    }
}

/// The map to write to. Trailers come into being with their first entry.
fn map_mut<H>(stream: &mut StreamState<H>, kind: MapKind) -> Result<&mut HeaderMap, Status> {
    match kind {
        MapKind::RequestHeaders => Ok(&mut stream.request.headers),
        MapKind::RequestTrailers => Ok(stream.request_trailers.get_or_insert_default()),
        MapKind::ResponseHeaders => {
            stream.response.as_mut().map(|response| &mut response.headers).ok_or(Status::BadArgument)
        }
        MapKind::ResponseTrailers => Ok(stream.response_trailers.get_or_insert_default()),
        _ => Err(Status::BadArgument),
    }
}

fn pseudo<'a, H>(stream: &'a StreamState<H>, kind: MapKind, name: &[u8]) -> Option<&'a str> {
    let request = &stream.request;
    match (kind, name) {
        (MapKind::RequestHeaders, b":path") => request.uri.path_and_query().map(PathAndQuery::as_str),
        (MapKind::RequestHeaders, b":authority" | b"host") => {
            let host = request.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            host.or_else(|| request.uri.authority().map(Authority::as_str))
        }
        (MapKind::RequestHeaders, b":method") => Some(request.method.as_str()),
        (MapKind::RequestHeaders, b":scheme") => Some(stream.scheme),
        (MapKind::ResponseHeaders, b":status") => stream.response.as_ref().map(|response| response.status.as_str()),
        _ => None,
    }
}

/// Names that are parts of the head and not of the map; `host` is another name of `:authority`.
fn is_pseudo(kind: MapKind, name: &[u8]) -> bool {
    name.first() == Some(&b':') || (kind == MapKind::RequestHeaders && name.eq_ignore_ascii_case(b"host"))
}

fn set_pseudo<H>(stream: &mut StreamState<H>, kind: MapKind, name: &[u8], new: &[u8]) -> Answer {
    match (kind, name) {
        (MapKind::RequestHeaders, b":path") => set_path(&mut stream.request.uri, new),
        (MapKind::RequestHeaders, b":method") => {
            let method = Method::from_bytes(new).ok().filter(|method| *method != Method::CONNECT);
            stream.request.method = method.ok_or(Status::BadArgument)?;
            Ok(())
        }
        (MapKind::RequestHeaders, b":scheme") => {
            stream.scheme = match new {
                b"http" => "http",
                b"https" => "https",
                _ => return Err(Status::BadArgument),
            };
            Ok(())
        }
        (MapKind::RequestHeaders, name) if name == b":authority" || name.eq_ignore_ascii_case(b"host") => {
            let authority = Authority::try_from(new).map_err(|_| Status::BadArgument)?;
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Status::BadArgument)?;
            stream.request.headers.insert(header::HOST, host);
            Ok(())
        }
        (MapKind::ResponseHeaders, b":status") => {
            let code = std::str::from_utf8(new).ok().and_then(|code| code.parse().ok());
            let status = reply_status(code.ok_or(Status::BadArgument)?)?;
            stream.response.as_mut().ok_or(Status::BadArgument)?.status = status;
            Ok(())
        }
        _ => Err(Status::BadArgument),
    }
}

/// Puts another path and query into the URI.
fn set_path(uri: &mut Uri, new: &[u8]) -> Answer {
    let path = PathAndQuery::try_from(new).ok().filter(|path| path.as_str().starts_with('/'));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.ok_or(Status::BadArgument)?);
    *uri = Uri::from_parts(parts).map_err(|_| Status::BadArgument)?;
    Ok(())
}

/// A name that filters may write.
fn free_name(name: &[u8]) -> Result<HeaderName, Status> {
    let name = header_name(name)?;
    if is_framing(&name) { Err(Status::BadArgument) } else { Ok(name) }
}

pub(crate) fn header_name(name: &[u8]) -> Result<HeaderName, Status> {
    HeaderName::from_bytes(name).map_err(|_| Status::BadArgument)
}

pub(crate) fn header_value(value: &[u8]) -> Result<HeaderValue, Status> {
    if value.len() > MAX_VALUE {
        return Err(Status::BadArgument);
    }
    HeaderValue::from_bytes(value).map_err(|_| Status::BadArgument)
}

pub(crate) fn append(map: &mut HeaderMap, name: HeaderName, value: HeaderValue) -> Answer {
    if map.len() >= MAX_VALUES {
        return Err(Status::BadArgument);
    }
    map.try_append(name, value).map_err(|_| Status::BadArgument)?;
    Ok(())
}

/// Headers that say where a message ends and how the connection goes on. The gateway alone writes them, else a filter
/// could smuggle requests.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 5] =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION, header::TE, header::UPGRADE];
    FRAMING.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}
