//! [`HashInput`]: the parts of a request that a consistent choice goes by, hashed as Envoy hashes them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, request};
use portolan_model::{Cluster, Forward, HashCookie, HashPolicy};
use xxhash_rust::xxh64::xxh64;

use crate::context::StreamContext;

/// One part of a request.
pub(crate) enum HashInput {
    Header(HeaderName),
    /// `:path`, with the query.
    Target,
    /// `:method`.
    Method,
    Cookie(HashCookie),
    SourceIp,
    Query(String),
}

/// A request's hash.
#[derive(Default)]
pub(crate) struct Hashed {
    /// None when the request has none of the parts: then any endpoint is as good.
    pub(crate) hash: Option<u64>,
    /// `set-cookie` values of cookies that were made for the hash.
    pub(crate) cookies: Vec<HeaderValue>,
}

impl HashInput {
    /// The hash policies of a route's clusters, in the order of its destinations.
    pub(crate) fn of(forward: &Forward, clusters: &[Cluster]) -> Vec<Self> {
        let destinations = forward.destinations.iter();
        let policies = destinations.filter_map(|d| clusters.get(d.cluster as usize)?.hash_policy.as_ref());
        policies.filter_map(Self::compile).collect()
    }

    /// None for a name that no header can have.
    fn compile(policy: &HashPolicy) -> Option<Self> {
        Some(match policy {
            HashPolicy::Header(name) if name == ":authority" => Self::Header(HOST),
            HashPolicy::Header(name) if name == ":path" => Self::Target,
            HashPolicy::Header(name) if name == ":method" => Self::Method,
            HashPolicy::Header(name) => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            HashPolicy::Cookie(cookie) => Self::Cookie(cookie.clone()),
            HashPolicy::SourceIp => Self::SourceIp,
            HashPolicy::QueryParameter(name) => Self::Query(name.clone()),
        })
    }
}

impl Hashed {
    /// Several inputs are folded into one hash, so that equal ones do not cancel each other out.
    pub(crate) fn of(inputs: &[HashInput], request: &request::Parts, context: &StreamContext) -> Self {
        let mut hashed = Self::default();
        for input in inputs {
            let new = match input {
                HashInput::Header(name) => of_header(&request.headers, name),
                HashInput::Target => request.uri.path_and_query().map(|target| xxh64(target.as_str().as_bytes(), 0)),
                HashInput::Method => Some(xxh64(request.method.as_str().as_bytes(), 0)),
                HashInput::Cookie(cookie) => hashed.of_cookie(cookie, &request.headers, context),
                HashInput::SourceIp => Some(of_address(context.remote())),
                HashInput::Query(name) => request.uri.query().and_then(|query| of_query(query, name)),
            };
            if let Some(new) = new {
                hashed.hash = Some(hashed.hash.map_or(0, |old| old.rotate_left(1)) ^ new);
            }
        }
        hashed
    }

    /// A cookie that is absent or empty is made, when it has a time to live. Its value is the same for all requests of a
    /// connection, which may be under way side by side.
    fn of_cookie(&mut self, cookie: &HashCookie, headers: &HeaderMap, context: &StreamContext) -> Option<u64> {
        if let Some(value) = cookie_value(headers, &cookie.name).filter(|value| !value.is_empty()) {
            return Some(xxh64(value, 0));
        }
        let ttl_s = cookie.ttl_s?;
        let addresses = format!("{}{}", context.remote(), context.connection.local);
        let value = format!("{:016x}", xxh64(addresses.as_bytes(), 0));
        self.cookies.extend(HeaderValue::from_str(&set_cookie(cookie, &value, ttl_s)).ok());
        Some(xxh64(value.as_bytes(), 0))
    }
}

