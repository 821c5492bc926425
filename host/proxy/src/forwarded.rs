//! What proxies in front of the gateway have told of the client, as far as they are trusted, and what the gateway tells
//! of it. Semantics: Envoy's connection manager with `use_remote_address`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use portolan_model::{EdgePolicy, ForwardClientCert};
use portolan_wasm::StreamState;

use crate::context::StreamContext;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");

/// Says who the client is, and notes whom trusted proxies take it for. `claimed` is the request's own
/// `x-forwarded-client-cert`, where it may count.
pub(crate) fn tell(state: &mut StreamState<StreamContext>, policy: &EdgePolicy, claimed: Option<HeaderValue>) {
    let connection = &*state.host.connection;
    if policy.num_trusted_proxies > 0 {
        let client = client(&state.request.headers, policy.num_trusted_proxies);
        state.host.forwarded = client.map(|ip| Box::new(SocketAddr::new(ip, 0)));
    }
    let external = match &state.host.forwarded {
        None => Some(connection.peer_value.clone()),
        Some(address) => HeaderValue::from_str(&address.ip().to_string()).ok(),
    };
    let headers = &mut state.request.headers;
    append_peer(headers, &connection.peer_value);
    // The protocol that a trusted proxy was spoken to in counts, if it is one: redirects go by it.
    let proto = if policy.num_trusted_proxies > 0 { headers.get(FORWARDED_PROTO) } else { None };
    match proto {
        None => {
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(connection.state.scheme()));
        }
        Some(proto) if proto.as_bytes().eq_ignore_ascii_case(b"https") => state.scheme = "https",
        Some(proto) if proto.as_bytes().eq_ignore_ascii_case(b"http") => state.scheme = "http",
        Some(_) => {}
    }
    if let Some(external) = external {
        headers.insert(EXTERNAL_ADDRESS, external);
    }
    let shown = connection.state.tls().and_then(|tls| tls.forwarded.as_ref());
    if let Some(certificate) = client_certificate(policy.forward_client_cert, claimed, shown) {
        headers.insert(FORWARDED_CLIENT_CERT, certificate);
    }
}

/// The request's own `x-forwarded-client-cert`, where the policy has a use for it.
pub(crate) fn claimed(headers: &HeaderMap, policy: &EdgePolicy) -> Option<HeaderValue> {
    use ForwardClientCert::{Sanitize, SanitizeSet};
    if matches!(policy.forward_client_cert, SanitizeSet | Sanitize) {
        return None;
    }
    joined(headers, &FORWARDED_CLIENT_CERT).and_then(|value| HeaderValue::from_bytes(&value).ok())
}

/// The n-th entry from the right of `x-forwarded-for` as it came; none when there are fewer, or when it is no address: the
/// peer counts then, as in Envoy.
fn client(headers: &HeaderMap, trusted: u32) -> Option<IpAddr> {
    let all = joined(headers, &FORWARDED_FOR)?;
    let mut rest = &all[..];
    for _ in 1..trusted {
        rest = &rest[..rest.iter().rposition(|byte| *byte == b',')?];
    }
    let entry = match rest.iter().rposition(|byte| *byte == b',') {
        // Envoy leaves a comma at the end where it is: no address has one.
        Some(comma) if comma + 1 < rest.len() => &rest[comma + 1..],
        _ => rest,
    };
    std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok()
}

/// Adds an address to `x-forwarded-for`.
pub(crate) fn append_peer(headers: &mut HeaderMap, peer: &HeaderValue) {
    match headers.entry(FORWARDED_FOR) {
        header::Entry::Vacant(entry) => {
            entry.insert(peer.clone());
        }
        header::Entry::Occupied(mut entry) => {
            let mut all = Vec::new();
            // An empty list says nothing: it gets no comma, as in Envoy.
            for value in entry.iter().filter(|value| !value.is_empty()) {
                all.extend_from_slice(value.as_bytes());
                all.push(b',');
            }
            all.extend_from_slice(peer.as_bytes());
            if let Ok(value) = HeaderValue::from_bytes(&all) {
                entry.insert(value);
            }
        }
    }
}

