//! Going on, closing, and answering: `continue_stream`, `close_stream`, `send_local_response`, and 0.1.0's
//! `continue_request`, `continue_response`, `clear_route_cache`.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::ENV;
use crate::abi::{Status, StreamKind, pairs};
use crate::context::{Direction, Phase};
use crate::guest::{Answer, bytes, serve};
use crate::headers;
use crate::host_state::HostState;
use crate::stream::{LocalReply, Resumed, StreamHost};

/// Longest details of a local reply, in characters.
const MAX_DETAILS: usize = 256;

pub(super) fn link<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    link_resume(linker)?;
    linker.func_wrap(
        ENV,
        "proxy_send_local_response",
        |mut caller: Caller<'_, HostState<H>>,
         code: u32,
         details: u32,
         dl: u32,
         body: u32,
         bl: u32,
         headers: u32,
         hl: u32,
         grpc_status: i32| {
            serve(&mut caller, |memory, state| {
                let list = pairs::decode(bytes(memory, headers, hl)?).ok_or(Status::BadArgument)?;
                let reply = LocalReply {
                    status: headers::reply_status(code)?,
                    details: clean_details(bytes(memory, details, dl)?),
                    body: Bytes::copy_from_slice(bytes(memory, body, bl)?),
                    headers: headers::reply_headers(&list)?,
                    grpc_status: u32::try_from(grpc_status).ok(),
                };
                send(state, reply)
            })
        },
    )?;
    Ok(())
}

fn link_resume<H: StreamHost>(linker: &mut Linker<HostState<H>>) -> wasmtime::Result<()> {
    linker.func_wrap(ENV, "proxy_continue_stream", |mut caller: Caller<'_, HostState<H>>, kind: u32| {
        serve(&mut caller, |_, state| resume(state, StreamKind::new(kind), false))
    })?;
    linker.func_wrap(ENV, "proxy_close_stream", |mut caller: Caller<'_, HostState<H>>, kind: u32| {
        serve(&mut caller, |_, state| resume(state, StreamKind::new(kind), true))
    })?;
    linker.func_wrap(ENV, "proxy_continue_request", |mut caller: Caller<'_, HostState<H>>| {
        serve(&mut caller, |_, state| resume(state, Some(StreamKind::Request), false))
    })?;
    linker.func_wrap(ENV, "proxy_continue_response", |mut caller: Caller<'_, HostState<H>>| {
        serve(&mut caller, |_, state| resume(state, Some(StreamKind::Response), false))
    })?;
    linker.func_wrap(ENV, "proxy_clear_route_cache", |mut caller: Caller<'_, HostState<H>>| {
        serve(&mut caller, |_, state| {
            state.stream_mut().ok_or(Status::BadArgument)?.route_cleared = true;
            Ok(())
        })
    })?;
    Ok(())
}

/// Notes that a direction may go on, or that the stream is to be closed. Resuming what no callback holds changes
/// nothing, as in Envoy. A connection goes on in its directions too, which Envoy answers with BAD_ARGUMENT.
fn resume<H>(state: &mut HostState<H>, kind: Option<StreamKind>, close: bool) -> Answer {
    let (direction, of_connection) = match kind.ok_or(Status::BadArgument)? {
        StreamKind::Request => (Direction::Request, false),
        StreamKind::Response => (Direction::Response, false),
        StreamKind::Downstream => (Direction::Request, true),
        StreamKind::Upstream => (Direction::Response, true),
    };
    if state.stream().is_none_or(|stream| stream.is_connection != of_connection) {
        return Err(Status::BadArgument);
    }
    let holds = state.effective == state.current || state.contexts.held(state.effective, direction).is_some();
    if holds && !close {
        let phase = state.phase_of(direction);
        state.contexts.hold(state.effective, phase, false);
    }
    let stream = state.stream_mut().ok_or(Status::BadArgument)?;
    stream.resumed.add(Resumed {
        request: holds && !close && direction == Direction::Request,
        response: holds && !close && direction == Direction::Response,
        close,
    });
    Ok(())
}

/// Keeps the reply for the proxy; the first of several wins. Too late when the stream ends.
fn send<H>(state: &mut HostState<H>, reply: LocalReply) -> Answer {
    if state.effective == state.current && matches!(state.phase, Phase::Other | Phase::Foreign | Phase::End) {
        return Err(Status::BadArgument);
    }
    let stream = state.stream_mut().filter(|stream| !stream.is_connection).ok_or(Status::BadArgument)?;
    stream.local_reply.get_or_insert(reply);
    Ok(())
}

/// Details go into an access log whose fields are parted by blanks.
fn clean_details(details: &[u8]) -> String {
    let clean = |c: char| if c.is_whitespace() || c.is_control() { '_' } else { c };
    String::from_utf8_lossy(details).chars().take(MAX_DETAILS).map(clean).collect()
}
