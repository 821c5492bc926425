//! Envoy's attributes that filters read with `get_property`: request, response, source, destination, connection,
//! upstream, route and cluster names. Semantics: Envoy's attribute reference; numbers as 8 little-endian bytes.

use http::HeaderMap;
use portolan_wasm::StreamParts;

use crate::context::StreamContext;

/// Appends the value of a property to `out`; false when it is unknown or absent now.
pub(crate) fn write(context: &StreamContext, path: &[u8], parts: StreamParts<'_>, out: &mut Vec<u8>) -> bool {
    let mut names = path.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    let (Some(family), name) = (names.next(), names.next().unwrap_or_default()) else { return false };
    let key = names.next();
    match family {
        b"request" => request(context, name, key, parts, out),
        b"response" => response(context, name, key, parts, out),
        b"source" => address(&context.connection.peer, name, out),
        b"destination" => address(&context.connection.local, name, out),
        b"connection" => connection(context, name, out),
        b"connection_id" => number(context.connection.id, out),
        b"upstream" => match &context.endpoint {
            Some(endpoint) => address(&endpoint.address, name, out),
            None => false,
        },
        b"xds" => names_of_configuration(context, name, out),
        b"route_name" | b"cluster_name" => names_of_configuration(context, family, out),
        _ => false,
    }
}

fn request(
    context: &StreamContext,
    name: &[u8],
    key: Option<&[u8]>,
    parts: StreamParts<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let head = parts.request;
    let header = |name: &str, out: &mut Vec<u8>| header(&head.headers, name.as_bytes(), out);
    match name {
        b"path" => text(head.uri.path_and_query().map_or("/", |p| p.as_str()), out),
        b"url_path" => text(head.uri.path(), out),
        b"query" => text(head.uri.query().unwrap_or_default(), out),
        b"host" => header("host", out),
        b"scheme" => text(parts.scheme, out),
        b"method" => text(head.method.as_str(), out),
        b"headers" => key.is_some_and(|key| self::header(&head.headers, key, out)),
        b"referer" => header("referer", out),
        b"useragent" => header("user-agent", out),
        b"id" => header("x-request-id", out),
        b"protocol" => text(if head.version == http::Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" }, out),
        b"attempt_count" => number(u64::from(context.attempts), out),
        _ => false,
    }
}

fn response(
    context: &StreamContext,
    name: &[u8],
    key: Option<&[u8]>,
    parts: StreamParts<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(head) = parts.response else { return false };
    match name {
        b"code" => number(u64::from(head.status.as_u16()), out),
        b"code_details" => !context.details.is_empty() && text(&context.details, out),
        b"flags" => number(u64::from(context.flags.bits()), out),
        b"headers" => key.is_some_and(|key| header(&head.headers, key, out)),
        _ => false,
    }
}

fn connection(context: &StreamContext, name: &[u8], out: &mut Vec<u8>) -> bool {
    match name {
        b"id" => number(context.connection.id, out),
        b"mtls" => {
            out.push(0);
            true
        }
        _ => false,
    }
}

fn names_of_configuration(context: &StreamContext, name: &[u8], out: &mut Vec<u8>) -> bool {
    match name {
        b"route_name" => match context.route {
            Some(id) => text(&context.snapshot.routes[id as usize].name, out),
            None => false,
        },
        b"cluster_name" => match context.choice.and_then(|choice| context.snapshot.cluster(choice.cluster)) {
            Some(cluster) => text(&cluster.state.name, out),
            None => false,
        },
        _ => false,
    }
}

fn address(address: &std::net::SocketAddr, name: &[u8], out: &mut Vec<u8>) -> bool {
    match name {
        b"address" => text(&address.to_string(), out),
        b"port" => number(u64::from(address.port()), out),
        _ => false,
    }
}

fn header(headers: &HeaderMap, name: &[u8], out: &mut Vec<u8>) -> bool {
    let name = http::HeaderName::from_bytes(name);
    let value = name.ok().and_then(|name| headers.get(name));
    value.map(|value| out.extend_from_slice(value.as_bytes())).is_some()
}

fn text(value: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(value.as_bytes());
    true
}

fn number(value: u64, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(&value.to_le_bytes());
    true
}