/// What goes on of the claimed certificate and the one that was shown.
fn client_certificate(
    policy: ForwardClientCert,
    claimed: Option<HeaderValue>,
    shown: Option<&HeaderValue>,
) -> Option<HeaderValue> {
    match (policy, shown) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => claimed,
        (ForwardClientCert::Sanitize, _) | (_, None) => None,
        (ForwardClientCert::SanitizeSet, Some(shown)) => Some(shown.clone()),
        (ForwardClientCert::AppendForward, Some(shown)) => match claimed {
            None => Some(shown.clone()),
            Some(claimed) => HeaderValue::from_bytes(&[claimed.as_bytes(), shown.as_bytes()].join(&b',')).ok(),
        },
    }
}

/// All lines of a header as one list.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let first = values.next()?;
    Some(match values.next() {
        None => Cow::Borrowed(first),
        Some(second) => {
            let all: Vec<_> = [first, second].into_iter().chain(values).collect();
            Cow::Owned(all.join(&b','))
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// The answers are those of Envoy 1.40 for the same lines.
    #[test]
    fn the_client_is_counted_from_the_right() {
        let of = |trusted, lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            lines.iter().for_each(|line| {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            });
            client(&headers, trusted).map(|ip| ip.to_string())
        };
        assert_eq!(of(1, &[]), None);
        assert_eq!(of(1, &["1.1.1.1"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(of(2, &["1.1.1.1"]), None);
        assert_eq!(of(2, &["1.1.1.1, 2.2.2.2", "3.3.3.3"]).as_deref(), Some("2.2.2.2"));
        assert_eq!(of(2, &["1.1.1.1, bad, 3.3.3.3"]), None);
        assert_eq!(of(2, &["1.1.1.1:99,3.3.3.3"]), None);
        assert_eq!(of(2, &["[2001:db8::1],3.3.3.3"]), None);
        assert_eq!(of(2, &["2001:db8::1,3.3.3.3"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(2, &["1.1.1.1,"]).as_deref(), Some("1.1.1.1"));
        assert_eq!(of(2, &["::ffff:1.2.3.4, 3.3.3.3"]).as_deref(), Some("::ffff:1.2.3.4"));
        assert_eq!(of(1, &["1.1.1.1,"]), None);
    }

    #[test]
    fn the_peer_is_last_and_empty_lines_leave_no_empty_entry() {
        for (lines, expected) in [
            (&[][..], "9.9.9.9"),
            (&["1.1.1.1, 2.2.2.2"], "1.1.1.1, 2.2.2.2,9.9.9.9"),
            (&["1.1.1.1", "2.2.2.2"], "1.1.1.1,2.2.2.2,9.9.9.9"),
            (&[""], "9.9.9.9"),
            (&["", "1.1.1.1"], "1.1.1.1,9.9.9.9"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
            }
            append_peer(&mut headers, &HeaderValue::from_static("9.9.9.9"));
            let all: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
            assert_eq!(all, [expected], "{lines:?}");
        }
    }

    #[test]
    fn each_mode_keeps_what_it_says_of_a_certificate() {
        use ForwardClientCert::{AlwaysForwardOnly, AppendForward, ForwardOnly, Sanitize, SanitizeSet};
        let claimed = Some(HeaderValue::from_static("By=a"));
        let shown = HeaderValue::from_static("Hash=b");
        for (policy, without, with) in [
            (SanitizeSet, None, Some("Hash=b")),
            (Sanitize, None, None),
            (ForwardOnly, None, Some("By=a")),
            (AppendForward, None, Some("By=a,Hash=b")),
            (AlwaysForwardOnly, Some("By=a"), Some("By=a")),
        ] {
            let text =
                |shown| client_certificate(policy, claimed.clone(), shown).map(|v| v.to_str().unwrap().to_owned());
            assert_eq!((text(None).as_deref(), text(Some(&shown)).as_deref()), (without, with), "{policy:?}");
        }
        assert_eq!(client_certificate(AppendForward, None, Some(&shown)), Some(shown));
    }
}
