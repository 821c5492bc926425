//! `http_call`: a request to another host; its answer comes by `on_http_call_response`.
//!
//! May be called in every callback. The host sends it when the callback has ended; calls of the start are sent once a
//! worker has the VM. Answers, after Envoy: OK and an id; BAD_ARGUMENT for an upstream that is neither a cluster nor
//! `HOST:PORT`, for a missing `:method`, `:path` or `:authority` and for text that HTTP forbids; INTERNAL_FAILURE when
//! too many callouts are in flight or hold too much (see [`crate::callout`]).

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{Status, pairs};
use crate::call_head;
use crate::callout::{Callout, HttpCall, MAX_CALL_BODY, timeout};
use crate::callouts::Kind;
use crate::guest::{bytes, serve, write_u32};
use crate::host_state::HostState;
use crate::stream::StreamHost;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_http_call",
        |mut caller: Caller<'_, HostState<H>>,
         upstream: u32,
         ul: u32,
         headers: u32,
         hl: u32,
         body: u32,
         bl: u32,
         trailers: u32,
         tl: u32,
         timeout_ms: u32,
         out: u32| {
            serve(&mut caller, |memory, state| {
                bytes(memory, out, 4)?;
                let request = Asked {
                    upstream: bytes(memory, upstream, ul)?,
                    headers: bytes(memory, headers, hl)?,
                    body: bytes(memory, body, bl)?,
                    trailers: bytes(memory, trailers, tl)?,
                    timeout_ms,
                };
                let id = call(state, &request)?;
                write_u32(memory, out, id)
            })
        },
    )?;
    Ok(())
}

/// The guest's arguments.
struct Asked<'a> {
    upstream: &'a [u8],
    headers: &'a [u8],
    body: &'a [u8],
    trailers: &'a [u8],
    timeout_ms: u32,
}

fn call<H>(state: &mut HostState<H>, asked: &Asked<'_>) -> Result<u32, Status> {
    let upstream = std::str::from_utf8(asked.upstream).ok().and_then(|name| state.shared.upstream(name));
    let upstream = upstream.ok_or(Status::BadArgument)?;
    let headers = pairs::decode(asked.headers).ok_or(Status::BadArgument)?;
    let trailers = pairs::decode(asked.trailers).ok_or(Status::BadArgument)?;
    let request = call_head::request(&headers)?;
    let trailer_map = call_head::fields(&trailers)?;
    if asked.body.len() > MAX_CALL_BODY {
        return Err(Status::InternalFailure);
    }
    let size = asked.body.len() + call_head::size(&headers) + call_head::size(&trailers);
    let (id, held) = state.callouts.open(Kind::Http, size, state.settings.limits.callouts_in_flight)?;
    state.ask(Callout::Http(HttpCall {
        id,
        upstream,
        request,
        body: Bytes::copy_from_slice(asked.body),
        trailers: trailer_map,
        timeout: timeout(asked.timeout_ms),
        held,
    }));
    Ok(id)
}
