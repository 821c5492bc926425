//! `grpc_call`, `grpc_stream`, `grpc_send`, `grpc_close`, `grpc_cancel`.
//!
//! The upstream is the name of a cluster, `HOST:PORT`, or a serialised `GrpcService`. After Envoy: PARSE_FAILURE for text
//! that is none of these, INTERNAL_FAILURE for a message that names an unknown cluster; ids of another kind are
//! BAD_ARGUMENT, unknown ones NOT_FOUND. A message that wants TLS is UNIMPLEMENTED.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::uri::{Authority, PathAndQuery};
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{Status, pairs};
use crate::call_head;
use crate::callout::{Callout, GrpcCall, MAX_GRPC_MESSAGE, Upstream, timeout};
use crate::callouts::Kind;
use crate::grpc_service::GrpcService;
use crate::guest::{bytes, serve, write_u32};
use crate::host_state::HostState;
use crate::shared::Shared;
use crate::stream::StreamHost;

/// Metadata that gRPC itself writes.
const RESERVED: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::HOST,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-accept-encoding"),
];

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    link_call(linker)?;
    link_stream(linker)?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_send",
        |mut caller: Caller<'_, HostState<H>>, id: u32, message: u32, length: u32, end: u32| {
            serve(&mut caller, |memory, state| {
                state.asks = true;
                state.callouts.grpc_send(id, bytes(memory, message, length)?, end != 0)
            })
        },
    )?;
    linker.func_wrap(ENV, "proxy_grpc_close", |mut caller: Caller<'_, HostState<H>>, id: u32| {
        serve(&mut caller, |_, state| {
            state.asks = true;
            state.callouts.grpc_close(id)
        })
    })?;
    linker.func_wrap(ENV, "proxy_grpc_cancel", |mut caller: Caller<'_, HostState<H>>, id: u32| {
        serve(&mut caller, |_, state| {
            state.asks = true;
            state.callouts.grpc_cancel(id)
        })
    })?;
    Ok(())
}

fn link_call<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_grpc_call",
        |mut caller: Caller<'_, HostState<H>>,
         upstream: u32,
         ul: u32,
         service: u32,
         sl: u32,
         method: u32,
         ml: u32,
         metadata: u32,
         mdl: u32,
         message: u32,
         msgl: u32,
         timeout_ms: u32,
         out: u32| {
            serve(&mut caller, |memory, state| {
                bytes(memory, out, 4)?;
                let asked = Asked {
                    upstream: bytes(memory, upstream, ul)?,
                    service: bytes(memory, service, sl)?,
                    method: bytes(memory, method, ml)?,
                    metadata: bytes(memory, metadata, mdl)?,
                    call: Some((bytes(memory, message, msgl)?, timeout_ms)),
                };
                let id = open(state, &asked)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    Ok(())
}

fn link_stream<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_grpc_stream",
        |mut caller: Caller<'_, HostState<H>>,
         upstream: u32,
         ul: u32,
         service: u32,
         sl: u32,
         method: u32,
         ml: u32,
         metadata: u32,
         mdl: u32,
         out: u32| {
            serve(&mut caller, |memory, state| {
                bytes(memory, out, 4)?;
                let asked = Asked {
                    upstream: bytes(memory, upstream, ul)?,
                    service: bytes(memory, service, sl)?,
                    method: bytes(memory, method, ml)?,
                    metadata: bytes(memory, metadata, mdl)?,
                    call: None,
                };
                let id = open(state, &asked)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    Ok(())
}

/// The guest's arguments.
struct Asked<'a> {
    upstream: &'a [u8],
    service: &'a [u8],
    method: &'a [u8],
    metadata: &'a [u8],
    /// The message of a call and its timeout in milliseconds; none for a stream.
    call: Option<(&'a [u8], u32)>,
}

fn open<H>(state: &mut HostState<H>, asked: &Asked<'_>) -> Result<u32, Status> {
    let (upstream, authority) = find(&state.shared, asked.upstream)?;
    let pairs = pairs::decode(asked.metadata).ok_or(Status::BadArgument)?;
    let metadata = metadata(&pairs)?;
    let path = path(asked.service, asked.method).ok_or(Status::BadArgument)?;
    let (kind, message) = match asked.call {
        Some((message, _)) => (Kind::GrpcCall, message),
        None => (Kind::GrpcStream, &[][..]),
    };
    if message.len() > MAX_GRPC_MESSAGE {
        return Err(Status::InternalFailure);
    }
    let size = message.len() + call_head::size(&pairs) + path.as_str().len();
    let (id, held) = state.callouts.open(kind, size, state.settings.limits.callouts_in_flight)?;
    state.ask(Callout::Grpc(GrpcCall {
        id,
        upstream,
        authority,
        path,
        metadata,
        message: asked.call.map(|(message, _)| Bytes::copy_from_slice(message)),
        timeout: asked.call.map(|(_, ms)| timeout(ms)),
        held,
    }));
    Ok(id)
}

/// The upstream that a guest names, and its authority when it names one.
fn find(shared: &Shared, name: &[u8]) -> Result<(Upstream, Option<Authority>), Status> {
    let text = std::str::from_utf8(name).ok();
    if let Some(upstream) = text.and_then(|name| shared.upstream(name)) {
        return Ok((upstream, None));
    }
    let service = GrpcService::decode(name).ok_or(Status::ParseFailure)?;
    if service.needs_tls {
        return Err(Status::Unimplemented);
    }
    let authority = service.authority.map(Authority::try_from).transpose().map_err(|_| Status::BadArgument)?;
    let upstream = shared.upstream(&service.target).ok_or(Status::InternalFailure)?;
    Ok((upstream, authority))
}

fn metadata(pairs: &[crate::headers::Pair<'_>]) -> Result<HeaderMap, Status> {
    let mut map = call_head::fields(pairs)?;
    for name in RESERVED {
        map.remove(name);
    }
    Ok(map)
}

/// `/SERVICE/METHOD`: neither holds a `/`, and both are visible ASCII.
fn path(service: &[u8], method: &[u8]) -> Option<PathAndQuery> {
    let plain =
        |name: &[u8]| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
    let path = [b"/", service, b"/", method].concat();
    (plain(service) && plain(method)).then(|| PathAndQuery::try_from(path).ok()).flatten()
}
