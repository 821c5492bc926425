//! Heads at the edge: what is refused, stripped and added before filters see a request, and added to every response.

mod random;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version, request, response};
use portolan_model::{PathNormalization, Underscores};
use portolan_wasm::StreamState;
use smallvec::SmallVec;

use self::random::{request_id, websocket_key};
use crate::connect;
use crate::connection::Fault;
use crate::context::StreamContext;
use crate::forwarded;
use crate::local_reply::Refusal;
use crate::methods;
use crate::path;
use crate::rewrite::with_path;
use crate::stream::Stream;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Most fields of a head, as in Envoy; hyper sees to it for HTTP/1.
const MAX_FIELDS: usize = 100;

/// Refuses what must not be taken, and makes Host and path canonical.
pub(crate) fn check(
    parts: &mut request::Parts,
    paths: PathNormalization,
    is_tls: bool,
    takes_connect: bool,
) -> Result<(), Refusal> {
    if parts.version < Version::HTTP_11 {
        return Err(Refusal::Version);
    }
    match parts.version {
        Version::HTTP_2 => check_http2(parts)?,
        _ if !methods::is_known(&parts.method) => return Err(Refusal::Malformed(Fault::Codec)),
        _ => {}
    }
    if parts.method == Method::CONNECT && takes_connect {
        return connect::check(parts);
    }
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::Method);
    }
    let host = parts.headers.get(header::HOST).ok_or(Refusal::NoHost)?;
    // Only when some name repeats can it be this one.
    let repeats = parts.headers.len() != parts.headers.keys_len();
    if repeats && parts.headers.get_all(header::HOST).iter().count() > 1 || !is_host(host.as_bytes()) {
        return Err(Refusal::BadHost);
    }
    if parts.version != Version::HTTP_2 {
        take_absolute(parts, is_tls)?;
    }
    check_path(parts, paths)?;
    if methods::is_bare_query(parts) { Err(Refusal::BareQuery) } else { Ok(()) }
}

/// The authority of an absolute target wins (RFC 9112 section 3.2.2).
fn take_absolute(parts: &mut request::Parts, is_tls: bool) -> Result<(), Refusal> {
    let Some(authority) = parts.uri.authority() else { return Ok(()) };
    check_scheme(&parts.uri, is_tls)?;
    if !is_host(authority.as_str().as_bytes()) {
        return Err(Refusal::BadHost);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?;
    parts.headers.insert(header::HOST, host);
    Ok(())
}

/// As Envoy has it of absolute targets. An authority alone is no target.
fn check_scheme(target: &Uri, is_tls: bool) -> Result<(), Refusal> {
    match target.scheme_str() {
        Some("") => Err(Refusal::Messaging),
        Some("https") if !is_tls => Err(Refusal::HttpsUrl),
        Some("http" | "https") => Ok(()),
        Some(_) => Err(Refusal::Scheme),
        None => Err(Refusal::Framing),
    }
}

/// What HTTP/2 says otherwise, in the words of HTTP/1: `:authority` as Host, cookies in one line. A Host that says
/// something else is refused (RFC 9113 section 8.3.1), and so are more fields than HTTP/1 may have.
fn check_http2(parts: &mut request::Parts) -> Result<(), Refusal> {
    if let Some(authority) = parts.uri.authority() {
        let same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        if !hosts.next().is_none_or(same) || hosts.next().is_some() {
            return Err(Refusal::BadHost);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadHost)?;
        parts.headers.insert(header::HOST, host);
    }
    // h2 takes a `:scheme` that is none, and a `:path` that is a query alone (RFC 9113 section 8.3.1).
    if parts.uri.scheme_str().is_some_and(|scheme| !scheme.starts_with(|first: char| first.is_ascii_alphabetic())) {
        return Err(Refusal::Field);
    }
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('?')) {
        return Err(Refusal::Messaging);
    }
    if parts.method == Method::CONNECT {
        take_websocket(parts);
        if parts.method == Method::CONNECT && parts.extensions.get::<hyper::ext::Protocol>().is_some() {
            return Err(Refusal::Upgrade);
        }
    }
    check_length(&parts.headers)?;
    let mut crumbs = parts.headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_some() && crumbs.next().is_some() {
        let all: Vec<_> = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let whole = HeaderValue::from_bytes(&all.join(&b"; "[..])).map_err(|_| Refusal::TooManyFields)?;
        parts.headers.insert(header::COOKIE, whole);
    }
    if parts.headers.len() > MAX_FIELDS { Err(Refusal::TooManyFields) } else { Ok(()) }
}

