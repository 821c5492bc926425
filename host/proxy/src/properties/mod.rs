//! Envoy's attributes that filters read with `get_property`, one file for each family. Semantics: Envoy's attribute
//! reference, and what was measured where that is silent; numbers, times and durations as 8 little-endian bytes.

mod configuration;
mod connection;
pub(crate) mod course;
mod message;
mod request;
mod response;
mod upstream;

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use portolan_telemetry::UpstreamAddress;
use portolan_wasm::StreamParts;

pub(crate) use connection::{Certificate, ConnectionState, TlsInfo};
pub(crate) use course::Course;

use crate::context::StreamContext;

/// Appends the value of a property to `out`; false when it is unknown or absent now.
pub(crate) fn write(context: &StreamContext, path: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
    let mut names = path.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    let (Some(family), name) = (names.next(), names.next().unwrap_or_default()) else { return false };
    let key = names.next();
    match family {
        b"request" => request::write(context, name, key, parts, out),
        b"response" => response::write(context, name, key, parts, out),
        b"source" => address(&context.remote(), name, out),
        b"destination" => address(&context.connection.local, name, out),
        b"connection" => connection::write(&context.connection, name, out),
        b"connection_id" => number(context.connection.id, out),
        b"upstream" => upstream::write(context, name, out),
        b"xds" => configuration::write(context, name, &rest(path, 2), out),
        // Old names, and a shorter one of Higress's: filters still read them, though Envoy knows them no more.
        b"route_name"
        | b"route_metadata"
        | b"cluster_name"
        | b"cluster_metadata"
        | b"listener_direction"
        | b"listener_metadata"
        | b"upstream_host_metadata"
        | b"node" => configuration::write(context, family, &rest(path, 1), out),
        b"x_request_id" => request::write(context, b"id", None, parts, out),
        // Nothing here sets dynamic metadata: the message is there, and empty.
        b"metadata" => name.is_empty(),
        _ => context.connection.state.property(path, out),
    }
}

/// The same for a root context, which has no stream.
pub(crate) fn write_without_stream(path: &[u8], out: &mut Vec<u8>) -> bool {
    match path.strip_prefix(b"xds\0").unwrap_or(path) {
        b"node" => configuration::node(&[], out),
        path => match path.strip_prefix(b"node\0") {
            Some(field) => configuration::node(&rest(field, 0), out),
            None => false,
        },
    }
}

/// The parts of a path after the first ones.
fn rest(path: &[u8], skip: usize) -> Vec<&[u8]> {
    path.split(|byte| *byte == 0).filter(|part| !part.is_empty()).skip(skip).collect()
}

fn address(address: &SocketAddr, name: &[u8], out: &mut Vec<u8>) -> bool {
    match name {
        b"address" => text(&address.to_string(), out),
        b"port" => number(u64::from(address.port()), out),
        _ => false,
    }
}

/// A Unix socket has a path, and no port.
fn upstream_address(of: UpstreamAddress, name: &[u8], out: &mut Vec<u8>) -> bool {
    match of {
        UpstreamAddress::Socket(of) => address(&of, name, out),
        UpstreamAddress::Pipe(path) => name == b"address" && text(path, out),
    }
}

fn header(headers: &HeaderMap, name: &[u8], out: &mut Vec<u8>) -> bool {
    let name = http::HeaderName::from_bytes(name);
    let value = name.ok().and_then(|name| headers.get(name));
    value.map(|value| out.extend_from_slice(value.as_bytes())).is_some()
}

/// Bytes of names and values.
fn header_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn text(value: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value.as_bytes());
    true
}

fn number(value: u64, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&value.to_le_bytes());
    true
}

fn duration(value: Option<Duration>, out: &mut Vec<u8>) -> bool {
    value.is_some_and(|value| number(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX), out))
}
