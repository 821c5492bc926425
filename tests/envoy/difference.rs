//! What may differ between the two hosts whatever the filter does, in one place, and how the rest is compared.

use crate::support::client::Response;
use crate::support::upstream::Seen;

/// Headers of which neither presence nor value is compared.
const NOT_COMPARED: &[(&str, &str)] = &[
    ("connection", "framing is each host's own"),
    ("content-length", "framing: a host may send chunks instead"),
    ("x-envoy-external-address", "Envoy tells it of clients from outside, Portolan does not"),
    ("x-envoy-expected-rq-timeout-ms", "Envoy tells services that filters ask how long it waits"),
    ("x-envoy-internal", "the same: of a request of its own"),
    ("transfer-encoding", "framing: a host may send a length instead"),
];

/// Headers that both must have or lack, with any value.
const ANY_VALUE: &[(&str, &str)] = &[
    ("date", "the second may end between the two"),
    ("host", "requests to services that a filter asks may go to an address"),
    ("x-envoy-upstream-service-time", "milliseconds"),
    ("x-forwarded-for", "for clients on the loopback Envoy writes its own address"),
    ("x-request-id", "random"),
];

/// A message with what may differ taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparable {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Comparable {
    /// What a client got. The headers of `varying` may have any value.
    pub(crate) fn response(response: &Response, varying: &[&str]) -> Self {
        Self::new(&response.status.to_string(), &response.headers, &response.body, varying)
    }

    /// What an upstream saw.
    pub(crate) fn request(seen: &Seen, varying: &[&str]) -> Self {
        Self::new(&seen.line, &seen.headers, &seen.body, varying)
    }

    fn new(line: &str, headers: &[(String, String)], body: &[u8], varying: &[&str]) -> Self {
        let named = |list: &[(&str, &str)], name: &str| list.iter().any(|(known, _)| *known == name);
        let compared = headers.iter().filter(|(name, _)| !named(NOT_COMPARED, name));
        let mut headers: Vec<_> = compared
            .map(|(name, value)| match named(ANY_VALUE, name) || varying.contains(&name.as_str()) {
                true => (name.clone(), "(any)".to_owned()),
                false => (name.clone(), value.clone()),
            })
            .collect();
        // The order of names is nobody's promise, that of one name's values is.
        headers.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self { line: line.to_owned(), headers, body: body.to_vec() }
    }

    /// One line for each thing that differs: what Envoy has, what Portolan has. Empty when they are the same.
    pub(crate) fn differences(envoy: &Self, portolan: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut tell = |host: &str, what: String| lines.push(format!("only {host}: {what}"));
        if envoy.line != portolan.line {
            tell("envoy", envoy.line.clone());
            tell("portolan", portolan.line.clone());
        }
        for (host, own, other) in [("envoy", envoy, portolan), ("portolan", portolan, envoy)] {
            let mut rest = other.headers.clone();
            for header in &own.headers {
                match rest.iter().position(|known| known == header) {
                    Some(at) => drop(rest.remove(at)),
                    None => tell(host, format!("{}: {}", header.0, header.1)),
                }
            }
            if own.body != other.body {
                tell(host, format!("body {:?}", String::from_utf8_lossy(&own.body[..own.body.len().min(500)])));
            }
        }
        if lines.is_empty() && envoy.headers != portolan.headers {
            lines.push(format!("order: envoy {:?}, portolan {:?}", envoy.headers, portolan.headers));
        }
        lines
    }
}