/// h2 takes a length that says nothing, and several that agree.
fn check_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
    if is_number && lengths.next().is_none() { Ok(()) } else { Err(Refusal::Field) }
}

/// A WebSocket over HTTP/2 (RFC 8441) in the words of HTTP/1, as Envoy turns it. It comes without a key, which servers of
/// HTTP/1 insist on. Another protocol stays what it is, a CONNECT.
fn take_websocket(parts: &mut request::Parts) {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>();
    if !protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket")) {
        return;
    }
    parts.method = Method::GET;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    parts.headers.entry(header::SEC_WEBSOCKET_KEY).or_insert_with(websocket_key);
}

fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(encoding) = headers.get(header::TRANSFER_ENCODING) else { return Ok(()) };
    let single = headers.get_all(header::TRANSFER_ENCODING).iter().count() == 1;
    let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if single && chunked && !headers.contains_key(header::CONTENT_LENGTH) { Ok(()) } else { Err(Refusal::Framing) }
}

/// Strips an answer's head; false when it must not go on. hyper reads what it can: what another reader may see otherwise, or
/// is no answer, is not passed on.
pub(crate) fn take_answer(parts: &mut response::Parts) -> bool {
    has_plain_length(&parts.headers)
        && !claims_a_body_of_none(parts)
        && strip(&mut parts.headers, false).is_ok()
        && parts.status.as_u16() <= 599
}

/// True when there is no length, or one number. hyper takes equal ones, on several lines or in a list.
fn has_plain_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return true };
    lengths.next().is_none() && length.as_bytes().iter().all(u8::is_ascii_digit)
}

/// True for a 204 that says it has a body (RFC 9112 section 6): its bytes would be taken for the next answer.
fn claims_a_body_of_none(parts: &response::Parts) -> bool {
    parts.status == StatusCode::NO_CONTENT
        && (parts.headers.contains_key(header::TRANSFER_ENCODING)
            || parts.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0"))
}

/// RFC 9110 section 7.2: a host and perhaps a port. Neither userinfo nor lists nor paths.
pub(crate) fn is_host(host: &[u8]) -> bool {
    if is_plain_host(host) {
        return true;
    }
    let (name, port) = match host.iter().rposition(|b| *b == b':') {
        Some(at) if !host.ends_with(b"]") => (&host[..at], &host[at + 1..]),
        _ => (host, &b""[..]),
    };
    let inner = name.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]"));
    let good_name = match inner {
        Some(v6) => v6.iter().all(|b| b.is_ascii_hexdigit() || b":.%".contains(b)),
        None => name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'*+".contains(b)),
    };
    if port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let port_number = port.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    !name.is_empty() && good_name && port_number <= 65_535
}