/// All values, in an order that does not depend on theirs.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(xxh64(first.as_bytes(), 0)) };
    let mut all: Vec<&[u8]> = [first, second].into_iter().chain(values).map(HeaderValue::as_bytes).collect();
    all.sort_unstable();
    Some(all.into_iter().fold(0, |seed, value| xxh64(value, seed)))
}

/// The address without its port.
pub(crate) fn of_address(peer: SocketAddr) -> u64 {
    let mut text = [0; 48];
    let mut rest = text.as_mut_slice();
    let ip: IpAddr = peer.ip();
    // No address is longer than 45 characters.
    let _ = write!(rest, "{ip}");
    let left = rest.len();
    xxh64(&text[..text.len() - left], 0)
}

/// The first value of the parameter, as it is written.
fn of_query(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| xxh64(value.as_bytes(), 0))
}

/// The first cookie of that name, without the quotes around its value.
fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    let mut named = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let key = pair[..equals].trim_ascii_start();
        (key == name.as_bytes()).then(|| &pair[equals + 1..])
    });
    let value = named.next()?;
    Some(value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value))
}

fn set_cookie(cookie: &HashCookie, value: &str, ttl_s: u64) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if ttl_s != 0 {
        text.push_str(&format!("; Max-Age={ttl_s}"));
    }
    if !cookie.path.is_empty() {
        text.push_str(&format!("; Path={}", cookie.path));
    }
    for (name, value) in &cookie.attributes {
        text.push_str(&format!("; {name}"));
        if !value.is_empty() {
            text.push_str(&format!("={value}"));
        }
    }
    text.push_str("; HttpOnly");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn the_order_of_a_headers_values_does_not_matter_and_one_value_is_hashed_alone() {
        let name = HeaderName::from_static("x-user");
        let hash = |pairs: &[(&'static str, &'static str)]| of_header(&headers(pairs), &name);
        assert_eq!(hash(&[("x-user", "a"), ("x-user", "b")]), hash(&[("x-user", "b"), ("x-user", "a")]));
        assert_eq!(hash(&[("x-user", "a")]), Some(xxh64(b"a", 0)));
        assert_eq!(hash(&[]), None);
    }

    #[test]
    fn the_first_cookie_of_the_name_counts() {
        let value = |text: &'static str| cookie_value(&headers(&[("cookie", text)]), "user").map(<[u8]>::to_vec);
        assert_eq!(value("a=1; user=x; user=y"), Some(b"x".to_vec()));
        assert_eq!(value("user=\"quoted\""), Some(b"quoted".to_vec()));
        assert_eq!(value("superuser=1; b"), None);
    }

    #[test]
    fn the_first_value_of_a_parameter_counts_as_it_is_written() {
        assert_eq!(of_query("a=1&user=x%20y&user=z", "user"), Some(xxh64(b"x%20y", 0)));
        assert_eq!(of_query("user", "user"), Some(xxh64(b"", 0)));
        assert_eq!(of_query("a=1", "user"), None);
    }

    #[test]
    fn an_address_is_hashed_without_its_port() {
        assert_eq!(of_address(SocketAddr::from(([10, 1, 2, 3], 80))), xxh64(b"10.1.2.3", 0));
        assert_eq!(of_address(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 80))), xxh64(b"::1", 0));
    }

    #[test]
    fn a_made_cookie_has_its_attributes_in_envoys_order() {
        let cookie = HashCookie {
            name: "user".to_owned(),
            path: "/shop".to_owned(),
            ttl_s: Some(60),
            attributes: vec![("SameSite".to_owned(), "Lax".to_owned()), ("Secure".to_owned(), String::new())],
        };
        assert_eq!(
            set_cookie(&cookie, "1f", 60),
            "user=\"1f\"; Max-Age=60; Path=/shop; SameSite=Lax; Secure; HttpOnly"
        );
        assert_eq!(
            set_cookie(&HashCookie { path: String::new(), attributes: Vec::new(), ..cookie }, "1f", 0),
            "user=\"1f\"; HttpOnly"
        );
    }
}