/// The common form, `name` or `name:port` with a short port, in one pass.
fn is_plain_host(host: &[u8]) -> bool {
    let name = host.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')).count();
    match &host[name..] {
        [] => name > 0,
        [b':', port @ ..] => {
            let in_range = port.len() < 5 || port.len() == 5 && *port <= *b"65535".as_slice();
            name > 0 && in_range && port.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    }
}

fn check_path(parts: &mut request::Parts, paths: PathNormalization) -> Result<(), Refusal> {
    let path = parts.uri.path();
    if path == "*" {
        return Err(match parts.version {
            _ if parts.method == Method::OPTIONS => Refusal::Asterisk,
            Version::HTTP_2 => Refusal::Messaging,
            _ => Refusal::NoUrl,
        });
    }
    let normal = path::normalize(path, paths).map_err(|_| Refusal::BadPath)?;
    let new: Option<Uri> = match normal {
        std::borrow::Cow::Owned(normal) => Some(with_path(&parts.uri, &normal).ok_or(Refusal::BadPath)?),
        std::borrow::Cow::Borrowed(_) => None,
    };
    if let Some(uri) = new {
        parts.uri = uri;
    }
    // From here on the target is in origin form: the authority is in Host.
    if parts.uri.authority().is_some() {
        let mut origin = http::uri::Parts::default();
        origin.path_and_query = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from_parts(origin).map_err(|_| Refusal::BadPath)?;
    }
    Ok(())
}

/// Strips what a client must not say or what belongs to its connection, and adds what the gateway says.
pub(crate) fn prepare(state: &mut StreamState<StreamContext>, stream: &Stream) -> Result<(), Refusal> {
    let policy = &stream.view.snapshot.model.edge;
    let found = look(&state.request.headers, true);
    if found.underscore {
        check_names(&mut state.request, policy.underscores, stream)?;
    }
    let claimed = forwarded::claimed(&state.request.headers, policy);
    if remove(&mut state.request.headers, found.gone, true)? || state.request.method == Method::CONNECT {
        stream.keep_upgrade(&mut state.request);
    }
    forwarded::tell(state, policy, claimed);
    if stream.view.snapshot.own_headers.request_id {
        state.request.headers.insert(REQUEST_ID, request_id());
    }
    if let Some(plan) = &stream.view.snapshot.tracing {
        stream.begin_spans(plan, &mut state.request.headers);
    }
    Ok(())
}

/// Header names with `_`: a backend that reads them as `-`, as CGI has it, would take them for others.
fn check_names(request: &mut request::Parts, action: Underscores, stream: &Stream) -> Result<(), Refusal> {
    if action == Underscores::Allow {
        return Ok(());
    }
    let metrics = &stream.view.snapshot.metrics.edge;
    let is_http2 = request.version == Version::HTTP_2;
    if action == Underscores::Reject {
        let (metric, refusal) = match is_http2 {
            true => (&metrics.http2_requests_rejected_with_underscores, Refusal::Http2Underscore),
            false => (&metrics.http1_requests_rejected_with_underscores, Refusal::Underscore),
        };
        metric.inc();
        return Err(refusal);
    }
    let gone: Vec<_> =
        request.headers.keys().filter(|name| has_underscore(name.as_str().as_bytes())).cloned().collect();
    for name in gone {
        request.headers.remove(name);
        match is_http2 {
            true => metrics.http2_dropped_headers_with_underscores.inc(),
            false => metrics.http1_dropped_headers_with_underscores.inc(),
        }
    }
    Ok(())
}

/// What the names of a head ask for.
struct Names {
    /// To be removed.
    gone: SmallVec<[HeaderName; 8]>,
    /// Some name has a `_`.
    underscore: bool,
}

/// The one look at all names of a head: nearly always there is nothing to do.
#[inline]
fn look(headers: &HeaderMap, internal: bool) -> Names {
    let mut names = Names { gone: SmallVec::new(), underscore: false };
    for name in headers.keys() {
        let text = name.as_str();
        if is_hop_by_hop(text) || internal && is_internal(text) {
            names.gone.push(name.clone());
        }
        names.underscore |= internal && has_underscore(text.as_bytes());
    }
    names
}

/// Eight bytes at a time, the last ones with some of those before: names are short.
fn has_underscore(name: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let is_hit = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'_'));
        word.wrapping_sub(ONES) & !word & (ONES * 0x80) != 0
    };
    match name.last_chunk::<8>() {
        Some(last) => is_hit(last) || name.as_chunks::<8>().0.iter().any(is_hit),
        None => name.contains(&b'_'),
    }
}

/// Removes hop-by-hop fields (RFC 9110 section 7.6.1) and those that `Connection` names; with `internal` also what only
/// the gateway and its mesh may say. One look at the names; everything else only on a hit. True when a request asked
/// for a WebSocket; an error when it asked for another upgrade, or when the message's framing is ambiguous.
pub(crate) fn strip(headers: &mut HeaderMap, internal: bool) -> Result<bool, Refusal> {
    let found = look(headers, internal);
    remove(headers, found.gone, internal)
}

/// The second half of [`strip`].
fn remove(headers: &mut HeaderMap, gone: SmallVec<[HeaderName; 8]>, internal: bool) -> Result<bool, Refusal> {
    if gone.is_empty() {
        return Ok(false);
    }
    check_framing(headers)?;
    let upgrade = internal && wants_websocket(headers)?;
    let trailers = internal && takes_trailers(headers);
    for named in connection_names(headers) {
        headers.remove(named);
    }
    for name in gone {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(upgrade)
}

/// True when the client takes trailers: the one thing in TE that is not between it and us alone, as Envoy has it.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut words = headers.get_all(header::TE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// True when the client asks for a WebSocket, the one upgrade that Istio's gateways allow. An offer of HTTP/2 in clear text
/// is passed over, as Envoy's codec does; any other upgrade is refused.
fn wants_websocket(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(upgrade) = headers.get(header::UPGRADE) else { return Ok(false) };
    let asked = headers.get_all(header::CONNECTION).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    });
    if !asked || upgrade.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return Ok(false);
    }
    if upgrade.as_bytes().eq_ignore_ascii_case(b"websocket") { Ok(true) } else { Err(Refusal::Upgrade) }
}

fn is_hop_by_hop(name: &str) -> bool {
    match name.len() {
        2 => name == "te",
        6 => name == "expect",
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        14 => name == "http2-settings",
        17 => name == "transfer-encoding",
        16 | 18 | 19 => name.starts_with("proxy-"),
        _ => false,
    }
}

fn is_internal(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("x-") else { return false };
    rest.starts_with("envoy-")
        || rest.starts_with("istio-")
        || rest.starts_with("portolan-")
        || rest == "forwarded-client-cert"
        || rest == "real-ip"
}

/// What `Connection` names besides its own words; never what the gateway itself needs, nor what trusted proxies have told
/// of the client: who could have that removed would not be himself.
fn connection_names(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let mut names = SmallVec::new();
    for value in headers.get_all(header::CONNECTION) {
        for name in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let own = [&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|own| name.eq_ignore_ascii_case(own));
            match HeaderName::from_bytes(name) {
                Ok(name) if !own && !is_kept(&name) => names.push(name),
                _ => {}
            }
        }
    }
    names
}

fn is_kept(name: &HeaderName) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        || *name == header::TE
        || name.as_str().starts_with("x-forwarded-")
}

/// Removes from trailers what would change how the message is framed, routed, authorised or read if somebody merged them
/// into its head (RFC 9110 section 6.5.1), and what only the gateway says.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    let gone: SmallVec<[HeaderName; 4]> = trailers.keys().filter(|name| !may_trail(name.as_str())).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

fn may_trail(name: &str) -> bool {
    const HEAD_ONLY: &[&str] = &[
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "forwarded",
        "host",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "set-cookie",
        "trailer",
        "www-authenticate",
    ];
    !is_hop_by_hop(name)
        && !is_internal(name)
        && !name.starts_with("x-forwarded-")
        && !name.starts_with("if-")
        && !HEAD_ONLY.contains(&name)
}

/// What every response gets, whoever made it.
pub(crate) fn finish(parts: &mut response::Parts, stream: &Stream) {
    // An HTTP/1.0 upstream must not make the answer one.
    parts.version = Version::HTTP_11;
    if let Some(server) = &stream.view.snapshot.own_headers.server {
        parts.headers.insert(header::SERVER, server.clone());
    }
    let cookie = stream.with_state(|state| state.host.set_cookie.take());
    if let Some(cookie) = cookie {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    if let Some(offer) = stream.slot.alt_svc()
        && !stream.connection.state.is_http3()
        && !stream.worker.is_draining()
    {
        parts.headers.insert(header::ALT_SVC, offer);
    }
    if stream.is_http2() {
        // Only its connection can be closed, by GOAWAY.
        parts.headers.remove(header::CONNECTION);
        return;
    }
    // As Envoy closes behind a CONNECT that has become no tunnel; of one that has, nothing but bytes may be said.
    let (is_tunnel, closes) = match stream.is_connect() {
        true => (parts.status.is_success(), true),
        false => (parts.status == StatusCode::SWITCHING_PROTOCOLS, stream.worker.is_draining()),
    };
    if closes && !is_tunnel {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

#[cfg(test)]
mod tests;
